//! The answer to a join is lost, and the member is fenced before the join is repeated. Then a second key is
//! revoked, just before the hold of the fenced member ends.

use super::{
    Rng, cut_off,
    link::{Conditions, Link},
    memory::Memory,
    node::{self, Node},
    timing,
};
use crate::{digest::Seals, id::KeyId, record::Change};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::{
    join,
    time::{Instant, sleep, sleep_until},
};

const FRESHNESS: Duration = Duration::from_secs(3);

/// Returns whether the replica accepted the second key after its revocation had returned.
pub(super) async fn repeated_join() -> bool {
    let (memory, members) = (Memory::new(), Arc::<AtomicU64>::default());
    let (seals, start) = (Arc::new(Seals::derive(None)), Instant::now());
    let fast = Conditions::default();
    let node = async |name: &str| {
        let link = Link::new(Arc::clone(&memory), Rng::new(1), Arc::default());
        link.set(fast);
        let timing = timing(FRESHNESS, (start, 1_000_000_000), 1.0, &members);
        Node::start(name.into(), link, timing, Arc::clone(&seals)).await
    };
    node::create(&Link::new(Arc::clone(&memory), Rng::new(0), Arc::default()), &seals).await;
    let revoking = node("revoking").await;
    let keys = [1, 2].map(|n: u64| (KeyId::from_u64(n), seals.digester.digest(&n.to_le_bytes())));
    for (id, digest) in keys {
        revoking.write(digest, |sequence| Some(cut_off::new(id, sequence)), id).await.unwrap();
    }
    let revoke = async |(id, digest)| {
        let (record, _) = revoking.record(id).unwrap();
        let off = |sequence| cut_off::changed(&record, Change::deactivate(), sequence);
        let receipt = revoking.write(digest, off, id).await.unwrap().unwrap();
        revoking.wait(receipt).await
    };
    sleep(FRESHNESS).await;

    // It has read the store, and joins next.
    let joining = node("joining").await;
    joining.link.set(Conditions { no_answers: true, ..fast });
    sleep(Duration::from_millis(10)).await;
    let joined = Instant::now();
    let is_accepted = async {
        // It was fenced for its silence, and its next attempt to join is answered.
        sleep(FRESHNESS / 4 + Duration::from_millis(100)).await;
        joining.link.set(fast);
        sleep_until(joined + Duration::from_millis(3650)).await;
        joining.link.set(Conditions { no_watch: true, ..fast });
        assert!(joining.accepts(&keys[1].1));
        revoke(keys[1]).await;
        joining.accepts(&keys[1].1)
    };
    let (_, is_accepted) = join!(revoke(keys[0]), is_accepted);
    is_accepted
}
