//! The definition of the commands for keys.

use super::{
    bulk_args::BulkCommand,
    filter::Filter,
    values::{YesNo, expiry, metadata_entry, seconds},
};
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use portcullis::{Network, Rate};
use std::path::PathBuf;

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Create a key; only its text is printed to standard output, once.
    Create(Create),
    /// Print the text of a new key that no store has yet, for a file of declared keys (apply).
    Generate(Generate),
    /// List the keys, newest first.
    List(List),
    /// List the active keys that expire soon; the exit code is 4 if there are any.
    Expiring(Expiring),
    /// Do an act on many keys.
    #[command(subcommand)]
    Bulk(BulkCommand),
    /// List the owners, with the numbers of their keys.
    Owners,
    /// Show a key.
    Show(One),
    /// Change a key.
    Update(Update),
    /// Show what a key created, what replaced it, and what it did: for a key that leaked.
    Reach(One),
    /// Revoke a key at once, or every key in a leaked text; an update with --active yes reactivates it.
    Revoke(Revoke),
    /// Replace a key by a new one; only its text is printed to standard output, once.
    Rotate(Rotate),
    /// Delete an inactive key; this cannot be undone.
    Delete(Delete),
    /// Print the rule by which a secret scanner finds the keys of this store.
    ScannerRules(ScannerRules),
}

#[derive(Args)]
pub(crate) struct Generate {
    /// The prefix of the keys of the store.
    #[arg(long, value_name = "PREFIX", default_value = "pcl")]
    pub(crate) prefix: String,
}

#[derive(Args)]
pub(crate) struct ScannerRules {
    /// The scanner: a rule for gitleaks (TOML), or a custom detector for trufflehog (YAML).
    #[arg(value_name = "SCANNER")]
    pub(crate) scanner: Scanner,
}

/// A secret scanner.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scanner {
    Gitleaks,
    Trufflehog,
}

#[derive(Args)]
pub(crate) struct One {
    /// The key: its id key_…, the beginning pcl_… of its text, or its name if no other key has it.
    pub(crate) id: String,
}

#[derive(Args)]
pub(crate) struct Revoke {
    /// The key: its id key_…, the beginning pcl_… of its text, or its name if no other key has it.
    #[arg(required_unless_present = "leaked")]
    pub(crate) id: Option<String>,
    /// Revoke every key of this store whose whole text is in this file, such as a log; - is standard input.
    /// The file may have any length.
    #[arg(long, value_name = "FILE", conflicts_with = "id")]
    pub(crate) leaked: Option<PathBuf>,
    /// With --leaked: show the keys and revoke none.
    #[arg(long, requires = "leaked")]
    pub(crate) dry_run: bool,
    /// Then revoke the keys that it created, and the keys that those created.
    #[arg(long, conflicts_with = "leaked")]
    pub(crate) created: bool,
    /// Then revoke the keys that replaced it.
    #[arg(long, conflicts_with = "leaked")]
    pub(crate) successors: bool,
}

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option without a value")]
pub(crate) struct Create {
    /// A memorable name.
    #[arg(long, required_unless_present = "from")]
    pub(crate) name: Option<String>,
    /// A scope; may be repeated. Without one, pass --no-scopes or --root.
    #[arg(long = "scope", value_name = "SCOPE", action = ArgAction::Append, value_delimiter = ',',
        required_unless_present_any = ["root", "no_scopes", "from"], conflicts_with = "root")]
    pub(crate) scopes: Vec<String>,
    /// Grant no scope: the key identifies its holder, and no route that requires a scope accepts it.
    #[arg(long, conflicts_with_all = ["root", "scopes"])]
    pub(crate) no_scopes: bool,
    /// Grant every scope, also those that are added later.
    #[arg(long)]
    pub(crate) root: bool,
    /// The key is inactive until it is activated.
    #[arg(long)]
    pub(crate) inactive: bool,
    /// When the key expires, such as 2030-01-31T12:00:00Z; a date means the midnight at its end (UTC).
    #[arg(long, value_name = "TIME|DATE", value_parser = expiry)]
    pub(crate) expires_at: Option<String>,
    /// After how long the key expires, such as 90d, 12h or 30m.
    #[arg(long, value_name = "DURATION", value_parser = seconds, conflicts_with = "expires_at")]
    pub(crate) expires_in: Option<u32>,
    /// The key never expires, whatever the default lifetime of the policy is.
    #[arg(long, conflicts_with_all = ["expires_at", "expires_in"])]
    pub(crate) never_expires: bool,
    /// The owner on whose behalf the key acts.
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// An entry of metadata; may be repeated.
    #[arg(long, value_name = "NAME=TEXT", action = ArgAction::Append, value_parser = metadata_entry)]
    pub(crate) meta: Vec<(String, String)>,
    /// A network that the key can be used from, such as 192.0.2.0/24; may be repeated, up to 16 times. Without
    /// one the key can be used from everywhere.
    #[arg(long = "network", value_name = "CIDR", action = ArgAction::Append, value_delimiter = ',')]
    pub(crate) networks: Vec<Network>,
    /// The most requests in a span of time, such as 100/60s or 5000/1h; each server counts its own. Without it
    /// the key has no limit.
    #[arg(long, value_name = "REQUESTS/SPAN")]
    pub(crate) rate: Option<Rate>,
    /// Create the keys of a file: one JSON object a line, with the fields of POST /v1/keys.
    #[arg(long, value_name = "FILE", requires = "to", conflicts_with_all = [
        "name", "scopes", "no_scopes", "root", "inactive", "expires_at", "expires_in",
        "never_expires", "owner", "meta", "networks", "rate"])]
    pub(crate) from: Option<PathBuf>,
    /// The new file for the texts of these keys, one JSON object a line. Only its owner can read it.
    #[arg(long, value_name = "FILE", requires = "from")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Expiring {
    /// List the keys that expire within this time.
    #[arg(long, value_name = "DURATION", value_parser = seconds, default_value = "30d")]
    pub(crate) within: u32,
}

