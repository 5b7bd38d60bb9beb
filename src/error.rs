//! What failed on our side, and what to do about it.

use crate::{
    files::{Unsafe, unsafe_of},
    id::KeyId,
    random::NoRandomness,
    scope::{Scope, TooManyScopes, UnknownScope},
};
use std::{fmt, io, path::Path, time::Duration};

/// Why the store could not do what it was asked. The texts never hold what a caller presented as
/// a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value is outside its limits; nothing was changed.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which value.
        field: Field,
        /// What it must be.
        reason: Box<str>,
    },
    /// No scope of this name is offered; nothing was changed.
    #[error("scopes: {0}")]
    UnknownScope(Box<UnknownScope>),
    /// The catalogue is full.
    #[error("scopes: {0}")]
    TooManyScopes(#[from] TooManyScopes),
    /// No key has this id.
    #[error("no key {0}; list the keys to find its id")]
    NoSuchKey(KeyId),
    /// Only an inactive key can be deleted.
    #[error("{0} is active; deactivate it before deleting it")]
    StillActive(KeyId),
    /// Only a key that works and was not replaced yet can be rotated.
    #[error("{id} is {state}; only a key that works and was not replaced yet can be rotated")]
    NotCurrent {
        /// The key.
        id: KeyId,
        /// What it is instead.
        state: &'static str,
    },
    /// The change would leave the store without an active root key that never expires.
    #[error(
        "{0} is the last active root key; make another one on the machine first (key create --root)"
    )]
    LastRoot(KeyId),
    /// The name of a request that is done once was given to another request.
    #[error(
        "this idempotency key was used with another request; give each request a key of its own"
    )]
    IdempotencyKeyReused,
    /// So many idempotent requests were done within 24 hours that a further one could not be
    /// remembered for as long; nothing was changed.
    #[error(
        "{who} sent as many idempotent requests within 24 hours as are remembered; repeat this one in {} s, or send \
         it without an idempotency key",
        retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)
    )]
    TooManyRequests {
        /// The acting key, or all of them.
        who: &'static str,
        /// When the oldest of them is forgotten.
        retry_after: Duration,
    },
    /// The key was changed since the caller last read it.
    #[error("{0} was changed meanwhile; read it again and repeat the change")]
    Changed(KeyId),
    /// Other replicas changed the store meanwhile, again and again; nothing was changed.
    #[error("other replicas changed the store meanwhile, again and again; repeat the change")]
    Contended,
    /// The acting key may not do this.
    #[error("{0}")]
    Forbidden(Forbidden),

    /// Another process has the store open.
    #[error("{dir} is already open in {holder}; stop that process or use its control socket")]
    Locked {
        /// The data directory.
        dir: Box<Path>,
        /// Who has it, as far as is known.
        holder: Box<str>,
    },
    /// There is no store in the directory.
    #[error(
        "no store in {0}; if it should be there, check that its volume is mounted, else make one with init"
    )]
    NotFound(Box<Path>),
    /// There is a store in the directory already.
    #[error("{0} already holds a store; open it, or choose another directory")]
    AlreadyExists(Box<Path>),
    /// The path cannot be a data directory.
    #[error("{dir} cannot be a data directory: {reason}")]
    BadDirectory {
        /// The path.
        dir: Box<Path>,
        /// Why not.
        reason: Box<str>,
    },
    /// A file or directory could have been changed by another user, or could be.
    #[error("{path} is not safe to use: {reason}")]
    Unsafe {
        /// Which one.
        path: Box<Path>,
        /// What is wrong with it, and what to do.
        reason: Box<str>,
    },
    /// The store was written by a newer version.
    #[error(
        "the store has format {found}, and this version reads up to {known}; use a newer version"
    )]
    NewerFormat {
        /// The format on disk.
        found: u32,
        /// The newest that this version reads.
        known: u32,
    },
    /// The store was made with another pepper, or one was given to a store without.
    #[error("the pepper does not match this store; give the one that it was made with")]
    WrongPepper,
    /// The store was made with another key prefix.
    #[error("the keys of this store begin with '{0}'; leave the prefix out or give that one")]
    WrongPrefix(Box<str>),
    /// Something on disk is not as it was written.
    #[error("the store is damaged ({0}); restore it from a backup")]
    Damaged(Box<str>),
    /// A backup is not as it was written.
    #[error("the backup cannot be used ({0}); use another one")]
    BadBackup(Box<str>),
    /// It is not known what was taken away after a backup was taken.
    #[error(
        "cannot tell which keys were revoked after this backup ({0}); nothing was restored, pass the old data directory \
         or a complete audit export"
    )]
    UnknownRevocations(Box<str>),
    /// The database is older than its anchor.
    #[error(
        "the store was rolled back: it is at change {found}, its anchor has seen change {anchored}; keys that were \
         taken away since would work again, so it was not opened; put the newer files back or restore a backup"
    )]
    RolledBack {
        /// The newest change in the database.
        found: u64,
        /// The newest change that the anchor saw.
        anchored: u64,
    },
    /// The disk has no room.
    #[error("the disk is full while {doing}; make room, then reopen the store")]
    Full {
        /// What was being done.
        doing: &'static str,
    },
    /// The disk is full and its reserve is kept for changes that make a key stricter; nothing was
    /// changed.
    #[error(
        "the disk is full ({} free), so only revocations and other stricter changes are written; this change was \
         not made, make room on the volume of the store (pruning the audit log makes none there)",
        Size(*free)
    )]
    NoRoom {
        /// Bytes that are free.
        free: u64,
    },
    /// The disk is full and its reserve is used up: the change is not on disk. What it denied stays
    /// denied until the store is closed, or the change is repeated.
    #[error(
        "the disk is full ({} free) and its reserve is used up, so the change is not on disk; what it denies is \
         denied until the store is closed; make room on the volume of the store and repeat it",
        Size(*free)
    )]
    ReserveUsedUp {
        /// Bytes that are free.
        free: u64,
    },
    /// The directory or its disk cannot be written.
    #[error(
        "no permission to write while {doing}; mount it writable or correct its owner, then reopen the store"
    )]
    ReadOnly {
        /// What was being done.
        doing: &'static str,
    },
    /// Another failure of the storage.
    #[error("the storage failed while {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The failure.
        source: Box<io::Error>,
    },
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The change could not be made durable: it may or may not be on disk. What it denied stays
    /// denied in this process; what it allowed is not allowed.
    #[error("the change is not durable, its outcome is unknown ({0}); reopen the store and look")]
    NotDurable(Box<str>),
    /// The engine of the replicas did not say what became of the change: it may have been made, or
    /// may still be. What it denied stays denied in this process until that is known.
    #[error("the outcome of the change is unknown ({0}); repeat it")]
    Unanswered(Box<str>),
    /// The engine of the replicas turned the change down, or what it was asked: nothing was changed.
    #[error("the engine of the replicas refused ({0}); nothing was changed")]
    ConsensusRefused(Box<str>),
    /// The engine of the replicas cannot be reached, or does not do as it must.
    #[error("the engine of the replicas failed: {0}; see that it runs and can be reached")]
    Consensus(Box<str>),
    /// An earlier write failed, so nothing more is written until the store is reopened.
    /// Validation goes on from memory, and what this change denied stays denied in this process.
    #[error(
        "the store stopped writing after a failure ({0}); this change was not written, reopen the store"
    )]
    Poisoned(Box<str>),
}

