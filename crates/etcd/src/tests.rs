#[path = "../../../tests/support/etcd.rs"]
pub(crate) mod nodes;
#[path = "../../../tests/support/proxy.rs"]
mod proxy;

use super::{Etcd, EtcdJournal, tail::EtcdTail};
use crate::{
    cluster::{
        journal::{
            Batch, Epoch, Event, Fault, Incarnation, Journal, Muster, Newest, Outcome, Revision,
            Roll, Tail, Transaction, Turn,
        },
        member::{Card, Replica},
    },
    codec::Place,
    digest::Digest,
    id::KeyId,
    ledger::{
        Commit, Put,
        shared::{AROUND, MOST_BYTES, MOST_VALUES},
    },
    time::Timestamp,
};
use proxy::Proxy;
use std::time::Duration;
use tokio::time::timeout;

/// Nothing that is awaited here may take longer.
const WATCHDOG: Duration = Duration::from_mins(1);
/// A watch that has said nothing for so long is there: it takes three seconds at most to connect, to
/// watch and to be asked for a sign of life, or else it is lost.
const QUIET: Duration = Duration::from_secs(4);
/// So often is tried what other work on the machine may hold up.
const TRIES: usize = 5;
/// So many journals ask one of two nodes first, by chance, that in one of them it is the first one.
const JOURNALS: u64 = 64;

fn journal(urls: &[String]) -> EtcdJournal {
    EtcdJournal::new(&Etcd::at(urls).unwrap()).unwrap()
}

fn card(name: &str) -> Card {
    Replica::named(name).card().unwrap()
}

fn digest(number: u32) -> Digest {
    Digest::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// A change with an entry, and a record for each of these numbers.
fn change(sequence: u64, records: impl IntoIterator<Item = u32>) -> Commit {
    let put = |number| Put {
        place: Place::Record(digest(number)),
        frame: Some(format!("record {number} at {sequence}").into_bytes()),
    };
    Commit {
        sequence,
        at: Timestamp::default(),
        entry: format!("entry {sequence}").into_bytes(),
        head: [0; 32],
        puts: records.into_iter().map(put).collect(),
    }
}

/// The epoch that these changes make.
fn epoch(commits: &[Commit]) -> Vec<u8> {
    format!("epoch {}", commits.last().map_or(0, |commit| commit.sequence)).into_bytes()
}

/// Upon the epoch of this revision, whatever it is; 0: there is none.
async fn commit(journal: &EtcdJournal, expected: Revision, commits: &[Commit]) -> Outcome {
    let expected = if expected == Revision(0) {
        None
    } else {
        let frame = match journal.newest().await {
            Ok(newest) => newest.epoch.map(|epoch| epoch.frame).unwrap_or_default(),
            Err(Fault::Unreachable(why)) => return Outcome::Unknown(why),
            // The change is refused as well.
            Err(_) => Vec::new(),
        };
        Some(Epoch { revision: expected, frame })
    };
    let expected = expected.as_ref();
    journal.commit(Transaction { expected, commits, epoch: epoch(commits) }).await
}

async fn committed(journal: &EtcdJournal, expected: Revision, commits: &[Commit]) -> Revision {
    match commit(journal, expected, commits).await {
        Outcome::Committed { revision, .. } => revision,
        other => panic!("{other:?}"),
    }
}

/// The same where nodes are frozen, and it may take a while until one leads: as often as it takes.
async fn committed_in_the_end(
    journal: &EtcdJournal,
    expected: Revision,
    commits: &[Commit],
) -> Revision {
    let trying = async {
        let mut was_unknown = false;
        loop {
            match commit(journal, expected, commits).await {
                Outcome::Committed { revision, .. } => return revision,
                Outcome::Unknown(_) => was_unknown = true,
                // It was made before.
                Outcome::Conflict if was_unknown => {}
                other => panic!("{other:?}"),
            }
            if let Ok(Newest { epoch: Some(newest), .. }) = journal.newest().await {
                if newest.frame == epoch(commits) {
                    return newest.revision;
                }
                assert_eq!(newest.revision, expected, "nobody else changes it");
            }
        }
    };
    timeout(WATCHDOG, trying).await.unwrap()
}

/// A tail that is opened again where it is lost, as a replica does: where the machine has other work,
/// a node may leave the question whether it lives without an answer for too long.
struct Following<'j> {
    journal: &'j EtcdJournal,
    after: Revision,
    tail: EtcdTail,
}

