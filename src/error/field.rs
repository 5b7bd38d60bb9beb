//! The values of a request or an option that an error can name.

use std::fmt;

/// A value of a request or an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// The name of a key.
    Name,
    /// The scopes.
    Scopes,
    /// The owner.
    Owner,
    /// The metadata.
    Metadata,
    /// The text of a key that is imported.
    Key,
    /// The digest of a key that is imported.
    Digest,
    /// The networks that a key can be used from.
    Networks,
    /// The description of a scope.
    Description,
    /// The expiry of a key.
    ExpiresAt,
    /// The whole record.
    Record,
    /// The prefix of keys.
    Prefix,
    /// The pepper.
    Pepper,
    /// How long a rotated key stays valid.
    Grace,
    /// The size of a page.
    PageSize,
    /// The token of a page.
    PageToken,
    /// The addresses and credentials of etcd.
    #[cfg(feature = "cluster")]
    Etcd,
    /// The name of a replica.
    #[cfg(feature = "cluster")]
    Replica,
    /// How long a replica's proof of freshness is valid.
    #[cfg(feature = "cluster")]
    Freshness,
    /// The time before which the audit log is pruned.
    Before,
    /// The policy of the store.
    Policy,
}

impl Field {
    /// Returns the name of the value in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Scopes => "scopes",
            Self::Owner => "owner",
            Self::Metadata => "metadata",
            Self::Key => "key",
            Self::Digest => "digest",
            Self::Networks => "networks",
            Self::Description => "description",
            Self::ExpiresAt => "expires_at",
            Self::Record => "record",
            Self::Prefix => "prefix",
            Self::Pepper => "pepper",
            Self::Grace => "grace_seconds",
            Self::PageSize => "page_size",
            Self::PageToken => "page_token",
            #[cfg(feature = "cluster")]
            Self::Etcd => "etcd",
            #[cfg(feature = "cluster")]
            Self::Replica => "replica name",
            #[cfg(feature = "cluster")]
            Self::Freshness => "freshness",
            Self::Before => "before",
            Self::Policy => "policy",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
