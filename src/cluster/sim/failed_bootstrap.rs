//! A bootstrap that fails after its first page. Before the retry, the consensus store is restored to a state without
//! the changes in the first page.

use super::{
    Rng, cut_off,
    link::{Conditions, Link},
    memory::Memory,
    node::{self, Node},
    timing,
};
use crate::{digest::Seals, id::KeyId, record::Change};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

const FRESHNESS: Duration = Duration::from_secs(1);
/// More than two pages of keys.
const KEYS: u64 = 8;

/// Returns how many keys the replica accepts although they are revoked in the consensus store.
pub(super) async fn failed_bootstrap() -> usize {
    let (memory, members) = (Memory::new(), Arc::<AtomicU64>::default());
    let (seals, start) = (Arc::new(Seals::derive(None)), Instant::now());
    let node = async |name: &str| {
        let link = Link::new(Arc::clone(&memory), Rng::new(1), Arc::default());
        link.set(Conditions::default());
        let timing = timing(FRESHNESS, (start, 1_000_000_000), 1.0, &members);
        Node::start(name.into(), link, timing, Arc::clone(&seals)).await
    };
    node::create(&Link::new(Arc::clone(&memory), Rng::new(0), Arc::default()), &seals).await;
    let (behind, other) = (node("behind").await, node("other").await);
    let key = |number: u64| (KeyId::from_u64(number), seals.digester.digest(&number.to_le_bytes()));
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    let change = async |change: fn() -> Change| {
        for (id, digest) in &keys {
            let (record, _) = other.record(*id).unwrap();
            let changed = |sequence| cut_off::changed(&record, change(), sequence);
            other.write(*digest, changed, *id).await.unwrap().unwrap();
        }
    };
    for (id, digest) in &keys {
        other.write(*digest, |sequence| Some(cut_off::new(*id, sequence)), *id).await.unwrap();
    }
    change(Change::deactivate).await;
    sleep(FRESHNESS).await;
    let restore = memory.backup();

    behind.link.set(Conditions { no_requests: true, no_answers: true, ..Conditions::default() });
    sleep(FRESHNESS / 2).await;
    change(Change::activate).await;
    memory.compact();
    behind.link.set(Conditions { first_page_only: true, ..Conditions::default() });
    let is_active = |digest| behind.keys.find(digest).is_some_and(|standing| standing.active);
    while !keys.iter().any(|(_, digest)| is_active(digest)) {
        sleep(Duration::from_millis(1)).await;
    }
    // As in the runbook: every gate has shut before the older state is served.
    memory.is_away.store(true, Relaxed);
    sleep(FRESHNESS * 2).await;
    restore(&memory);
    memory.is_away.store(false, Relaxed);
    behind.link.set(Conditions::default());
    sleep(FRESHNESS * 4).await;
    assert!(behind.is_open(), "{:?}", behind.replication_error());
    keys.iter().filter(|(_, digest)| behind.accepts(digest)).count()
}