#[derive(Args, Default)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Show at most this many keys.
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<usize>,
    /// Sort the keys: by creation (newest first), name, last use (longest unused first) or expiry (soonest
    /// first).
    #[arg(long, value_name = "FIELD", default_value = "created")]
    pub(crate) sort: Sort,
}

/// The order of a list.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    #[default]
    Created,
    Name,
    Used,
    Expires,
}

impl Sort {
    /// Returns the order as the API has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "-created_at",
            Self::Name => "name",
            Self::Used => "last_used_at",
            Self::Expires => "expires_at",
        }
    }
}

#[derive(Args)]
pub(crate) struct Update {
    /// The key: its id key_…, the beginning pcl_… of its text, or its name if no other key has it.
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) changes: Changes,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command")]
pub(crate) struct Changes {
    /// The new name.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A scope of the new set; may be repeated.
    #[arg(long = "scope", value_name = "SCOPE", action = ArgAction::Append, value_delimiter = ',')]
    pub(crate) scopes: Vec<String>,
    /// Remove every scope.
    #[arg(long, conflicts_with = "scopes")]
    pub(crate) no_scopes: bool,
    /// Whether the key is active.
    #[arg(long, value_name = "YES|NO")]
    pub(crate) active: Option<YesNo>,
    /// When the key expires, such as 2030-01-31T12:00:00Z; a date means the midnight at its end (UTC).
    #[arg(long, value_name = "TIME|DATE", value_parser = expiry)]
    pub(crate) expires_at: Option<String>,
    /// After how long the key expires, such as 90d, 12h or 30m.
    #[arg(long, value_name = "DURATION", value_parser = seconds, conflicts_with = "expires_at")]
    pub(crate) expires_in: Option<u32>,
    /// Remove the expiry: the key never expires.
    #[arg(long, conflicts_with_all = ["expires_at", "expires_in"])]
    pub(crate) never_expires: bool,
    /// The owner on whose behalf the key acts.
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// Remove the owner.
    #[arg(long, conflicts_with = "owner")]
    pub(crate) no_owner: bool,
    /// An entry of metadata to set; may be repeated.
    #[arg(long, value_name = "NAME=TEXT", action = ArgAction::Append, value_parser = metadata_entry)]
    pub(crate) meta: Vec<(String, String)>,
    /// An entry of metadata to remove; may be repeated.
    #[arg(long, value_name = "NAME", action = ArgAction::Append)]
    pub(crate) no_meta: Vec<String>,
    /// A network of the new list that the key can be used from, such as 192.0.2.0/24; may be repeated.
    #[arg(long = "network", value_name = "CIDR", action = ArgAction::Append, value_delimiter = ',')]
    pub(crate) networks: Vec<Network>,
    /// Remove every network: the key can be used from everywhere.
    #[arg(long, conflicts_with = "networks")]
    pub(crate) any_network: bool,
    /// The most requests in a span of time, such as 100/60s or 5000/1h.
    #[arg(long, value_name = "REQUESTS/SPAN")]
    pub(crate) rate: Option<Rate>,
    /// Remove the rate: the key has no limit.
    #[arg(long, conflicts_with = "rate")]
    pub(crate) no_rate: bool,
}

#[derive(Args)]
pub(crate) struct Rotate {
    /// The key to replace: its id key_…, the beginning pcl_… of its text, or its name if no other key has it.
    pub(crate) id: String,
    /// How long the old key stays valid, such as 1h or 7d; without this it is inactive at once.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(crate) grace: Option<u32>,
}

#[derive(Args)]
pub(crate) struct Delete {
    /// The key: its id key_…, the beginning pcl_… of its text, or its name if no other key has it.
    pub(crate) id: String,
    /// Confirm the deletion, which cannot be undone; without this the command asks on the terminal.
    #[arg(long)]
    pub(crate) yes: bool,
}
