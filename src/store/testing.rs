//! Stores for tests, with a controllable disk, clock and availability.
//!
//! The feature `testing` exports this module. A host can test its responses while a change is not durable
//! yet, while the disk is full, or while the store is unavailable. Not for production.
//!
//! ```
//! # use portcullis::*;
//! let (store, script) = testing::scripted_store();
//! script.verdict(true); // the next commit succeeds
//! store.issue(NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never))?;
//! script.fill_disk();
//! assert!(store.health().disk.is_some_and(|disk| disk.is_low));
//! # Ok::<(), Error>(())
//! ```
#![expect(clippy::unwrap_used, reason = "for tests: a test fails if its store cannot be created")]
#![expect(
    clippy::missing_panics_doc,
    reason = "these functions panic only if memory or threads run out"
)]

use super::{
    core::{Core, Parts},
    handle::Store,
    plans::Plans,
    requests::Requests,
    scope_names::ScopeNames,
    uses,
    writer::Writer,
};
use crate::{
    audit_entry::{Act, AuditEntry, Once},
    clock::Clock,
    digest::Seals,
    gate::Gate,
    id::KeyId,
    index::Index,
    ledger::{Memory, Tip, scripted::Scripted},
    record::Actor,
    scope::catalogue::financial_data,
    secret::Prefix,
    time::Timestamp,
};
use std::{sync::Arc, time::Duration};

pub use crate::ledger::scripted::Script;

/// Returns a store whose commits each wait for the test's verdict.
pub fn scripted_store() -> (Store, Script) {
    scripted(uses::INTERVAL)
}

/// Like [`scripted_store`], with another interval between rounds of uses.
pub(crate) fn scripted(every: Duration) -> (Store, Script) {
    let (ledger, script) = Scripted::new();
    let names = ScopeNames::new(vec![], Some(financial_data().collect())).unwrap();
    let seals = Arc::new(Seals::derive(None));
    let (ledger, tip) = (Box::new(ledger), Tip::default());
    let writer = Writer::start(ledger, Index::new(), seals, names, tip, every).unwrap();
    (
        Store {
            writer: Arc::new(writer),
            prefix: Prefix::default(),
            credentials: crate::credential::Credentials::default(),
            is_created: true,
        },
        script,
    )
}

/// Returns a store in memory whose wall clock has jumped ahead since the store was opened.
pub fn store_with_clock_jump(ahead: Duration) -> Store {
    let parts = Parts {
        gate: Gate::always_open(),
        index: Index::new(),
        ledger: Box::new(Memory),
        clock: Clock::jumped(ahead),
        seals: Arc::new(Seals::derive(None)),
        names: ScopeNames::new(vec![], Some(financial_data().collect())).unwrap(),
    };
    let core = Core::new(parts, Plans::new(Some(Tip::default()), Requests::default()));
    let writer = Writer::begin(Arc::new(core), uses::INTERVAL).unwrap();
    Store {
        writer: Arc::new(writer),
        prefix: Prefix::default(),
        credentials: crate::credential::Credentials::default(),
        is_created: true,
    }
}

/// Returns a store in memory whose newest change is ahead of the wall clock.
pub fn store_with_time_ahead(ahead: Duration) -> Store {
    let store = Store::builder().scopes(financial_data()).in_memory().unwrap();
    let millis = u64::try_from(ahead.as_millis()).unwrap();
    advance_time(&store, Timestamp::from_millis(store.now().as_millis() + millis));
    store
}

/// Advances a store's time, as a change with a wrong clock does.
pub fn advance_time(store: &Store, to: Timestamp) {
    store.writer.clock.advance(to);
}

/// Makes the rates of keys see that this time has passed.
pub fn pass_time(store: &Store, time: Duration) {
    store.writer.clock.pass(time);
}

/// Sets whether the store answers validations. If not, it refuses each one as unavailable.
pub fn set_available(store: &Store, available: bool) {
    if available { store.writer.gate.extend(u64::MAX) } else { store.writer.gate.shut() }
}

/// Returns how many changes were planned since the store was opened, durable or not.
pub fn planned_changes(store: &Store) -> u64 {
    store.writer.plan().next_sequence() - 1
}

/// Records this number of idempotent requests of an actor.
pub fn remember_requests(store: &Store, actor: Actor, count: u64) {
    for n in 1..=count {
        store.writer.plan().requests.note(&AuditEntry {
            sequence: 1000 + n,
            at: store.now(),
            key: Some(KeyId::from_u64(n)),
            once: Some(Once { request: u128::from(n).to_le_bytes(), payload: [0; 16] }),
            ..AuditEntry::new(actor, Act::Create)
        });
    }
}
