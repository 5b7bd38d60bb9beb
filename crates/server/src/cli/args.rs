//! The definition of the command line.

use super::{
    apply_args::Apply,
    import_rows::Preset,
    key_args::KeyCommand,
    location::Location,
    values::{address, drain_delay, moment, seconds},
};
use clap::{ArgAction, Args, Parser, Subcommand, value_parser};
use portcullis::{Credentials, KeyHeader, Network};
use portcullis_admin::Origin;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
};
use tracing::level_filters::LevelFilter;

/// Issue API keys, check them, and revoke one at once.
#[derive(Parser)]
#[command(
    name = "portcullis",
    version,
    after_help = "Exit codes: 0 done, 1 failure, 2 usage, 3 invalid key, 4 the key lacks a scope, \
                  something is wrong with a store or its audit log, or a store differs from a file, 5 the store is locked or its server unreachable."
)]
pub(crate) struct Arguments {
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) location: Location,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create a store and its first root key.
    ///
    /// The root key is shown once.
    Init(Init),
    /// Serve the portal and the API over HTTPS.
    Serve(Serve),
    /// Create, list, change and revoke keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// List the scopes that a key can have, add one or hide one.
    #[command(args_conflicts_with_subcommands = true)]
    Scopes {
        #[command(subcommand)]
        command: Option<ScopesCommand>,
        #[command(flatten)]
        list: ListScopes,
    },
    /// Show how long keys may live, or set it.
    Policy {
        #[command(subcommand)]
        command: Option<super::policy::PolicyCommand>,
    },
    /// Check a key, which is read from standard input.
    Verify(Verify),
    /// Print, verify, export or prune the audit log.
    ///
    /// Prints the oldest entry first; with --json, one entry per line.
    Audit(Audit),
    /// Move keys into etcd and back, and list the replicas.
    #[command(subcommand, hide = super::etcd::HIDDEN)]
    Cluster(super::etcd::ClusterCommand),
    /// Examine a store without changing it, or repair it into a new one.
    ///
    /// While a server has the store open, the server's state and its audit log are examined.
    Doctor(Doctor),
    /// Write a complete backup, also while the store is served.
    Backup(Backup),
    /// Create a store from a backup.
    ///
    /// Keys that were revoked after the backup stay revoked.
    Restore(Restore),
    /// Print all keys as lines of JSON, for other programs.
    ///
    /// This is no backup: it cannot be restored.
    Export {
        /// Add the digest of each key and its algorithm, for a move to another system.
        #[arg(long)]
        digests: bool,
    },
    /// Import the keys of another system from lines of JSON.
    ///
    /// Without --apply the command only reports what it would do.
    Import(Import),
    /// Create the keys that a file declares, and report how the other keys differ from it.
    ///
    /// Without --yes the command only prints the plan. The exit code is 4 if the store differs from the file.
    Apply(Apply),
    /// Print the completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory.
    Man {
        /// The directory, which is created if it is absent.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Args)]
pub(crate) struct Import {
    /// The file, with one JSON object a line.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The system that the rows are from.
    #[arg(long, value_name = "SYSTEM", default_value = "plain")]
    pub(crate) preset: Preset,
    /// A scope of all imported keys, instead of those in the file; may be repeated.
    #[arg(long = "scope", value_name = "SCOPE", action = ArgAction::Append, value_delimiter = ',')]
    pub(crate) scopes: Vec<String>,
    /// Import the keys. Lines that are refused are reported, and the others are imported.
    #[arg(long)]
    pub(crate) apply: bool,
    /// Import keys of this store's form although the audit log was pruned: a key that was deleted before could
    /// come back.
    #[arg(long)]
    pub(crate) accept_pruned_log: bool,
}

#[derive(Subcommand)]
pub(crate) enum ScopesCommand {
    /// List the scopes that a key can have.
    List(ListScopes),
    /// Add a scope, describe it again, or offer a hidden one again.
    Add {
        /// The name: lower-case words joined by dots, such as ledger.close.
        #[arg(value_name = "NAME")]
        name: String,
        /// The acts that the scope allows, in one line.
        #[arg(value_name = "DESCRIPTION")]
        description: String,
    },
    /// Hide a scope: keys keep it, and other keys cannot get it.
    Hide {
        /// The name.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct ListScopes {
    /// Also list hidden scopes.
    #[arg(long)]
    pub(crate) hidden: bool,
}

#[derive(Args)]
pub(crate) struct Init {
    /// Write the root key to this new file, closed to other users, instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The prefix of every key.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// Scopes in addition to those for key management: names of your own, or the preset
    /// financial-data; may be repeated. More can be added later (scopes add).
    #[arg(long, alias = "scope", value_name = "NAMES", action = ArgAction::Append, value_delimiter = ',')]
    pub(crate) scopes: Vec<String>,
}

impl Serve {
    /// Returns the credentials that a request may have.
    pub(crate) fn credentials(&self) -> Credentials {
        let mut credentials = Credentials::basic();
        if self.accept_bearer {
            credentials = credentials.with_bearer();
        }
        match &self.key_header {
            Some(header) => credentials.with_header(header.clone()),
            None => credentials,
        }
    }
}

#[derive(Args)]
pub(crate) struct Serve {
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address, default_value = "127.0.0.1:8443")]
    pub(crate) listen: SocketAddr,
    /// The certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve plain HTTP to a proxy that speaks TLS to the clients; on loopback only, unless
    /// --trusted-proxy names the proxy.
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    pub(crate) behind_proxy: bool,
    /// A proxy whose X-Forwarded-For header is trusted, as an address or a range; may be repeated.
    /// An IPv4 address that is mapped to IPv6 means that IPv4 address.
    #[arg(long = "trusted-proxy", value_name = "ADDRESS[/BITS]", action = ArgAction::Append)]
    pub(crate) trusted_proxies: Vec<Network>,
    /// Serve metrics for Prometheus on this address, by plain HTTP and without a key.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Answer bad keys with 429 after this many from one address, and then one a second; a valid key
    /// is never limited.
    #[arg(long, value_name = "COUNT", default_value = "60")]
    pub(crate) max_bad_keys: NonZeroU32,
    /// Also accept keys as Authorization: Bearer KEY.
    #[arg(long)]
    pub(crate) accept_bearer: bool,
    /// Also accept keys as the value of this header, such as X-API-Key.
    #[arg(long, value_name = "NAME")]
    pub(crate) key_header: Option<KeyHeader>,
    /// Serve at most this many connections at once, and at most half of them for one address.
    #[arg(long, value_name = "COUNT", default_value_t = 900, value_parser = value_parser!(u32).range(1..))]
    pub(crate) max_connections: u32,
    #[command(flatten)]
    pub(crate) leaks: Leaks,
    /// Tell browsers to use only HTTPS for this host for this long (Strict-Transport-Security).
    #[arg(long, value_name = "SECONDS")]
    pub(crate) hsts: Option<u32>,
    /// Before stopping, report "not ready" and still serve for this long, such as 5s; at most 1d.
    #[arg(long, value_name = "DURATION", value_parser = drain_delay, default_value = "0s")]
    pub(crate) drain_delay: u32,
    /// The origin by which browsers reach the portal: https, host and port.
    #[arg(long, value_name = "URL", env = "PORTCULLIS_PUBLIC_ORIGIN")]
    pub(crate) public_origin: Option<Origin>,
    /// How much to log: error, warn, info or debug.
    #[arg(long, value_name = "LEVEL", env = "PORTCULLIS_LOG", default_value = "info")]
    pub(crate) log_level: LevelFilter,
    /// Log as JSON.
    #[arg(long)]
    pub(crate) log_json: bool,
}

