//! Tests specific to etcd: nodes that hang, lost answers, limits of etcd, and watches.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

use portcullis::cluster::{
    Committed, ConsensusError, ConsensusStore, Epoch, Key, LastUses, Latest, MemberEvent, MemberId,
    MemberList, MemberWatch, Revision, Transaction, TransactionOutcome, Watch, WatchEvent, Write,
};
use portcullis_etcd::{Etcd, EtcdStore};
use portcullis_testkit::{etcd::Etcd as Nodes, needs, proxy::Proxy};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::timeout;

/// The timeout of every wait in these tests.
const WATCHDOG: Duration = Duration::from_mins(1);
/// A watch that is silent for this time is open. It takes at most three seconds to connect, to watch and to
/// be probed; otherwise it is lost.
const QUIET: Duration = Duration::from_secs(4);
/// The number of attempts at steps that a busy host may delay.
const ATTEMPTS: usize = 5;
/// The number of stores that each prefer one of two nodes at random: enough that one prefers the first node.
const STORES: u64 = 64;

fn store(urls: &[String]) -> EtcdStore {
    EtcdStore::new(&Etcd::at(urls).unwrap()).unwrap()
}

/// A unique digest for each number, spread over all first bytes.
fn digest(number: u32) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    digest
}

fn member_id() -> MemberId {
    static MADE: AtomicU64 = AtomicU64::new(1);
    MemberId(u128::from(MADE.fetch_add(1, Relaxed)).to_be_bytes())
}

fn put(key: Key, value: impl Into<Vec<u8>>) -> Write {
    Write { key, value: Some(value.into()) }
}

/// A change: its audit entry, and a record for each of these numbers.
#[derive(Clone)]
struct Change {
    sequence: u64,
    writes: Vec<Write>,
}

fn change(sequence: u64, records: impl IntoIterator<Item = u32>) -> Change {
    let record =
        |number| put(Key::Record(digest(number)), format!("record {number} at {sequence}"));
    let entry = put(Key::AuditEntry(sequence), format!("entry {sequence}"));
    let writes = std::iter::once(entry).chain(records.into_iter().map(record)).collect();
    Change { sequence, writes }
}

/// The epoch after these changes.
fn epoch(changes: &[Change]) -> Vec<u8> {
    format!("epoch {}", changes.last().map_or(0, |change| change.sequence)).into_bytes()
}

fn transaction(expected: Option<Epoch>, changes: &[Change]) -> Transaction {
    let writes = changes.iter().flat_map(|change| change.writes.clone()).collect();
    Transaction { expected, writes, epoch: epoch(changes) }
}

/// Commits changes if the epoch has this revision, with any value. Revision 0: there must be no epoch.
async fn commit(store: &EtcdStore, expected: Revision, changes: &[Change]) -> TransactionOutcome {
    let expected = if expected == Revision(0) {
        None
    } else {
        let value = match store.latest().await {
            Ok(newest) => newest.epoch.map(|epoch| epoch.value).unwrap_or_default(),
            Err(ConsensusError::Unavailable(why)) => return TransactionOutcome::Unknown(why),
            // The transaction is refused as well.
            Err(_) => Vec::new(),
        };
        Some(Epoch { revision: expected, value })
    };
    store.commit(transaction(expected, changes)).await
}

async fn committed(store: &EtcdStore, expected: Revision, changes: &[Change]) -> Revision {
    match commit(store, expected, changes).await {
        TransactionOutcome::Committed { revision, .. } => revision,
        other => panic!("{other:?}"),
    }
}

/// Commits changes while nodes are frozen. Retries until a leader is elected.
async fn committed_eventually(
    store: &EtcdStore,
    expected: Revision,
    changes: &[Change],
) -> Revision {
    let trying = async {
        let mut was_unknown = false;
        loop {
            match commit(store, expected, changes).await {
                TransactionOutcome::Committed { revision, .. } => return revision,
                TransactionOutcome::Unknown(_) => was_unknown = true,
                // An earlier attempt was committed.
                TransactionOutcome::Conflict if was_unknown => {}
                other => panic!("{other:?}"),
            }
            if let Ok(Latest { epoch: Some(newest), .. }) = store.latest().await {
                if newest.value == epoch(changes) {
                    return newest.revision;
                }
                assert_eq!(newest.revision, expected, "no other client changes it");
            }
        }
    };
    timeout(WATCHDOG, trying).await.unwrap()
}

