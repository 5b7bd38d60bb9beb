//! Portcullis: an embedded API-key store.
//!
//! A service with an API issues keys, checks one on every request, and revokes a leaked one at once.
//! Portcullis does this inside the process of the service, without a server of its own:
//! [`Store::issue`], [`Store::authenticate`], [`Principal::require`], [`Store::revoke`].
//!
//! It makes three promises: *a revoked key never works again; an acknowledged key is never lost; only
//! the holder has the secret.* The [`design`] explains how.
//!
//! There are two kinds of failure. A [`Refusal`] concerns the request: it is expected and cheap, and its
//! response does not show the reason. An [`Error`] is a failure of the store, and names the remedy.
//!
//! Without features the crate is the store alone. The features add:
//!
//! - `axum`: guards for a host's routes;
//! - `serde`: serialization of records;
//! - `import`: keys of other systems that are stored as SHA-256 or SHA-512 digests;
//! - `cluster`: one store that several processes share;
//! - `conformance`: checks of other consensus stores than etcd against the contract of the protocol;
//! - `testing`: stores with a controllable disk, clock and availability.
//!
//! The crates `portcullis-admin` (Administration API and portal) and `portcullis-server` (the
//! program) build on this crate.
//!
//! The modules are in reading order: each imports only from those above it. A test enforces this.

#![cfg_attr(docsrs, feature(doc_cfg))]

// ── values: no I/O, no locks, no clock
mod base62;
mod random;
mod stack;
mod time;
mod network;
mod networks;
mod rate;
mod id;
mod secret;
mod secret_scan;
mod digest;
pub mod files;
pub mod scope;
mod refusal;
pub mod error;
mod pepper;
mod imported;
mod record;
mod policy;
mod principal;
mod audit_entry;

// ── request
mod origin;
mod credential;

// ── state: each external crate is used in one module only
mod sync;
mod codec;
mod proof;
mod clock;
mod ledger;
pub mod backup;
mod index;
mod gate;
#[cfg(feature = "cluster")]
pub mod cluster;

// ── operations
mod store;
mod offline;
pub mod doctor;

// ── interfaces: each a feature
#[cfg(feature = "axum")]
pub mod web;
#[cfg(feature = "serde")]
mod serialize;
#[cfg(fuzzing)]
pub mod fuzzing;

/// The audit log: its entries, ranges that verify without the store, and what pruning removed.
pub mod audit {
    pub use crate::{
        audit_entry::{Act, Attempt, AuditEntry},
        proof::{AuditRange, AuditRangeEnd, AuditRangeStart, AuditVerifier, AuditVerifyError},
        store::{AuditBatch, NewerAuditEntry, Pruned},
    };
}

/// Lists of keys: filters, pages and their tokens. [`Store::records`] iterates over all keys.
pub mod list {
    pub use crate::store::{ListQuery, Page, Sort, SortBy};
}

/// The design of Portcullis, and the formats that it writes.
#[doc = include_str!("../docs/design.md")]
pub mod design {}

#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../docs/guides/owners.md")]
mod owners_guide {}

pub use credential::{Credentials, KeyHeader, ParseKeyHeaderError};
pub use error::Error;
pub use id::{KeyId, ParseKeyIdError};
pub use imported::{Imported, ImportedDigest};
pub use index::Revocation;
pub use ledger::{About, DiskSpace, Following, Member, MemberState, ReplicaWait};
pub use network::{Network, ParseNetworkError};
pub use networks::Networks;
pub use offline::Offline;
pub use policy::{LifetimePolicy, Policy, UnusedPolicy};
pub use principal::Principal;
pub use random::{NoRandomness, array as random_bytes};
pub use rate::{InvalidRate, Rate};
pub use record::{Actor, Change, Expiry, Metadata, MetadataPatch, NewKey, Record};
pub use refusal::Refusal;
pub use scope::{Catalogue, Grant, Plane, Scope, ScopeSet};
pub use secret::{ParsePrefixError, Prefix, Secret};
pub use stack::{wipe_stack, wipe_stack_below};
#[cfg(any(test, feature = "testing"))]
pub use store::testing;
pub use store::{
    Acting, BatchRefused, Builder, BulkAct, BulkReport, Count, CountedKeys, Health, Idempotency,
    ImportOptions, ImportOutcome, ImportedSecret, Issued, KeyDigest, KeyEntries, KeyHandle,
    KeyReach, LeakedKeys, Outcome, OwnerKeys, ReachGroup, RevokedGroup, Store, UnusedBlocked,
    UnusedKeys,
};
pub use time::Timestamp;
