//! The configuration of the etcd nodes: their URLs, and the authentication between a replica and them.

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use std::{fmt, time::Duration};
use zeroize::Zeroizing;

/// The time to connect to a node.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest request on one connection; the callers' own timeouts are shorter.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// The interval of keep-alive pings on a connection with a request in flight. etcd closes a connection
/// that is pinged more often than every 5 s, or while it is idle. So idle connections are not pinged. A
/// request on a dead connection fails over after its own timeout.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

const MAX_SPACE: usize = 64;

/// The configuration of the etcd nodes: their URLs, and the authentication between this replica and them.
///
/// ```
/// use portcullis_etcd::Etcd;
/// let etcd = Etcd::at(["http://127.0.0.1:2379", "http://127.0.0.2:2379"])?.space("keys/")?;
/// # Ok::<(), portcullis_etcd::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Etcd {
    pub(super) urls: Vec<String>,
    pub(super) space: String,
    authority: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    user: Option<(String, Zeroizing<String>)>,
}

impl Etcd {
    /// Sets the client URLs of the nodes. Pass all of them: a replica works as long as one answers.
    pub fn at<S: Into<String>>(urls: impl IntoIterator<Item = S>) -> Result<Self, ConfigError> {
        let urls: Vec<String> =
            urls.into_iter().map(|url| url.into().trim_end_matches('/').to_owned()).collect();
        let is_url = |url: &String| {
            let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            // A password in a URL would be visible in the list of processes.
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '@', '?', '#']))
        };
        if urls.is_empty() || !urls.iter().all(is_url) {
            return Err(ConfigError("give the nodes as http://HOST:PORT or https://HOST:PORT"));
        }
        let encrypted = urls.iter().filter(|url| url.starts_with("https://")).count();
        if encrypted != 0 && encrypted != urls.len() {
            return Err(ConfigError("give all nodes by https or none"));
        }
        Ok(Self { urls, space: "portcullis/".into(), authority: None, identity: None, user: None })
    }

    /// Sets the prefix of all etcd keys of this store; the default is `portcullis/`. Two stores in one etcd
    /// need two spaces, neither of which is a prefix of the other.
    pub fn space(mut self, space: impl Into<String>) -> Result<Self, ConfigError> {
        let space = space.into();
        let fits = (1..=MAX_SPACE).contains(&space.len())
            && space.bytes().all(|byte| byte.is_ascii_graphic())
            && space.ends_with('/');
        if !fits {
            return Err(ConfigError(
                "a space is at most 64 printable characters, the last of them '/'",
            ));
        }
        self.space = space;
        Ok(self)
    }

    /// Sets the certificate authority (PEM) of nodes with https URLs, which is then the only trusted one.
    /// By default the authorities of the system are trusted.
    #[must_use]
    pub fn authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authority = Some(pem.into());
        self
    }

    /// Sets the certificate and private key (PEM) that this replica presents to the nodes.
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate.into(), Zeroizing::new(key.into())));
        self
    }

    /// Sets the etcd user and password of this replica, where etcd requires authentication.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), Zeroizing::new(password.into())));
        self
    }

    pub(super) fn options(&self) -> Result<ConnectOptions, ConfigError> {
        let encrypted = self.urls.iter().all(|url| url.starts_with("https://"));
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if encrypted {
            options = options.with_tls(self.tls());
        } else if self.authority.is_some() || self.identity.is_some() {
            return Err(ConfigError("certificates need nodes by https; these are given by http"));
        }
        if let Some((name, password)) = &self.user {
            options = options.with_user(name.as_str(), password.as_str());
        }
        Ok(options)
    }

    /// A private authority is trusted alone. Public authorities, which certify any host, would weaken it.
    fn tls(&self) -> TlsOptions {
        let tls = match &self.authority {
            Some(authority) => TlsOptions::new().ca_certificate(Certificate::from_pem(authority)),
            None => TlsOptions::new().with_native_roots(),
        };
        match &self.identity {
            Some((certificate, key)) => {
                tls.identity(Identity::from_pem(certificate, key.as_slice()))
            }
            None => tls,
        }
    }
}

/// Why a configuration cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(&'static str);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd: {}", self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Without the password and the private key.
impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("urls", &self.urls)
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}