impl<'j> Following<'j> {
    fn after(journal: &'j EtcdJournal, after: Revision) -> Self {
        Self { journal, after, tail: journal.tail(after) }
    }

    async fn next(&mut self) -> Event {
        let kept = async {
            loop {
                match self.tail.next().await {
                    Event::Lost => self.tail = self.journal.tail(self.after),
                    event => return event,
                }
            }
        };
        let event = timeout(WATCHDOG, kept).await.unwrap();
        if let Event::Batches(batches) = &event {
            self.after = batches.last().unwrap().revision;
        }
        event
    }

    async fn batches(&mut self) -> Vec<Batch> {
        match self.next().await {
            Event::Batches(batches) => batches,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_snapshot_at_a_revision_has_every_record_once_however_many_there_are() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let journal = journal(&etcd.urls());
    assert!(journal.newest().await.unwrap().epoch.is_none());
    let mut at = committed(&journal, Revision(0), &[]).await;
    for few in [3, 9000] {
        let mut number = 0;
        while number < few {
            let next = few.min(number + 120);
            at = committed(&journal, at, &[change(u64::from(next), number..next)]).await;
            number = next;
        }
        // What comes after the snapshot is not in it.
        let later = committed(&journal, at, &[change(99_999, 0..50)]).await;
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = journal.records(at, after).await.unwrap();
            found.extend(page.records);
            after = found.last().map(|(digest, _)| *digest);
            if page.is_last {
                break;
            }
        }
        assert_eq!(found.len(), few as usize);
        assert!(found.is_sorted_by(|(a, _), (b, _)| a.as_bytes() < b.as_bytes()));
        assert!(found.iter().all(|(_, frame)| !frame.ends_with(b"at 99999")));
        at = later;
    }
    let trail = journal.trail(at, 0, 200).await.unwrap();
    assert_eq!(trail, [(3, b"entry 3".to_vec()), (120, b"entry 120".to_vec())]);
}

#[tokio::test]
async fn a_change_on_another_epoch_conflicts_and_writes_nothing() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let journal = journal(&etcd.urls());
    let first = committed(&journal, Revision(0), &[]).await;
    assert!(matches!(commit(&journal, Revision(0), &[]).await, Outcome::Conflict));
    let second = committed(&journal, first, &[change(1, [1])]).await;
    assert!(matches!(commit(&journal, first, &[change(1, [2])]).await, Outcome::Conflict));
    let newest = journal.newest().await.unwrap();
    assert_eq!((newest.revision, newest.epoch.unwrap().frame), (second, b"epoch 1".to_vec()));
}

#[tokio::test]
async fn a_change_on_an_epoch_of_another_history_conflicts() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let journal = journal(&etcd.urls());
    let revision = committed(&journal, Revision(0), &[]).await;
    // The number is right, as it is after an older state was put back and went on.
    let other = Epoch { revision, frame: b"another".to_vec() };
    let transaction =
        Transaction { expected: Some(&other), commits: &[change(1, [1])], epoch: Vec::new() };
    assert!(matches!(journal.commit(transaction).await, Outcome::Conflict));
}

