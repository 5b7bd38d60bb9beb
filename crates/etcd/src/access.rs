//! Where the etcd nodes are, and how a replica and they know each other.

use crate::error::{Error, Field};
use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use std::{fmt, time::Duration};
use zeroize::Zeroizing;

/// A node that takes no connection in this time is passed over.
const CONNECT: Duration = Duration::from_millis(500);
/// Nothing takes longer than this on one connection; the callers' own patience is shorter.
const REQUEST: Duration = Duration::from_secs(15);
/// A connection with a request under way is asked for life this often. etcd closes one that asks
/// more often than each 5 s, and one that asks while it is idle, so an idle one is not asked: what
/// is sent on a dead one fails over by its own time-out.
const PING: Duration = Duration::from_secs(6);
const PING_ANSWER: Duration = Duration::from_secs(2);

const LONGEST_SPACE: usize = 64;

/// Where the etcd nodes of a cluster are, and how this replica and they know each other.
///
/// ```
/// use portcullis::cluster::Etcd;
/// let etcd = Etcd::at(["http://127.0.0.1:2379", "http://127.0.0.2:2379"])?.space("keys/")?;
/// # Ok::<(), portcullis::Error>(())
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
    /// The nodes by their client URLs; all of them, since a replica goes on as long as one answers.
    pub fn at<S: Into<String>>(urls: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let urls: Vec<String> =
            urls.into_iter().map(|url| url.into().trim_end_matches('/').to_owned()).collect();
        let is_url = |url: &String| {
            let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            // A user in a URL would be a password in the process list.
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '@', '?', '#']))
        };
        if urls.is_empty() || !urls.iter().all(is_url) {
            return Err(Error::invalid(
                Field::Etcd,
                "give the nodes as http://HOST:PORT or https://HOST:PORT",
            ));
        }
        let encrypted = urls.iter().filter(|url| url.starts_with("https://")).count();
        if encrypted != 0 && encrypted != urls.len() {
            return Err(Error::invalid(Field::Etcd, "give all nodes by https or none"));
        }
        Ok(Self { urls, space: "portcullis/".into(), authority: None, identity: None, user: None })
    }

    /// What every key of this store in etcd begins with: `portcullis/` unless it is said. Two stores in
    /// one etcd have two spaces, neither of which begins with the other.
    pub fn space(mut self, space: impl Into<String>) -> Result<Self, Error> {
        let space = space.into();
        let fits = (1..=LONGEST_SPACE).contains(&space.len())
            && space.bytes().all(|byte| byte.is_ascii_graphic())
            && space.ends_with('/');
        if !fits {
            return Err(Error::invalid(
                Field::Etcd,
                "a space is at most 64 printable characters, the last of them '/'",
            ));
        }
        self.space = space;
        Ok(self)
    }

    /// The authority (PEM) that vouches for nodes given by https, and the only one that then does.
    /// Without it those do that the system trusts.
    #[must_use]
    pub fn authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authority = Some(pem.into());
        self
    }

    /// The certificate and private key (PEM) by which the nodes know this replica.
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate.into(), Zeroizing::new(key.into())));
        self
    }

    /// The etcd user that this replica is, where etcd asks for one.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), Zeroizing::new(password.into())));
        self
    }

    pub(super) fn options(&self) -> Result<ConnectOptions, Error> {
        let encrypted = self.urls.iter().all(|url| url.starts_with("https://"));
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT)
            .with_timeout(REQUEST)
            .with_keep_alive(PING, PING_ANSWER)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if encrypted {
            options = options.with_tls(self.tls());
        } else if self.authority.is_some() || self.identity.is_some() {
            return Err(Error::invalid(
                Field::Etcd,
                "certificates need nodes by https; these are given by http",
            ));
        }
        if let Some((name, password)) = &self.user {
            options = options.with_user(name.as_str(), password.as_str());
        }
        Ok(options)
    }

    /// A private authority is trusted alone: one that anybody can buy from would weaken it.
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

/// Without the password and the private key.
impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("urls", &self.urls)
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}
