//! The store: issue, authenticate, update, revoke, rotate, delete, list.
//!
//! Two straight walks meet here. A header becomes a decision from memory alone:
//! `credential` → `Digest` → index → standing → [`Principal`](crate::Principal). A change is planned under the
//! writers' mutex, denied in the index at once where it is stricter, made durable by the writer
//! thread, and only then applied and acknowledged.

mod acting;
mod audit;
mod authenticate;
mod backup;
mod builder;
mod caller;
#[cfg(feature = "cluster")]
mod cluster;
mod commit;
mod core;
#[cfg(feature = "cluster")]
mod follower;
mod handle;
mod health;
mod idempotency;
mod issued;
mod keys;
mod list;
mod numbering;
mod planning;
mod plans;
mod prune;
mod pruned;
mod refusals;
mod refused;
mod replicas;
mod requests;
mod retry;
mod room;
mod rules;
mod scope_names;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod uses;
mod writer;

pub use self::{
    acting::Acting,
    authenticate::KeyHandle,
    builder::Builder,
    handle::Store,
    health::{Count, Health},
    idempotency::{Idempotency, Outcome},
    issued::Issued,
    list::{ListQuery, Page},
    pruned::Pruned,
};

#[cfg(all(test, shuttle))]
mod models;
#[cfg(test)]
mod tests;