#[tokio::test]
async fn a_tail_brings_each_transaction_whole_and_no_part_of_what_others_acknowledge() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let journal = journal(&etcd.urls());
    let start = committed(&journal, Revision(0), &[]).await;
    let mut tail = Following::after(&journal, start);
    let who = Incarnation::fresh().unwrap();
    let joined = journal.join(who, &card("a")).await.unwrap();
    assert!(journal.acknowledge(who, joined, Revision(7)).await.unwrap());
    // Two changes of one key in one transaction: the last one counts.
    let two = [change(1, [1, 2]), change(2, [2, 3])];
    let first = committed(&journal, start, &two).await;
    let mut deletion = change(3, []);
    deletion.puts.push(Put { place: Place::Record(digest(1)), frame: None });
    deletion.puts.push(Put { place: Place::Scope(4), frame: Some(b"name".to_vec()) });
    let second = committed(&journal, first, &[deletion]).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(tail.batches().await);
    }
    let [one, other] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((one.revision, one.epoch.as_deref()), (first, Some(&b"epoch 2"[..])));
    assert_eq!(one.changes.len(), 3);
    let of_two = one.changes.iter().find(|(place, _)| *place == Place::Record(digest(2)));
    assert_eq!(of_two.unwrap().1.as_deref(), Some(&b"record 2 at 2"[..]));
    assert_eq!(other.revision, second);
    assert!(other.changes.contains(&(Place::Record(digest(1)), None)));
    assert!(other.changes.contains(&(Place::Scope(4), Some(b"name".to_vec()))));
    assert_eq!(journal.names(second).await.unwrap(), [b"name".to_vec()]);
}

#[tokio::test]
async fn a_tail_of_a_quiet_store_lives_on() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let journal = journal(&etcd.urls());
    let start = committed(&journal, Revision(0), &[]).await;
    let (mut tail, mut tries) = (journal.tail(start), 1);
    // Long enough to be asked for a sign of life several times.
    while let Ok(event) = timeout(QUIET, tail.next()).await {
        assert!(matches!(event, Event::Lost) && tries < TRIES, "{event:?}");
        (tail, tries) = (journal.tail(start), tries + 1);
    }
    committed(&journal, start, &[change(1, [1])]).await;
    let mut tail = Following { journal: &journal, after: start, tail };
    assert_eq!(tail.batches().await.len(), 1);
}

#[tokio::test]
async fn a_tail_after_what_is_compacted_says_so() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let journal = journal(&etcd.urls());
    let start = committed(&journal, Revision(0), &[]).await;
    let next = committed(&journal, start, &[change(1, [1])]).await;
    committed(&journal, next, &[change(2, [1])]).await;
    etcd.compact();
    let event = Following::after(&journal, start).next().await;
    assert!(matches!(event, Event::Compacted), "{event:?}");
    assert!(journal.records(start, None).await.is_err());
}

#[tokio::test]
async fn a_fenced_member_proves_and_acknowledges_nothing() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let journal = journal(&etcd.urls());
    let epoch = committed(&journal, Revision(0), &[]).await;
    let (mut roll, mut tries) = (journal.roll(epoch), 1);
    // Nothing happens, but now it is there.
    while let Ok(turns) = timeout(QUIET, roll.next()).await {
        assert!(turns.is_none() && tries < TRIES, "{turns:?}");
        (roll, tries) = (journal.roll(epoch), tries + 1);
    }
    let who = Incarnation::fresh().unwrap();
    let joined = journal.join(who, &card("till")).await.unwrap();
    let proof = journal.prove(who, joined).await.unwrap().unwrap();
    assert_eq!((proof.epoch.revision, proof.applied), (epoch, None));
    assert!(journal.acknowledge(who, joined, Revision(9)).await.unwrap());
    let proof = journal.prove(who, joined).await.unwrap().unwrap();
    assert_eq!(proof.applied, Some(Revision(9)));

    let Muster { members, .. } = journal.members().await.unwrap();
    let [member] = &members[..] else { panic!("{members:?}") };
    assert_eq!((member.incarnation, member.card.as_ref()), (who, Some(&card("till"))));
    assert_eq!((member.revision, member.is_fenced, member.applied), (joined, false, Revision(9)));
    let fenced = journal.fence(member).await.unwrap().unwrap();
    assert!(journal.fence(member).await.unwrap().is_none(), "it was fenced already");
    assert!(journal.prove(who, joined).await.unwrap().is_none());
    assert!(!journal.acknowledge(who, joined, Revision(10)).await.unwrap());
    assert!(!journal.remove(who, joined).await.unwrap());
    let Muster { members, .. } = journal.members().await.unwrap();
    assert!(members[0].is_fenced && members[0].revision == fenced);
    assert!(journal.remove(who, members[0].revision).await.unwrap());
    assert!(journal.members().await.unwrap().members.is_empty());

    let mut turns = Vec::new();
    while !matches!(turns.last(), Some(Turn::Gone(_))) {
        turns.extend(timeout(WATCHDOG, roll.next()).await.unwrap().unwrap());
    }
    let told = |turn: &Turn| match turn {
        Turn::Changed(member) => {
            format!("{} {}", member.card.as_ref().unwrap().about.name, member.is_fenced)
        }
        Turn::Applied(_, revision) => format!("applied {}", revision.0),
        Turn::Gone(_) => "gone".to_owned(),
    };
    let told: Vec<_> = turns.iter().map(told).collect();
    assert_eq!(told, ["till false", "applied 9", "till true", "gone"]);
}