/// The options of `serve` for keys that leaked.
#[derive(Args)]
pub(crate) struct Leaks {
    /// Accept signed reports of leaked keys at /v1/leaks, and revoke the keys in them. The file has the
    /// public keys of the scanning service: the response of
    /// <https://api.github.com/meta/public_keys/secret_scanning>. It is read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) leak_keys: Option<PathBuf>,
    /// With --leak-keys: say in the response which reported texts are keys of this store. Every reader of
    /// a signed report can then learn it.
    #[arg(long, requires = "leak_keys")]
    pub(crate) leak_feedback: bool,
    /// Revoke a valid key that a request sends to this server over plain HTTP, after the same response as
    /// to any other. Not more than 10 keys a minute.
    #[arg(long, conflicts_with = "behind_proxy")]
    pub(crate) revoke_exposed: bool,
}

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command")]
pub(crate) struct Audit {
    /// Only the entries about this key: its id key_…, the beginning pcl_… of its text, or its name if no
    /// other key has it.
    #[arg(long, value_name = "ID")]
    pub(crate) key: Option<String>,
    /// Only the acts of this key.
    #[arg(long, value_name = "ID")]
    pub(crate) actor: Option<String>,
    /// Only the entries after this one.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) after: u64,
    /// Continue with each new entry, as soon as it is durable, until the server stops.
    #[arg(long, conflicts_with_all = ["key", "actor", "verify", "export", "prune"])]
    pub(crate) follow: bool,
    /// Verify the hash chain of the whole audit log, or of the named exports. Each export must continue
    /// the one before it.
    #[arg(long, conflicts_with_all = ["key", "actor", "after", "export", "prune"])]
    pub(crate) verify: bool,
    /// With --verify: files that --export wrote, the oldest first.
    #[arg(value_name = "FILE", requires = "verify")]
    pub(crate) files: Vec<PathBuf>,
    /// Write the audit log to this new file, or to standard output (-), as lines of JSON that can be
    /// verified.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "actor", "prune"])]
    pub(crate) export: Option<PathBuf>,
    /// Remove old entries, which cannot be undone; the other entries can still be verified. Export the old
    /// ones first.
    #[arg(long, alias = "cut", conflicts_with_all = ["key", "actor", "after"])]
    pub(crate) prune: bool,
    /// With --prune: confirm it; without this the command asks if it runs on a terminal.
    #[arg(long, requires = "prune")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) age: Age,
}