/// A watch that is reopened after it was lost, as a replica does. On a busy host, a node may answer a probe
/// too late.
struct Following<'s> {
    store: &'s EtcdStore,
    after: Revision,
    watch: <EtcdStore as ConsensusStore>::Watch,
}

impl<'s> Following<'s> {
    fn after(store: &'s EtcdStore, after: Revision) -> Self {
        Self { store, after, watch: store.watch(after) }
    }

    async fn next(&mut self) -> WatchEvent {
        let kept = async {
            loop {
                match self.watch.next().await {
                    WatchEvent::Lost => self.watch = self.store.watch(self.after),
                    event => return event,
                }
            }
        };
        let event = timeout(WATCHDOG, kept).await.unwrap();
        if let WatchEvent::Committed(batches) = &event {
            self.after = batches.last().unwrap().revision;
        }
        event
    }

    async fn transactions(&mut self) -> Vec<Committed> {
        match self.next().await {
            WatchEvent::Committed(batches) => batches,
            other => panic!("{other:?}"),
        }
    }
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn snapshot_at_a_revision_has_every_record_once() {
    let etcd = Nodes::start(1);
    let store = store(&etcd.urls());
    assert!(store.latest().await.unwrap().epoch.is_none());
    let mut at = committed(&store, Revision(0), &[]).await;
    for few in [3, 9000] {
        let mut number = 0;
        while number < few {
            let next = few.min(number + 120);
            at = committed(&store, at, &[change(u64::from(next), number..next)]).await;
            number = next;
        }
        // Later records are not in the snapshot.
        let later = committed(&store, at, &[change(99_999, 0..50)]).await;
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = store.records(at, after).await.unwrap();
            found.extend(page.records);
            after = found.last().map(|(digest, _)| *digest);
            if page.is_last {
                break;
            }
        }
        assert_eq!(found.len(), few as usize);
        assert!(found.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(found.iter().all(|(_, frame)| !frame.ends_with(b"at 99999")));
        at = later;
    }
    let trail = store.audit_entries(at, 0, 200).await.unwrap();
    assert_eq!(trail, [(3, b"entry 3".to_vec()), (120, b"entry 120".to_vec())]);
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn transaction_on_another_epoch_conflicts_and_writes_nothing() {
    let etcd = Nodes::start(1);
    let store = store(&etcd.urls());
    let first = committed(&store, Revision(0), &[]).await;
    assert!(matches!(commit(&store, Revision(0), &[]).await, TransactionOutcome::Conflict));
    let second = committed(&store, first, &[change(1, [1])]).await;
    assert!(matches!(commit(&store, first, &[change(1, [2])]).await, TransactionOutcome::Conflict));
    let newest = store.latest().await.unwrap();
    assert_eq!((newest.revision, newest.epoch.unwrap().value), (second, b"epoch 1".to_vec()));
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn transaction_on_an_epoch_of_another_history_conflicts() {
    let etcd = Nodes::start(1);
    let store = store(&etcd.urls());
    let revision = committed(&store, Revision(0), &[]).await;
    // The revision is equal, as it can be after an older state was restored.
    let other = Epoch { revision, value: b"another".to_vec() };
    let transaction = transaction(Some(other), &[change(1, [1])]);
    assert!(matches!(store.commit(transaction).await, TransactionOutcome::Conflict));
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn watch_delivers_each_transaction_as_a_whole_and_no_acknowledgements() {
    let etcd = Nodes::start(1);
    let store = store(&etcd.urls());
    let start = committed(&store, Revision(0), &[]).await;
    let mut watch = Following::after(&store, start);
    let id = member_id();
    let joined = store.join(id, b"a").await.unwrap();
    assert!(store.acknowledge(id, joined, Revision(7)).await.unwrap());
    let two = [change(1, [1]), change(2, [2, 3])];
    let first = committed(&store, start, &two).await;
    let mut deletion = change(3, []);
    deletion.writes.push(Write { key: Key::Record(digest(1)), value: None });
    deletion.writes.push(put(Key::ScopeName(4), "name"));
    let second = committed(&store, first, &[deletion]).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(watch.transactions().await);
    }
    let [one, other] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((one.revision, one.epoch.as_deref()), (first, Some(&b"epoch 2"[..])));
    assert_eq!(one.writes.len(), 3);
    assert!(one.writes.contains(&put(Key::Record(digest(2)), "record 2 at 2")));
    assert_eq!(other.revision, second);
    assert!(other.writes.contains(&Write { key: Key::Record(digest(1)), value: None }));
    assert!(other.writes.contains(&put(Key::ScopeName(4), "name")));
    assert_eq!(store.scope_names(second).await.unwrap(), [b"name".to_vec()]);
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn watch_of_a_quiet_store_stays_open() {
    let etcd = Nodes::start(1);
    let store = store(&etcd.urls());
    let start = committed(&store, Revision(0), &[]).await;
    let (mut watch, mut tries) = (store.watch(start), 1);
    // Long enough for several probes.
    while let Ok(event) = timeout(QUIET, watch.next()).await {
        assert!(matches!(event, WatchEvent::Lost) && tries < ATTEMPTS, "{event:?}");
        (watch, tries) = (store.watch(start), tries + 1);
    }
    committed(&store, start, &[change(1, [1])]).await;
    let mut watch = Following { store: &store, after: start, watch };
    assert_eq!(watch.transactions().await.len(), 1);
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn watch_after_a_compacted_revision_reports_it() {
    let etcd = Nodes::start(1);
    let store = store(&etcd.urls());
    let start = committed(&store, Revision(0), &[]).await;
    let next = committed(&store, start, &[change(1, [1])]).await;
    committed(&store, next, &[change(2, [1])]).await;
    etcd.compact();
    let event = Following::after(&store, start).next().await;
    assert!(matches!(event, WatchEvent::Compacted), "{event:?}");
    assert!(store.records(start, None).await.is_err());
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn fenced_member_proves_and_acknowledges_nothing() {
    let etcd = Nodes::start(1);
    let store = store(&etcd.urls());
    let epoch = committed(&store, Revision(0), &[]).await;
    let (mut watch, mut tries) = (store.watch_members(epoch), 1);
    // No event is delivered, but the watch is open now.
    while let Ok(events) = timeout(QUIET, watch.next()).await {
        assert!(events.is_none() && tries < ATTEMPTS, "{events:?}");
        (watch, tries) = (store.watch_members(epoch), tries + 1);
    }
    let id = member_id();
    let joined = store.join(id, b"till").await.unwrap();
    let proof = store.prove(id, joined).await.unwrap().unwrap();
    assert_eq!((proof.epoch.revision, proof.applied), (epoch, None));
    assert!(store.acknowledge(id, joined, Revision(9)).await.unwrap());
    let proof = store.prove(id, joined).await.unwrap().unwrap();
    assert_eq!(proof.applied, Some(Revision(9)));

    let MemberList { members, .. } = store.members().await.unwrap();
    let [member] = &members[..] else { panic!("{members:?}") };
    assert_eq!((member.id, member.info.as_slice()), (id, &b"till"[..]));
    assert_eq!((member.revision, member.is_fenced, member.applied), (joined, false, Revision(9)));
    let fenced = store.fence(member).await.unwrap().unwrap();
    assert!(store.fence(member).await.unwrap().is_none(), "it was fenced already");
    assert!(store.prove(id, joined).await.unwrap().is_none());
    assert!(!store.acknowledge(id, joined, Revision(10)).await.unwrap());
    assert!(!store.remove_member(id, joined).await.unwrap());
    let MemberList { members, .. } = store.members().await.unwrap();
    assert!(members[0].is_fenced && members[0].revision == fenced);
    assert!(store.remove_member(id, members[0].revision).await.unwrap());
    assert!(store.members().await.unwrap().members.is_empty());

    let mut events = Vec::new();
    while !matches!(events.last(), Some(MemberEvent::Removed(_))) {
        events.extend(timeout(WATCHDOG, watch.next()).await.unwrap().unwrap());
    }
    let told = |turn: &MemberEvent| match turn {
        MemberEvent::Changed(member) => {
            format!("{} {}", str::from_utf8(&member.info).unwrap(), member.is_fenced)
        }
        MemberEvent::Applied(_, revision) => format!("applied {}", revision.0),
        MemberEvent::Removed(_) => "gone".to_owned(),
    };
    let told: Vec<_> = events.iter().map(told).collect();
    assert_eq!(told, ["till false", "applied 9", "till true", "gone"]);
}

/// A member is fenced after its join, whose answer is lost, and before the join is repeated.
#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn join_that_is_repeated_after_a_fence_proves_and_acknowledges_nothing() {
    let etcd = Nodes::start(1);
    let direct = store(&etcd.urls());
    committed(&direct, Revision(0), &[]).await;
    let deaf = Proxy::to(&etcd.address(0));
    let urls = [deaf.url(), etcd.urls()[0].clone()];
    let mut is_lost = false;
    for _ in 0..STORES {
        let (id, lossy) = (member_id(), store(&urls));
        // It is connected.
        lossy.latest().await.unwrap();
        deaf.swallow_answers();
        let [heard, _] = deaf.bytes();
        let fence = async {
            loop {
                let members = direct.members().await.unwrap().members;
                if let Some(row) = members.into_iter().find(|member| member.id == id) {
                    return (row.revision, direct.fence(&row).await.unwrap().unwrap());
                }
            }
        };
        let both = async { tokio::join!(lossy.join(id, b"till"), fence) };
        let (again, (joined, fenced)) = timeout(WATCHDOG, Box::pin(both)).await.unwrap();
        is_lost = deaf.bytes()[0] > heard;
        deaf.pass();
        let again = again.unwrap();
        for revision in [joined, again, fenced] {
            let proof = direct.prove(id, revision).await.unwrap();
            assert!(proof.is_none(), "{joined:?}, {fenced:?}, {again:?}: {proof:?}");
            assert!(!direct.acknowledge(id, revision, Revision(9)).await.unwrap());
        }
        assert_eq!(again, joined);
        if is_lost {
            break;
        }
    }
    assert!(is_lost, "no answer was lost");
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn late_member_watch_ends_and_the_next_one_misses_nothing() {
    let etcd = Nodes::start(1);
    let store = store(&etcd.urls());
    let epoch = committed(&store, Revision(0), &[]).await;
    let id = member_id();
    let joined = store.join(id, b"till").await.unwrap();
    let mut watch = store.watch_members(epoch);
    assert!(timeout(WATCHDOG, watch.next()).await.unwrap().is_none(), "it joined before that");
    // Acknowledged after the watch was opened, and before the members are read.
    assert!(store.acknowledge(id, joined, Revision(7)).await.unwrap());
    let MemberList { revision, members, .. } = store.members().await.unwrap();
    assert_eq!(members[0].applied, Revision(7));
    // Acknowledged between the read and the watch that continues from it.
    assert!(store.acknowledge(id, joined, Revision(8)).await.unwrap());
    let mut events = timeout(WATCHDOG, store.watch_members(revision).next()).await.unwrap();
    // If this took too long, the spare watch is too old. Try again.
    for _ in 1..ATTEMPTS {
        if events.is_none() {
            let revision = store.members().await.unwrap().revision;
            assert!(store.acknowledge(id, joined, Revision(8)).await.unwrap());
            events = timeout(WATCHDOG, store.watch_members(revision).next()).await.unwrap();
        }
    }
    let events = events.unwrap();
    assert!(matches!(events[..], [MemberEvent::Applied(_, Revision(8))]), "{events:?}");
    // A spare watch that was opened after the requested revision cannot be used.
    let mut late = store.watch_members(epoch);
    assert!(timeout(WATCHDOG, late.next()).await.unwrap().is_none());
    let mut later = store.watch_members(Revision(epoch.0 + 1));
    assert!(timeout(WATCHDOG, later.next()).await.unwrap().is_none(), "it skipped what was before");
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn frozen_node_is_skipped() {
    let etcd = Nodes::start(3);
    let store = store(&etcd.urls());
    let mut at = committed(&store, Revision(0), &[]).await;
    let id = member_id();
    let joined = store.join(id, b"a").await.unwrap();
    for node in 0..3 {
        let mut watch = Following::after(&store, at);
        at = committed_eventually(&store, at, &[change(node + 1, [1])]).await;
        watch.transactions().await;
        etcd.freeze(usize::try_from(node).unwrap());
        // One of the other two nodes becomes the leader.
        at = committed_eventually(&store, at, &[change(node + 10, [2])]).await;
        let proved = async { while store.prove(id, joined).await.is_err() {} };
        timeout(WATCHDOG, proved).await.unwrap();
        while !watch.transactions().await.iter().any(|batch| batch.revision == at) {}
        etcd.thaw(usize::try_from(node).unwrap());
        timeout(WATCHDOG, async { while store.latest().await.is_err() {} }).await.unwrap();
    }
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn transaction_with_a_lost_answer_is_committed_once_and_recognized() {
    let etcd = Nodes::start(1);
    let direct = store(&etcd.urls());
    let start = committed(&direct, Revision(0), &[]).await;
    let deaf = Proxy::to(&etcd.address(0));
    let urls = [deaf.url(), etcd.urls()[0].clone()];
    let (mut at, mut made, mut is_lost) = (start, 0, false);
    while !is_lost && made < STORES {
        made += 1;
        let expected = direct.latest().await.unwrap().epoch;
        let transaction = transaction(expected, &[change(made, [1])]);
        deaf.swallow_answers();
        let [heard, _] = deaf.bytes();
        let outcome = store(&urls).commit(transaction).await;
        is_lost = deaf.bytes()[0] > heard;
        deaf.pass();
        match outcome {
            TransactionOutcome::Committed { revision, .. } => at = revision,
            other => panic!("{other:?}"),
        }
    }
    assert!(is_lost, "the deaf node was never asked first");
    let trail = direct.audit_entries(at, 0, 100).await.unwrap();
    assert_eq!(trail.len(), usize::try_from(made).unwrap());
    let newest = direct.latest().await.unwrap().epoch.unwrap();
    assert_eq!((newest.revision, newest.value), (at, format!("epoch {made}").into_bytes()));
}

#[tokio::test]
async fn stopped_etcd_is_unavailable_within_the_timeout() {
    let store = store(&["http://127.0.0.1:1".to_owned()]);
    assert!(timeout(WATCHDOG, store.latest()).await.unwrap().is_err());
    assert!(matches!(commit(&store, Revision(0), &[]).await, TransactionOutcome::Unknown(_)));
}

/// A change with this number of records of `bytes` bytes each.
fn large(records: u32, bytes: usize) -> Change {
    let mut change = change(1, 0..records);
    change.writes.iter_mut().skip(1).for_each(|write| write.value = Some(vec![7; bytes]));
    change
}

#[track_caller]
fn refusal(outcome: TransactionOutcome) -> String {
    match outcome {
        TransactionOutcome::Refused(why) => why.into(),
        other => panic!("{other:?}"),
    }
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn oversized_transaction_is_refused_and_not_unknown() {
    let etcd = Nodes::start(1);
    let store = store(&etcd.urls());
    let start = committed(&store, Revision(0), &[]).await;
    // The first exceeds the limit of etcd, the last the limit of its connection.
    for (records, bytes, expected) in [
        (128, 1, "too many operations"),
        (17, 100_000, "request is too large"),
        (30, 100_000, "larger than max"),
    ] {
        let why = refusal(commit(&store, start, &[large(records, bytes)]).await);
        assert!(why.contains(expected) && why.contains("128 operations and 1.5 MiB"), "{why}");
    }
    let newest = store.latest().await.unwrap();
    assert_eq!(newest.revision, start, "nothing was changed");
    // The maximum size of a transaction is accepted.
    let most = u32::try_from(Transaction::MAX_WRITES).unwrap() - 1;
    let bytes = Transaction::MAX_BYTES / Transaction::MAX_WRITES - Transaction::WRITE_OVERHEAD;
    committed(&store, start, &[large(most, bytes)]).await;
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn transaction_without_room_in_etcd_is_refused_and_committed_once_there_is_room() {
    let mut etcd = Nodes::start(1);
    etcd.restart_with(0, &["--quota-backend-bytes", "400000"]);
    let store = store(&etcd.urls());
    timeout(WATCHDOG, async { while store.latest().await.is_err() {} }).await.unwrap();
    let mut at = committed(&store, Revision(0), &[]).await;
    let why = loop {
        match commit(&store, at, &[large(10, 5000)]).await {
            TransactionOutcome::Committed { revision, .. } => at = revision,
            other => break refusal(other),
        }
    };
    assert!(why.contains("database space exceeded") && why.contains("make room"), "{why}");
    assert_eq!(store.latest().await.unwrap().revision, at, "nothing was changed");
    etcd.compact();
    etcd.say(&["defrag"]);
    etcd.say(&["alarm", "disarm"]);
    committed(&store, at, &[change(2, [1])]).await;
}

/// etcd may make a change that uses its last space, and still report that it has no space. This happens if
/// another change is made between its two checks of the space.
#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn transaction_that_used_the_last_space_is_not_reported_refused() {
    let mut etcd = Nodes::start(1);
    for (round, room) in ["1000000", "2000000", "3000000"].into_iter().enumerate() {
        // etcd then updates its size after each change, not ten times a second.
        etcd.restart_with(0, &["--quota-backend-bytes", room, "--backend-batch-limit", "1"]);
        let urls = etcd.urls();
        let asked = async { while store(&urls).latest().await.is_err() {} };
        timeout(WATCHDOG, asked).await.unwrap();
        etcd.say(&["alarm", "disarm"]);
        let all = (0..16).map(|space| fill(&urls, format!("portcullis/{round}/{space}/")));
        let are_refused = timeout(WATCHDOG, futures_util::future::join_all(all)).await.unwrap();
        assert!(are_refused.contains(&true), "nothing was refused");
    }
}

/// Makes changes in a space until one is refused, and checks that the refused change was not made. `false`
/// if the outcome is unknown on a busy host.
async fn fill(urls: &[String], space: String) -> bool {
    let store = EtcdStore::new(&Etcd::at(urls).unwrap().space(space).unwrap()).unwrap();
    let mut at = Revision(0);
    for sequence in 1.. {
        let mut change = change(sequence, 0..10);
        change.writes.iter_mut().skip(1).for_each(|write| write.value = Some(vec![7; 1000]));
        match commit(&store, at, &[change]).await {
            TransactionOutcome::Committed { revision, .. } => at = revision,
            TransactionOutcome::Unknown(_) => {
                let Latest { revision, epoch } = store.latest().await.unwrap();
                let is_made = epoch.is_some_and(|epoch| epoch.revision > at);
                let entry = store.audit_entries(revision, sequence - 1, 1).await.unwrap();
                assert_eq!(is_made, !entry.is_empty(), "half of it was made");
                return false;
            }
            other => {
                let why = refusal(other);
                assert!(why.contains("database space exceeded"), "{why}");
                break;
            }
        }
    }
    let newest = store.latest().await.unwrap().epoch.map(|epoch| epoch.revision);
    assert_eq!(newest.unwrap_or_default(), at, "what was refused was made");
    true
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn user_without_write_permission_is_refused_with_a_reason() {
    let etcd = Nodes::start(1);
    let start = committed(&store(&etcd.urls()), Revision(0), &[]).await;
    for arguments in [
        &["user", "add", "root:rootword"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "reader"],
        &["role", "grant-permission", "reader", "--prefix=true", "read", "portcullis/"],
        &["user", "add", "reader:the password"],
        &["user", "grant-role", "reader", "reader"],
        &["auth", "enable"],
    ] {
        etcd.say(arguments);
    }
    let known = |password| Etcd::at(etcd.urls()).unwrap().user("reader", password);
    let reader = EtcdStore::new(&known("the password")).unwrap();
    let why = refusal(commit(&reader, start, &[change(1, [1])]).await);
    assert!(why.contains("permission denied") && why.contains("in the space"), "{why}");
    assert_eq!(reader.latest().await.unwrap().revision, start);
    let nobody = EtcdStore::new(&known("another")).unwrap();
    let why = refusal(commit(&nobody, start, &[change(1, [1])]).await);
    assert!(why.contains("authentication failed") && why.contains("its password"), "{why}");
}

/// If a node did not answer, the outcome of its request is unknown, even if the next node refuses it.
#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn refusal_after_a_lost_answer_is_an_unknown_outcome() {
    let etcd = Nodes::start(1);
    committed(&store(&etcd.urls()), Revision(0), &[]).await;
    let epoch = store(&etcd.urls()).latest().await.unwrap().epoch;
    let deaf = Proxy::to(&etcd.address(0));
    let urls = [deaf.url(), etcd.urls()[0].clone()];
    let mut is_unknown = false;
    for _ in 0..STORES {
        deaf.swallow_answers();
        let transaction = transaction(epoch.clone(), &[large(128, 1)]);
        let outcome = store(&urls).commit(transaction).await;
        deaf.pass();
        is_unknown = matches!(outcome, TransactionOutcome::Unknown(_));
        if is_unknown {
            break;
        }
    }
    assert!(is_unknown);
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn last_uses_are_read_in_one_or_many_ranges_and_leave_the_epoch() {
    let etcd = Nodes::start(1);
    let store = store(&etcd.urls());
    let start = committed(&store, Revision(0), &[]).await;
    let mut watch = Following::after(&store, start);
    let id = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let note = async |numbers: std::ops::Range<u64>, what: &[u8]| {
        let all: Vec<_> = numbers.map(|number| (id(number), what.to_vec())).collect();
        for part in all.chunks(Transaction::MAX_WRITES) {
            store.put_last_uses(part.to_vec()).await.unwrap();
        }
    };
    note(0..130, b"one").await;
    let LastUses { revision: upto, uses } = store.last_uses(Revision(0)).await.unwrap();
    assert_eq!(uses.len(), 130);
    assert!(store.last_uses(upto).await.unwrap().uses.is_empty());
    note(5..6, b"two").await;
    assert_eq!(store.last_uses(upto).await.unwrap().uses, [(id(5), b"two".to_vec())]);
    let of = store.last_uses_of(&[id(4), id(999_999), id(5)]).await.unwrap();
    assert_eq!(of, [(id(4), b"one".to_vec()), (id(5), b"two".to_vec())]);
    // More uses than are read at once.
    note(0..4500, b"three").await;
    let uses = store.last_uses(upto).await.unwrap().uses;
    assert_eq!(uses.iter().filter(|(_, frame)| frame == b"three").count(), 4500);

    let newest = store.latest().await.unwrap();
    assert_eq!(newest.epoch.unwrap().revision, start);
    let mut deletion = change(1, [1]);
    deletion.writes.push(Write { key: Key::LastUse(id(5)), value: None });
    committed(&store, start, &[deletion]).await;
    let seen = watch.transactions().await;
    assert_eq!((seen.len(), seen[0].writes.len()), (1, 1), "uses are not followed: {seen:?}");
    assert!(store.last_uses_of(&[id(5)]).await.unwrap().is_empty());
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn pruned_audit_log_is_deleted_in_batches_and_only_up_to_its_start() {
    let etcd = Nodes::start(1);
    let store = store(&etcd.urls());
    let mut at = committed(&store, Revision(0), &[]).await;
    for first in (1..=2520).step_by(60) {
        let part: Vec<_> = (first..first + 60).map(|number| change(number, [])).collect();
        at = committed(&store, at, &part).await;
    }
    let mut pruned = change(2521, []);
    pruned.writes.push(put(Key::AuditStart, "pruned through 2500"));
    let mut watch = Following::after(&store, at);
    let pruned = committed(&store, at, &[pruned]).await;
    assert_eq!(watch.transactions().await[0].writes[0].key, Key::AuditStart, "replicas follow it");
    assert_eq!(store.audit_start(at).await.unwrap(), None);
    assert_eq!(store.audit_start(pruned).await.unwrap(), Some(b"pruned through 2500".to_vec()));

    // A caller that knows another audit start deletes nothing.
    assert!(!store.prune_audit(2500, b"another").await.unwrap());
    let held = async || {
        let at = store.latest().await.unwrap().revision;
        store.audit_entries(at, 0, 9999).await.unwrap().len()
    };
    assert_eq!(held().await, 2521);
    let mut left = Vec::new();
    while store.prune_audit(2500, b"pruned through 2500").await.unwrap() {
        left.push(held().await);
    }
    assert_eq!((left, held().await), (vec![1521, 521], 21));
    assert!(!store.prune_audit(2500, b"pruned through 2500").await.unwrap());
    assert_eq!(
        store.audit_entries(pruned, 10, 2).await.unwrap().len(),
        2,
        "an earlier revision keeps its entries"
    );
    let newest = store.latest().await.unwrap();
    assert_eq!(newest.epoch.unwrap().revision, pruned, "pruning is no change");
}