#[tokio::test]
async fn a_roll_that_comes_too_late_says_so_and_the_next_one_misses_nothing() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let journal = journal(&etcd.urls());
    let epoch = committed(&journal, Revision(0), &[]).await;
    let who = Incarnation::fresh().unwrap();
    let joined = journal.join(who, &card("till")).await.unwrap();
    let mut roll = journal.roll(epoch);
    assert!(timeout(WATCHDOG, roll.next()).await.unwrap().is_none(), "it joined before that");
    // Said after the watch was opened, and before the members are read.
    assert!(journal.acknowledge(who, joined, Revision(7)).await.unwrap());
    let Muster { revision, members, .. } = journal.members().await.unwrap();
    assert_eq!(members[0].applied, Revision(7));
    // And between the reading and the roll that goes on from there.
    assert!(journal.acknowledge(who, joined, Revision(8)).await.unwrap());
    let mut turns = timeout(WATCHDOG, journal.roll(revision).next()).await.unwrap();
    // Where all that took too long, the watch was too old to go on with, and the next one is tried.
    for _ in 1..TRIES {
        if turns.is_none() {
            let revision = journal.members().await.unwrap().revision;
            assert!(journal.acknowledge(who, joined, Revision(8)).await.unwrap());
            turns = timeout(WATCHDOG, journal.roll(revision).next()).await.unwrap();
        }
    }
    let turns = turns.unwrap();
    assert!(matches!(turns[..], [Turn::Applied(_, Revision(8))]), "{turns:?}");
    // A watch from before is of no use where it was not the members' reader who opened it.
    let mut late = journal.roll(epoch);
    assert!(timeout(WATCHDOG, late.next()).await.unwrap().is_none());
    let mut later = journal.roll(Revision(epoch.0 + 1));
    assert!(timeout(WATCHDOG, later.next()).await.unwrap().is_none(), "it skipped what was before");
}

