//! The options that name the etcd nodes of a cluster and this replica.

use super::failure::Failure;
#[cfg(feature = "cluster")]
use super::secret_file;
use clap::{ArgAction, Args, Subcommand};
#[cfg(feature = "cluster")]
use portcullis::cluster::Replica;
#[cfg(feature = "cluster")]
use portcullis_etcd::{ConfigError, Etcd, EtcdStore};
use std::path::PathBuf;
#[cfg(feature = "cluster")]
use std::{fs, path::Path, time::Duration};

#[cfg(feature = "cluster")]
const MAX_KEY_BYTES: u64 = 1 << 20;
#[cfg(feature = "cluster")]
const MAX_PASSWORD_BYTES: u64 = 1024;

/// Whether the options are hidden: a program without the feature refuses them, with the remedy.
pub(crate) const HIDDEN: bool = !cfg!(feature = "cluster");

/// The nodes and the credentials for them. Secrets are in files: other users see the arguments of a
/// process.
#[derive(Args, Clone)]
#[command(next_help_heading = "Options of a store in etcd")]
pub(crate) struct Nodes {
    /// The etcd nodes that hold the keys of a cluster; instead of a store in a directory.
    #[arg(
        long = "etcd",
        global = true,
        hide = HIDDEN,
        value_name = "URL[,URL…]",
        env = "PORTCULLIS_ETCD",
        action = ArgAction::Append,
        value_delimiter = ','
    )]
    urls: Vec<String>,
    /// The certificate authority (PEM) of etcd's nodes; without it, those that the system trusts.
    #[arg(
        id = "etcd_ca",
        long = "etcd-ca",
        global = true,
        hide = HIDDEN,
        value_name = "FILE",
        env = "PORTCULLIS_ETCD_CA"
    )]
    ca: Option<PathBuf>,
    /// The client certificate (PEM) of this replica.
    #[arg(
        id = "etcd_cert",
        long = "etcd-cert",
        global = true,
        hide = HIDDEN,
        value_name = "FILE",
        env = "PORTCULLIS_ETCD_CERT"
    )]
    cert: Option<PathBuf>,
    /// That certificate's private key (PEM).
    #[arg(
        id = "etcd_key",
        long = "etcd-key",
        global = true,
        hide = HIDDEN,
        value_name = "FILE",
        env = "PORTCULLIS_ETCD_KEY"
    )]
    key: Option<PathBuf>,
    /// The etcd user of this replica.
    #[arg(
        id = "etcd_user",
        long = "etcd-user",
        global = true,
        hide = HIDDEN,
        value_name = "NAME",
        env = "PORTCULLIS_ETCD_USER"
    )]
    user: Option<String>,
    /// A file with that user's password, closed to other users.
    #[arg(
        id = "etcd_password_file",
        long = "etcd-password-file",
        global = true,
        hide = HIDDEN,
        value_name = "FILE",
        env = "PORTCULLIS_ETCD_PASSWORD_FILE"
    )]
    password_file: Option<PathBuf>,
    /// The prefix of every key of this store in etcd.
    #[arg(
        id = "etcd_space",
        long = "etcd-space",
        global = true,
        hide = HIDDEN,
        value_name = "TEXT",
        env = "PORTCULLIS_ETCD_SPACE",
        default_value = "portcullis/"
    )]
    space: String,
    /// The name of this replica for operators; by default the host name.
    #[arg(
        long = "replica-name",
        alias = "replica",
        global = true,
        hide = HIDDEN,
        value_name = "NAME",
        env = "PORTCULLIS_REPLICA_NAME"
    )]
    replica: Option<String>,
    /// How long this replica may answer after it last reached etcd, such as 3s; at most 60s. A
    /// revocation waits slightly longer for a replica that does not respond.
    #[arg(long, global = true, hide = HIDDEN, value_name = "DURATION", value_parser = super::values::seconds, default_value = "3s")]
    freshness: u32,
}

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Copy a store into etcd, which must hold none; an interrupted import is resumed.
    Import(Import),
    /// Copy a store from etcd into a new directory, which --data names.
    Export,
    /// List the replicas: name, version, freshness, and how far each is behind the newest change.
    Members,
}

#[derive(Args)]
pub(crate) struct Import {
    /// The directory of a store that no server has open, or a backup.
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) from: PathBuf,
}

impl Nodes {
    /// Whether the store is in etcd and not in a directory.
    pub(crate) fn are_given(&self) -> bool {
        !self.urls.is_empty()
    }

    /// Fails with this text if nodes are given, for a command that cannot use them.
    pub(crate) fn refuse_for(&self, text: &str) -> Result<(), Failure> {
        if self.are_given() { Err(Failure::usage(text)) } else { Ok(()) }
    }

    /// Returns the store in etcd that the options name.
    #[cfg(feature = "cluster")]
    pub(crate) fn reach(&self) -> Result<EtcdStore, Failure> {
        let mut etcd = Etcd::at(&self.urls)?.space(&self.space)?;
        if let Some(ca) = &self.ca {
            etcd = etcd.authority(read(ca, "the certificate authority of etcd")?);
        }
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let cert = read(cert, "the certificate for etcd")?;
                let key = secret_file::read(key, "private key for etcd", MAX_KEY_BYTES)?;
                etcd = etcd.identity(cert, key);
            }
            (None, None) => {}
            _ => return Err(Failure::usage("--etcd-cert and --etcd-key go together")),
        }
        match (&self.user, &self.password_file) {
            (Some(user), Some(file)) => {
                let password = secret_file::read(file, "etcd password file", MAX_PASSWORD_BYTES)?;
                let password = String::from_utf8(password).map_err(|_| {
                    Failure::failed("the etcd password is not UTF-8; is it the right file?")
                })?;
                etcd = etcd.user(user, password);
            }
            (None, None) => {}
            _ => return Err(Failure::usage("--etcd-user and --etcd-password-file go together")),
        }
        Ok(EtcdStore::new(&etcd)?)
    }

    /// Returns this replica's options.
    #[cfg(feature = "cluster")]
    pub(crate) fn replica(&self) -> Replica {
        let host_name = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = self.replica.clone().unwrap_or_else(host_name);
        let name = if name.trim().is_empty() { "unnamed" } else { name.trim() };
        Replica::named(name).freshness(Duration::from_secs(self.freshness.into()))
    }

    #[cfg(not(feature = "cluster"))]
    pub(crate) fn refuse(&self) -> Failure {
        let Self { urls, ca, cert, key, user, password_file, space, replica, freshness } = self;
        let _ = (urls, ca, cert, key, user, password_file, space, replica, freshness);
        Failure::usage(
            "this program was built without the feature cluster; install it with: \
             cargo install portcullis-server --features cluster (needs protoc, in Debian's protobuf-compiler)",
        )
    }
}

#[cfg(feature = "cluster")]
impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

#[cfg(feature = "cluster")]
fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(Failure::io(format!("reading {what} in {}", path.display())))
}
