//! The failures of the store, each with its remedy.

mod field;

pub use self::field::Field;

use crate::{
    files::{Unsafe, unsafe_of},
    id::KeyId,
    random::NoRandomness,
    scope::{Scope, TooManyScopes, UnknownScope},
};
use std::{fmt, io, path::Path, time::Duration};

/// A failure of the store. Its text never contains a presented key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value is outside its limits; nothing was changed.
    #[error("{field}: {reason}")]
    Invalid {
        /// The value.
        field: Field,
        /// The requirement.
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
    /// An imported key cannot be deleted: an import could bring it back.
    #[error(
        "{0} was imported and cannot be deleted, since another import would bring it back; revoke it, or rotate it and \
         delete its successor"
    )]
    IsImported(KeyId),
    /// Only an active key that was not replaced can be rotated.
    #[error("{id} is {state}; only an active key that was not replaced yet can be rotated")]
    NotCurrent {
        /// The key.
        id: KeyId,
        /// Its actual state.
        state: &'static str,
    },
    /// The change would leave the store without an active root key that never expires.
    #[error(
        "{0} is the last active root key; create another one on this host first (key create --root)"
    )]
    LastRoot(KeyId),
    /// The idempotency key was used with another request.
    #[error(
        "this idempotency key was used with another request; give each request a key of its own"
    )]
    IdempotencyKeyReused,
    /// The limit of idempotent requests within 24 hours is reached; nothing was changed.
    #[error(
        "{who} reached the limit of idempotent requests within 24 hours; repeat this one in {} s, or send it without \
         an idempotency key",
        retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)
    )]
    TooManyRequests {
        /// The acting key, or all keys.
        who: &'static str,
        /// The time until the oldest of these requests expires.
        retry_after: Duration,
    },
    /// The key was changed since the caller last read it.
    #[error("{0} was changed meanwhile; read it again and repeat the change")]
    Changed(KeyId),
    /// The change lost the race against other replicas several times; nothing was changed.
    #[error("other replicas changed the store meanwhile, several times; repeat the change")]
    Contended,
    /// The acting key may not do this.
    #[error("{0}")]
    Forbidden(Forbidden),

    /// Another process has the store open.
    #[error("{dir} is already open in {holder}; stop that process or use its control socket")]
    Locked {
        /// The data directory.
        dir: Box<Path>,
        /// The process that has it open, as far as it is known.
        holder: Box<str>,
    },
    /// There is no store in the directory.
    #[error(
        "no store in {0}; if there should be one, check that its volume is mounted, else create one with init"
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
        /// The reason.
        reason: Box<str>,
    },
    /// Another user can change a file or directory, or could have changed it.
    #[error("{path} is not safe to use: {reason}")]
    Unsafe {
        /// The file or directory.
        path: Box<Path>,
        /// The problem and its remedy.
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
    /// The store was created with another pepper, or without one.
    #[error("the pepper does not match this store; give the one that it was created with")]
    WrongPepper,
    /// The store was created with another key prefix.
    #[error("the keys of this store begin with '{0}'; omit the prefix or give that one")]
    WrongPrefix(Box<str>),
    /// A value on disk is not as it was written.
    #[error("the store is damaged ({0}); restore it from a backup")]
    Damaged(Box<str>),
    /// A backup is not as it was written.
    #[error("the backup cannot be used ({0}); use another one")]
    BadBackup(Box<str>),
    /// The keys that were revoked after a backup are not known.
    #[error(
        "cannot tell which keys were revoked after this backup ({0}); nothing was restored, pass the old data directory \
         or a complete audit export"
    )]
    UnknownRevocations(Box<str>),
    /// The database is older than its anchor.
    #[error(
        "the store was rolled back: it is at change {found}, and its anchor records change {anchored}; keys that were \
         revoked since would work again, so it was not opened; put the newer files back or restore a backup"
    )]
    RolledBack {
        /// The newest change in the database.
        found: u64,
        /// The newest change that the anchor records.
        anchored: u64,
    },
    /// The disk is full.
    #[error("the disk is full while {doing}; free space, then reopen the store")]
    Full {
        /// The operation.
        doing: &'static str,
    },
    /// The disk is full and its reserve is kept for changes that restrict a key; nothing was
    /// changed.
    #[error(
        "the disk is full ({} free), so only revocations and other stricter changes are written; this change was \
         not made, free space on the volume of the store (pruning the audit log frees none there)",
        Size(*free)
    )]
    NoRoom {
        /// The free bytes.
        free: u64,
    },
    /// The disk is full and its reserve is used up: the change is not on disk. A revocation stays in
    /// effect until the store is closed; repeat the change to make it durable.
    #[error(
        "the disk is full ({} free) and its reserve is used up, so the change is not on disk; a revocation stays in \
         effect until the store is closed; free space on the volume of the store and repeat the change",
        Size(*free)
    )]
    ReserveUsedUp {
        /// The free bytes.
        free: u64,
    },
    /// The directory or its disk is not writable.
    #[error(
        "no permission to write while {doing}; mount it writable or correct its owner, then reopen the store"
    )]
    ReadOnly {
        /// The operation.
        doing: &'static str,
    },
    /// Another input or output error.
    #[error("the storage failed while {doing}: {cause}")]
    Io {
        /// The operation.
        doing: &'static str,
        /// The cause, which the message contains.
        cause: Box<io::Error>,
    },
    /// The operating system returned no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// Writing the change failed: it may or may not be on disk. In this process a revocation stays in
    /// effect, and a new permission is not granted.
    #[error("the change is not durable, its outcome is unknown ({0}); reopen the store and check")]
    NotDurable(Box<str>),
    /// The consensus store did not confirm the change: it may have been made, or may still be. In this
    /// process a revocation stays in effect until the outcome is known.
    #[error("the outcome of the change is unknown ({0}); repeat it")]
    Unanswered(Box<str>),
    /// The consensus store refused the request; nothing was changed.
    #[error("the consensus store refused ({0}); nothing was changed")]
    ConsensusRefused(Box<str>),
    /// The consensus store is unreachable, or its response is invalid.
    #[error("the consensus store failed: {0}; check that it runs and is reachable")]
    Consensus(Box<str>),
    /// An earlier write failed, so nothing is written until the store is reopened. Validation continues
    /// from memory, and in this process a revocation stays in effect.
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
            _ => Self::Io { doing, cause: Box::new(source) },
        }
    }

    pub(crate) fn bad_backup(what: impl Into<Box<str>>) -> Self {
        Self::BadBackup(what.into())
    }

    pub(crate) fn damaged(what: impl Into<Box<str>>) -> Self {
        Self::Damaged(what.into())
    }
}