#[tokio::test]
async fn a_frozen_node_is_passed_over() {
    let Some(etcd) = nodes::Etcd::start(3) else { return };
    let journal = journal(&etcd.urls());
    let mut at = committed(&journal, Revision(0), &[]).await;
    let who = Incarnation::fresh().unwrap();
    let joined = journal.join(who, &card("a")).await.unwrap();
    for node in 0..3 {
        let mut tail = Following::after(&journal, at);
        at = committed_in_the_end(&journal, at, &[change(node + 1, [1])]).await;
        tail.batches().await;
        etcd.freeze(usize::try_from(node).unwrap());
        // Whichever node it was, one of the other two leads before long.
        at = committed_in_the_end(&journal, at, &[change(node + 10, [2])]).await;
        let proved = async { while journal.prove(who, joined).await.is_err() {} };
        timeout(WATCHDOG, proved).await.unwrap();
        while !tail.batches().await.iter().any(|batch| batch.revision == at) {}
        etcd.thaw(usize::try_from(node).unwrap());
        timeout(WATCHDOG, async { while journal.newest().await.is_err() {} }).await.unwrap();
    }
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_made_once_and_known_to_be() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let direct = journal(&etcd.urls());
    let start = committed(&direct, Revision(0), &[]).await;
    let deaf = Proxy::to(&etcd.address(0));
    let urls = [deaf.url(), etcd.urls()[0].clone()];
    let (mut at, mut made, mut is_lost) = (start, 0, false);
    while !is_lost && made < JOURNALS {
        made += 1;
        let expected = direct.newest().await.unwrap().epoch;
        let (expected, commits) = (expected.as_ref(), [change(made, [1])]);
        let transaction = Transaction { expected, commits: &commits, epoch: epoch(&commits) };
        deaf.swallow_answers();
        let [heard, _] = deaf.bytes();
        let outcome = journal(&urls).commit(transaction).await;
        is_lost = deaf.bytes()[0] > heard;
        deaf.pass();
        match outcome {
            Outcome::Committed { revision, .. } => at = revision,
            other => panic!("{other:?}"),
        }
    }
    assert!(is_lost, "the deaf node was never asked first");
    let trail = direct.trail(at, 0, 100).await.unwrap();
    assert_eq!(trail.len(), usize::try_from(made).unwrap());
    let newest = direct.newest().await.unwrap().epoch.unwrap();
    assert_eq!((newest.revision, newest.frame), (at, format!("epoch {made}").into_bytes()));
}

#[tokio::test]
async fn etcd_that_is_not_there_is_unreachable_and_not_for_ever() {
    let journal = journal(&["http://127.0.0.1:1".to_owned()]);
    assert!(timeout(WATCHDOG, journal.newest()).await.unwrap().is_err());
    assert!(matches!(commit(&journal, Revision(0), &[]).await, Outcome::Unknown(_)));
}

/// A change with so many records of so many bytes each.
fn large(records: u32, bytes: usize) -> Commit {
    let mut change = change(1, 0..records);
    change.puts.iter_mut().for_each(|put| put.frame = Some(vec![7; bytes]));
    change
}

