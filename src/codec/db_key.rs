//! The database keys of values.

use crate::{digest::Digest, id::KeyId};

/// The database key of a value. All values are in one ordered tree; a letter states the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DbKey {
    /// `a` and the big-endian sequence.
    Entry(u64),
    /// `f`.
    AuditStart,
    /// `k` and the digest.
    Record(Digest),
    /// `m`.
    Meta,
    /// `s` and the number.
    Scope(u8),
    /// `u` and the big-endian id: when a key was last used. The [`Mark`] does not cover these,
    /// since they decide nothing.
    Use(KeyId),
}

impl DbKey {
    pub(crate) const ENTRIES: &'static [u8] = b"a";
    pub(crate) const RECORDS: &'static [u8] = b"k";
    pub(crate) const SCOPES: &'static [u8] = b"s";
    pub(crate) const USES: &'static [u8] = b"u";

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Entry(sequence) => [Self::ENTRIES, &sequence.to_be_bytes()].concat(),
            Self::Record(digest) => [Self::RECORDS, digest.as_bytes()].concat(),
            Self::AuditStart => b"f".to_vec(),
            Self::Meta => b"m".to_vec(),
            Self::Scope(number) => [Self::SCOPES, &[number]].concat(),
            Self::Use(id) => [Self::USES, &id.as_u64().to_be_bytes()].concat(),
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_at_checked(1)?;
        match kind {
            Self::ENTRIES => Some(Self::Entry(u64::from_be_bytes(rest.try_into().ok()?))),
            Self::RECORDS => Some(Self::Record(Digest::from_bytes(rest.try_into().ok()?))),
            b"f" => rest.is_empty().then_some(Self::AuditStart),
            b"m" => rest.is_empty().then_some(Self::Meta),
            Self::SCOPES => <[u8; 1]>::try_from(rest).ok().map(|[number]| Self::Scope(number)),
            Self::USES => {
                let id = u64::from_be_bytes(rest.try_into().ok()?);
                Some(Self::Use(KeyId::from_u64(id)))
            }
            _ => None,
        }
    }
}