/// A number of bytes, shown in its largest unit.
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

/// The reason why an acting key may not make a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forbidden {
    /// The acting key was revoked before the change was planned.
    #[error("the acting key is no longer valid")]
    ActorRefused,
    /// The acting key lacks this scope.
    #[error("the acting key lacks the scope {0}")]
    LacksScope(Scope),
    /// The new key would have a scope that the acting key lacks.
    #[error("a key grants at most its own scopes; use a key that has all of them")]
    ExceedsScopes,
    /// The new key would expire after the acting key.
    #[error(
        "a key grants at most its own lifetime; choose an expiry that is not after the acting key's"
    )]
    ExceedsExpiry,
    /// The new key could be used from a network that the acting key cannot be used from.
    #[error(
        "a key grants at most its own networks; choose networks within those of the acting key"
    )]
    ExceedsNetworks,
    /// The new key could make more requests than the acting key.
    #[error("a key grants at most its own rate; choose a rate that is not above the acting key's")]
    ExceedsRate,
    /// The acting key may set no owner other than its own.
    #[error(
        "only a key without an owner and with the scope admin.key.owner sets another owner; omit the owner to use the \
         acting key's"
    )]
    ForeignOwner,
    /// The acting key has an owner, and the act concerns the keys of all owners.
    #[error(
        "the acting key has an owner, and this concerns all owners; use a key without an owner"
    )]
    HasOwner,
    /// Root keys are created and rotated on the local host only.
    #[error("a root key is created and rotated on the host only (key create --root, key rotate)")]
    RootIsLocal,
    /// Digests of keys are exported on the local host only.
    #[error("digests are exported on the host only (export --digests)")]
    DigestsAreLocal,
    /// Keys are imported on the local host only.
    #[error("keys are imported on the host only (import)")]
    ImportIsLocal,
    /// The audit log is pruned on the local host only, so that no key removes its own traces.
    #[error("the audit log is pruned on the host only (audit --prune)")]
    PruneIsLocal,
    /// Only root keys, the host and local operators add and hide scopes.
    #[error("only a root key adds and hides scopes; use one, or the command scopes on the host")]
    ScopesAreRoots,
    /// Only root keys, the host and local operators set the policy.
    #[error("only a root key sets the policy; use one, or the command policy on the host")]
    PolicyIsRoots,
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
    fn full_and_read_only_disks_are_distinguished_from_failing_ones() {
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
    fn error_of_a_full_disk_contains_the_free_space() {
        let text = |free| Error::NoRoom { free }.to_string();
        assert!(text(0).starts_with("the disk is full (0 bytes free)"), "{}", text(0));
        assert!(text(300 << 10).contains("(300 KiB free)"), "{}", text(300 << 10));
        assert!(text(7 << 20).contains("(7 MiB free)"), "{}", text(7 << 20));
    }

    #[test]
    fn invalid_value_is_named_as_in_the_api() {
        let error = Error::invalid(Field::ExpiresAt, "it must be in the future");
        assert_eq!(error.to_string(), "expires_at: it must be in the future");
    }
}