/// The age of the entries that --prune removes.
#[derive(Args)]
#[group(requires = "prune", multiple = false)]
pub(crate) struct Age {
    /// With --prune: the entries before this moment, such as 2026-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) before: Option<String>,
    /// With --prune: keep the entries of this duration up to now, such as 365d, and remove all older ones.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(crate) keep: Option<u32>,
}

#[derive(Args)]
pub(crate) struct Doctor {
    /// Write every key that is proved intact and current into a new store in this directory, and list
    /// the other keys.
    #[arg(long, value_name = "NEW_DIR")]
    pub(crate) repair: Option<PathBuf>,
    /// With --repair: the prefix of every key, if it cannot be read from the old store.
    #[arg(long, value_name = "PREFIX", requires = "repair")]
    pub(crate) prefix: Option<String>,
    /// The directory for the temporary copy of the database that is examined.
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Backup {
    /// The file to write; - is standard output, which cannot be a terminal.
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// Verify that backup instead: report whether it is complete and unaltered.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Replace an existing backup in that file.
    #[arg(long, conflicts_with = "verify")]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct Restore {
    /// The backup; - is standard input. The new store is created in --data.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) later: Later,
    /// The anchor of the old store, where it is kept elsewhere.
    #[arg(long, value_name = "FILE", requires = "old_data")]
    pub(crate) old_anchor: Option<PathBuf>,
}

/// The evidence of what was revoked after the backup was taken.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Later {
    /// The directory of the old store, which may be damaged if its audit log is intact.
    #[arg(long, alias = "old-data-dir", value_name = "DIR")]
    pub(crate) old_data: Option<PathBuf>,
    /// A file that audit --export wrote, from before the backup on; may be repeated, the oldest first.
    #[arg(long, value_name = "FILE", action = ArgAction::Append)]
    pub(crate) audit: Vec<PathBuf>,
    /// No evidence: keys that were revoked after the backup are valid again.
    #[arg(long)]
    pub(crate) without_later_denials: bool,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// A scope that the key must have; may be repeated.
    #[arg(long = "scope", value_name = "SCOPE", action = ArgAction::Append, value_delimiter = ',')]
    pub(crate) scopes: Vec<String>,
    /// The address that the key came from; without it a key with networks is refused.
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_definition_is_consistent() {
        Arguments::command().debug_assert();
    }
}