const _: () = assert!(size_of::<Error>() <= 40);

impl Error {
    pub(crate) fn invalid(field: Field, reason: impl Into<Box<str>>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }

    /// A failed system call. Storage that is full or read-only, and a file that others could change,
    /// have errors of their own.
    pub fn io(doing: &'static str, source: io::Error) -> Self {
        if let Some(Unsafe { path, what, remedy }) = unsafe_of(&source) {
            let reason = format!("{what}; {remedy}").into();
            return Self::Unsafe { path: path.clone(), reason };
        }
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { doing },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { doing }
            }
            _ => Self::Io { doing, source: Box::new(source) },
        }
    }

    pub(crate) fn bad_backup(what: impl Into<Box<str>>) -> Self {
        Self::BadBackup(what.into())
    }

    pub(crate) fn damaged(what: impl Into<Box<str>>) -> Self {
        Self::Damaged(what.into())
    }
}

/// A number of bytes, in the largest unit that it fills.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ ..1024 => write!(f, "{bytes} bytes"),
            bytes @ ..0x10_0000 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{} MiB", bytes >> 20),
        }
    }
}

/// A value that a caller gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// The memorable name.
    Name,
    /// The scopes.
    Scopes,
    /// The owner.
    Owner,
    /// The metadata.
    Metadata,
    /// The end of a key.
    ExpiresAt,
    /// The whole record.
    Record,
    /// The prefix of keys.
    Prefix,
    /// The pepper.
    Pepper,
    /// How long a rotated key works on.
    Grace,
    /// The size of a page.
    PageSize,
    /// The token of a page.
    PageToken,
    /// Where etcd's nodes are, and how they are reached.
    #[cfg(feature = "cluster")]
    Etcd,
    /// What operators call a replica.
    #[cfg(feature = "cluster")]
    Replica,
    /// How long a replica's proof of freshness is good for.
    #[cfg(feature = "cluster")]
    Freshness,
    /// The moment before which the trail is cut away.
    Before,
}

