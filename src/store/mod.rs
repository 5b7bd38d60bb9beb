//! The store: issue, authenticate, update, revoke, rotate, delete, list.
//!
//! A request is authenticated from memory alone:
//! `credential` → `Digest` → index → standing → [`Principal`](crate::Principal).
//!
//! A change takes this path:
//!
//! ```text
//! Acting          the actor and the request            acting, caller
//!   → Planning    rights, rules, disk space, the plan  planning, rules, space
//!   → queue       stricter parts are denied at once    core, plans
//!   → writer      one transaction for each batch       writer, commit
//!   → index       the change is applied                commit; follower, if replicas share the store
//!   → caller      the change is acknowledged           commit
//! ```

mod acting;
mod admit;
mod audit;
mod audit_follow;
mod authenticate;
mod backup;
mod batch;
mod builder;
mod caller;
#[cfg(feature = "cluster")]
mod cluster;
mod commit;
mod core;
mod deleted_keys;
#[cfg(feature = "cluster")]
mod follower;
mod handle;
mod health;
mod imported;
mod idempotency;
mod issued;
mod known_uses;
mod keys;
mod leaked;
mod list;
mod numbering;
mod planning;
mod policy;
mod plans;
mod prune;
mod pruned;
mod refusals;
mod refusal_counters;
mod replicas;
mod requests;
mod retry;
mod space;
mod rules;
mod scope_names;
mod scopes;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod unused;
mod uses;
mod writer;

pub use self::{
    acting::{
        Acting, BatchRefused, BulkAct, BulkReport, CountedKeys, ImportOptions, ImportOutcome,
        ImportedSecret, KeyDigest, KeyEntries, KeyReach, ReachGroup, RevokedGroup,
    },
    audit_follow::{AuditBatch, NewerAuditEntry},
    authenticate::KeyHandle,
    builder::Builder,
    handle::Store,
    health::{Count, Health, OwnerKeys},
    idempotency::{Idempotency, Outcome},
    issued::Issued,
    leaked::LeakedKeys,
    list::{ListQuery, Page, Sort, SortBy},
    pruned::Pruned,
    unused::{UnusedBlocked, UnusedKeys},
};

#[cfg(all(test, shuttle))]
mod models;
#[cfg(test)]
mod tests;