#[track_caller]
fn refusal(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused(why) => why.into(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_too_much_for_one_transaction_is_refused_and_not_unknown() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let journal = journal(&etcd.urls());
    let start = committed(&journal, Revision(0), &[]).await;
    // The first is more than etcd takes, the last more than its connection does.
    for (records, bytes, expected) in [
        (128, 1, "too many operations"),
        (17, 100_000, "request is too large"),
        (30, 100_000, "larger than max"),
    ] {
        let why = refusal(commit(&journal, start, &[large(records, bytes)]).await);
        assert!(why.contains(expected) && why.contains("128 operations and 1.5 MiB"), "{why}");
    }
    let newest = journal.newest().await.unwrap();
    assert_eq!(newest.revision, start, "nothing was changed");
    // As much as is put into one is taken.
    let most = u32::try_from(MOST_VALUES).unwrap() - 1;
    committed(&journal, start, &[large(most, (MOST_BYTES / MOST_VALUES) - AROUND)]).await;
}

#[tokio::test]
async fn a_change_for_which_etcd_has_no_room_is_refused_and_made_once_there_is_room() {
    let Some(mut etcd) = nodes::Etcd::start(1) else { return };
    etcd.restart_with(0, &["--quota-backend-bytes", "400000"]);
    let journal = journal(&etcd.urls());
    timeout(WATCHDOG, async { while journal.newest().await.is_err() {} }).await.unwrap();
    let mut at = committed(&journal, Revision(0), &[]).await;
    let why = loop {
        match commit(&journal, at, &[large(10, 5000)]).await {
            Outcome::Committed { revision, .. } => at = revision,
            other => break refusal(other),
        }
    };
    assert!(why.contains("database space exceeded") && why.contains("make room"), "{why}");
    assert_eq!(journal.newest().await.unwrap().revision, at, "nothing was changed");
    etcd.compact();
    etcd.say(&["defrag"]);
    etcd.say(&["alarm", "disarm"]);
    committed(&journal, at, &[change(2, [1])]).await;
}

/// etcd makes a change that takes the last of its room, and says all the same that it has none. It
/// does so where another change came between its first look at the room and its second.
#[tokio::test]
async fn a_change_that_took_the_last_room_is_not_called_refused() {
    let Some(mut etcd) = nodes::Etcd::start(1) else { return };
    for (round, room) in ["1000000", "2000000", "3000000"].into_iter().enumerate() {
        // Its size is known anew after each change, not ten times a second.
        etcd.restart_with(0, &["--quota-backend-bytes", room, "--backend-batch-limit", "1"]);
        let urls = etcd.urls();
        let asked = async { while journal(&urls).newest().await.is_err() {} };
        timeout(WATCHDOG, asked).await.unwrap();
        etcd.say(&["alarm", "disarm"]);
        let all = (0..16).map(|space| fill(&urls, format!("portcullis/{round}/{space}/")));
        let are_refused = timeout(WATCHDOG, futures_util::future::join_all(all)).await.unwrap();
        assert!(are_refused.contains(&true), "nothing was refused");
    }
}

/// Changes a space until it is refused, and looks that what was refused was not made; `false` where
/// nobody knows, as the machine has other work.
async fn fill(urls: &[String], space: String) -> bool {
    let journal = EtcdJournal::new(&Etcd::at(urls).unwrap().space(space).unwrap()).unwrap();
    let mut at = Revision(0);
    for sequence in 1.. {
        let mut change = change(sequence, 0..10);
        change.puts.iter_mut().for_each(|put| put.frame = Some(vec![7; 1000]));
        match commit(&journal, at, &[change]).await {
            Outcome::Committed { revision, .. } => at = revision,
            Outcome::Unknown(_) => {
                let Newest { revision, epoch } = journal.newest().await.unwrap();
                let is_made = epoch.is_some_and(|epoch| epoch.revision > at);
                let entry = journal.trail(revision, sequence - 1, 1).await.unwrap();
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
    let newest = journal.newest().await.unwrap().epoch.map(|epoch| epoch.revision);
    assert_eq!(newest.unwrap_or_default(), at, "what was refused was made");
    true
}

#[tokio::test]
async fn a_user_who_may_not_write_is_refused_and_told_so() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let start = committed(&journal(&etcd.urls()), Revision(0), &[]).await;
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
    let reader = EtcdJournal::new(&known("the password")).unwrap();
    let why = refusal(commit(&reader, start, &[change(1, [1])]).await);
    assert!(why.contains("permission denied") && why.contains("below the space"), "{why}");
    assert_eq!(reader.newest().await.unwrap().revision, start);
    let nobody = EtcdJournal::new(&known("another")).unwrap();
    let why = refusal(commit(&nobody, start, &[change(1, [1])]).await);
    assert!(why.contains("authentication failed") && why.contains("its password"), "{why}");
}

/// After one node was silent nobody knows what became of what it was sent, whatever the next one says.
#[tokio::test]
async fn a_refusal_after_a_lost_answer_is_an_unknown_outcome() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    committed(&journal(&etcd.urls()), Revision(0), &[]).await;
    let epoch = journal(&etcd.urls()).newest().await.unwrap().epoch;
    let deaf = Proxy::to(&etcd.address(0));
    let urls = [deaf.url(), etcd.urls()[0].clone()];
    let mut is_unknown = false;
    for _ in 0..JOURNALS {
        deaf.swallow_answers();
        let (expected, commits, frame) = (epoch.as_ref(), [large(128, 1)], b"e".to_vec());
        let transaction = Transaction { expected, commits: &commits, epoch: frame };
        let outcome = journal(&urls).commit(transaction).await;
        deaf.pass();
        is_unknown = matches!(outcome, Outcome::Unknown(_));
        if is_unknown {
            break;
        }
    }
    assert!(is_unknown);
}

#[tokio::test]
async fn uses_are_read_whether_few_or_many_and_change_neither_epoch_nor_what_is_followed() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let journal = journal(&etcd.urls());
    let start = committed(&journal, Revision(0), &[]).await;
    let mut tail = Following::after(&journal, start);
    let id = |number: u64| KeyId::from_u64(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let note = async |numbers: std::ops::Range<u64>, what: &[u8]| {
        let all: Vec<_> = numbers.map(|number| (id(number), what.to_vec())).collect();
        for part in all.chunks(MOST_VALUES) {
            journal.note_uses(part.to_vec()).await.unwrap();
        }
    };
    note(0..130, b"one").await;
    let (upto, uses) = journal.uses(Revision(0)).await.unwrap();
    assert_eq!(uses.len(), 130);
    assert!(journal.uses(upto).await.unwrap().1.is_empty());
    note(5..6, b"two").await;
    assert_eq!(journal.uses(upto).await.unwrap().1, [(id(5), b"two".to_vec())]);
    let of = journal.uses_of(&[id(4), id(999_999), id(5)]).await.unwrap();
    assert_eq!(of, [(id(4), b"one".to_vec()), (id(5), b"two".to_vec())]);
    // More than are read at once.
    note(0..4500, b"three").await;
    let (_, uses) = journal.uses(upto).await.unwrap();
    assert_eq!(uses.iter().filter(|(_, frame)| frame == b"three").count(), 4500);

    let newest = journal.newest().await.unwrap();
    assert_eq!(newest.epoch.unwrap().revision, start);
    let mut deletion = change(1, [1]);
    deletion.puts.push(Put { place: Place::Use(id(5)), frame: None });
    committed(&journal, start, &[deletion]).await;
    let seen = tail.batches().await;
    assert_eq!((seen.len(), seen[0].changes.len()), (1, 1), "uses are not followed: {seen:?}");
    assert!(journal.uses_of(&[id(5)]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_cut_trail_is_swept_some_at_a_time_and_only_where_it_was_cut() {
    let Some(etcd) = nodes::Etcd::start(1) else { return };
    let journal = journal(&etcd.urls());
    let mut at = committed(&journal, Revision(0), &[]).await;
    for first in (1..=2520).step_by(60) {
        let part: Vec<_> = (first..first + 60).map(|number| change(number, [])).collect();
        at = committed(&journal, at, &part).await;
    }
    let mut cut = change(2521, []);
    cut.puts.push(Put { place: Place::AuditStart, frame: Some(b"cut through 2500".to_vec()) });
    let mut tail = Following::after(&journal, at);
    let cut = committed(&journal, at, &[cut]).await;
    assert_eq!(tail.batches().await[0].changes[0].0, Place::AuditStart, "replicas follow it");
    assert_eq!(journal.floor(at).await.unwrap(), None);
    assert_eq!(journal.floor(cut).await.unwrap(), Some(b"cut through 2500".to_vec()));

    // One who knows of another cut removes nothing.
    assert!(!journal.sweep(2500, b"another").await.unwrap());
    let held = async || {
        let at = journal.newest().await.unwrap().revision;
        journal.trail(at, 0, 9999).await.unwrap().len()
    };
    assert_eq!(held().await, 2521);
    let mut left = Vec::new();
    while journal.sweep(2500, b"cut through 2500").await.unwrap() {
        left.push(held().await);
    }
    assert_eq!((left, held().await), (vec![1521, 521], 21));
    assert!(!journal.sweep(2500, b"cut through 2500").await.unwrap());
    assert_eq!(journal.trail(cut, 10, 2).await.unwrap().len(), 2, "a moment before keeps its own");
    let newest = journal.newest().await.unwrap();
    assert_eq!(newest.epoch.unwrap().revision, cut, "a sweep is no change");
}