impl Field {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Scopes => "scopes",
            Self::Owner => "owner",
            Self::Metadata => "metadata",
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
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an acting key may not make a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forbidden {
    /// The acting key was taken away before the change was planned.
    #[error("the acting key is no longer valid")]
    ActorRefused,
    /// The acting key lacks this scope.
    #[error("the acting key lacks the scope {0}")]
    LacksScope(Scope),
    /// The key would have a scope that its maker lacks.
    #[error("a key grants at most its own scopes; make this key with one that has them all")]
    ExceedsScopes,
    /// The key would outlive its maker.
    #[error(
        "a key grants at most its own lifetime; choose an end that is not after the acting key's"
    )]
    ExceedsExpiry,
    /// Only root sets an owner other than its own.
    #[error("only a root key sets another owner; leave the owner out to pass on the acting key's")]
    ForeignOwner,
    /// Root keys are made on the machine.
    #[error("a root key is made and rotated on the machine only (key create --root, key rotate)")]
    RootIsLocal,
    /// The trail is cut on the machine: no key wipes out its traces.
    #[error("the audit trail is cut on the machine only (audit --cut)")]
    PruneIsLocal,
}

impl From<Forbidden> for Error {
    fn from(reason: Forbidden) -> Self {
        Self::Forbidden(reason)
    }
}

impl From<UnknownScope> for Error {
    fn from(unknown: UnknownScope) -> Self {
        Self::UnknownScope(Box::new(unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Field};
    use std::io::ErrorKind;

    #[test]
    fn a_disk_that_is_full_or_cannot_be_written_is_told_from_one_that_fails() {
        let of = |kind: ErrorKind| Error::io("writing a change", kind.into());
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            assert!(matches!(of(kind), Error::Full { doing: "writing a change" }));
        }
        for kind in [ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied] {
            assert!(matches!(of(kind), Error::ReadOnly { doing: "writing a change" }));
        }
        assert!(matches!(of(ErrorKind::BrokenPipe), Error::Io { doing: "writing a change", .. }));
    }

    #[test]
    fn a_full_disk_names_the_free_space() {
        let text = |free| Error::NoRoom { free }.to_string();
        assert!(text(0).starts_with("the disk is full (0 bytes free)"), "{}", text(0));
        assert!(text(300 << 10).contains("(300 KiB free)"), "{}", text(300 << 10));
        assert!(text(7 << 20).contains("(7 MiB free)"), "{}", text(7 << 20));
    }

    #[test]
    fn what_is_invalid_is_named_as_in_the_api() {
        let error = Error::invalid(Field::ExpiresAt, "it must lie ahead");
        assert_eq!(error.to_string(), "expires_at: it must lie ahead");
    }
}
