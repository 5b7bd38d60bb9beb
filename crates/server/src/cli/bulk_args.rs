//! The definition of the commands for many keys.

use super::{
    filter::Filter,
    values::{expiry, seconds},
};
use clap::{ArgAction, Args, Subcommand};
use portcullis::KeyId;

#[derive(Subcommand)]
pub(crate) enum BulkCommand {
    /// Revoke the keys at once.
    Revoke(Selection),
    /// Remove scopes from the keys.
    RemoveScopes {
        /// A scope to remove; may be repeated.
        #[arg(long = "remove", value_name = "SCOPE", action = ArgAction::Append, value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        #[command(flatten)]
        selection: Selection,
    },
    /// Set the expiry of the keys.
    SetExpiry {
        #[command(flatten)]
        end: End,
        #[command(flatten)]
        selection: Selection,
    },
    /// Set the owner of the keys.
    SetOwner {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        selection: Selection,
    },
    /// Delete the inactive keys among them; this cannot be undone.
    Delete(Selection),
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct End {
    /// When the keys expire, such as 2030-01-31T12:00:00Z; a date means the midnight at its end (UTC).
    #[arg(long, value_name = "TIME|DATE", value_parser = expiry)]
    pub(crate) expires_at: Option<String>,
    /// After how long the keys expire, such as 90d, 12h or 30m.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(crate) expires_in: Option<u32>,
    /// The keys never expire.
    #[arg(long)]
    pub(crate) never_expires: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct To {
    /// The new owner.
    #[arg(long, value_name = "OWNER")]
    pub(crate) to: Option<String>,
    /// Remove the owner.
    #[arg(long)]
    pub(crate) to_nobody: bool,
}

#[derive(Args)]
pub(crate) struct Selection {
    /// A key by its id; may be repeated. Not together with filters.
    #[arg(long = "id", value_name = "ID", action = ArgAction::Append)]
    pub(crate) ids: Vec<KeyId>,
    /// Select all keys, without a filter.
    #[arg(long)]
    pub(crate) all: bool,
    /// Confirm the act; without this the command shows the number of keys and asks on the terminal.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) filter: Filter,
}
