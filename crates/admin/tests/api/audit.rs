//! The audit trail as proof: nothing in it can be edited, removed, added or reordered unseen, in
//! the store or in an exported file, and what retention cuts away leaves the rest proved. And all
//! that is done, or refused, by each verb and each door is in it.

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use portcullis::{
    Act, Actor, AuditEntry, Builder, Change, Error, Expiry, Grant, KeyId, NewKey, Offline, Store,
    Timestamp,
    error::{Field, Forbidden},
};
use portcullis_admin::{ExportError, ExportReader, LocalUser, Portal, router};
use portcullis_testkit::{
    basic, issue, new_key, scopes,
    surgery::{age, entry, operate, seal},
};
use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Duration, SystemTime},
};
use tower::ServiceExt;

const PEPPER: &[u8] = b"sixteen bytes at least";
const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn now() -> u64 {
    Timestamp::from(SystemTime::now()).as_millis()
}

fn hours_ago(hours: u64) -> Timestamp {
    Timestamp::from_millis(now() - hours * 3_600_000)
}

/// Asks a router in this process, as a key from an address, or as a user of this machine.
fn ask(
    store: &Store,
    who: Option<&[u8]>,
    method: &str,
    path: &str,
    body: &Value,
) -> (StatusCode, String) {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .extension(ConnectInfo(SocketAddr::new(SOURCE, 9)));
    request = match who {
        Some(key) => request.header("authorization", basic(key)),
        None => request.extension(LocalUser::new(1000)),
    };
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    send(&router(store.clone()), request.body(body).unwrap())
}

fn send(app: &Router, request: Request<Body>) -> (StatusCode, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&bytes).into_owned())
    })
}

fn export(store: &Store) -> Vec<String> {
    let (status, text) = ask(store, None, "GET", "/v1/audit/export", &Value::Null);
    assert_eq!(status, StatusCode::OK, "{text}");
    text.lines().map(str::to_owned).collect()
}

fn check<L: AsRef<str>>(
    offline: &Offline,
    lines: impl IntoIterator<Item = L>,
) -> Result<Vec<AuditEntry>, ExportError> {
    let mut reader = ExportReader::new(offline);
    let mut entries = Vec::new();
    for line in lines {
        entries.extend(reader.line(line.as_ref())?);
    }
    let (count, end) = reader.finish()?;
    assert_eq!(usize::try_from(count), Ok(entries.len()));
    assert!(entries.last().is_none_or(|last| last.sequence == end.sequence));
    Ok(entries)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// A store with a trail of ten entries: 1 catalogue, 2 to 10 keys.
fn filled(home: &Path, builder: Builder) -> Store {
    let store = builder.open(home).unwrap();
    for n in 2..=10 {
        issue(&store, new_key(&store, &format!("key {n}"), &["api.read"]));
    }
    store
}

mod an_export {
    use super::*;

    #[track_caller]
    fn says(lines: &[String], expected: &str) {
        let error = check(&Offline::new(), lines).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn proves_the_whole_trail() {
        for pepper in [None, Some(PEPPER)] {
            let builder = pepper.map_or(Store::builder(), |p| Store::builder().pepper(p));
            let offline = pepper.map_or(Offline::new(), |p| Offline::new().pepper(p));
            let (_dir, home) = portcullis_testkit::home();
            let store = filled(&home, builder);
            let lines = export(&store);
            assert_eq!(lines.len(), 12);
            assert_eq!(check(&offline, &lines).unwrap(), store.audit(0, 100).unwrap());
        }
    }

    #[test]
    fn needs_the_pepper_of_its_store() {
        let (_dir, home) = portcullis_testkit::home();
        let lines = export(&filled(&home, Store::builder().pepper(PEPPER)));
        says(&lines, "the pepper does not match");
        let other = Offline::new().pepper(b"another of sixteen".as_slice());
        assert!(check(&other, &lines).unwrap_err().to_string().contains("pepper"));
    }

    #[test]
    fn shows_an_edited_entry() {
        let (_dir, home) = portcullis_testkit::home();
        let lines = export(&filled(&home, Store::builder()));
        // In the text for people only.
        let mut edited = lines.clone();
        edited[5] = edited[5].replace("\"key 5\"", "\"key V\"");
        assert_ne!(edited, lines);
        says(&edited, "entry 5 does not match its frame");
        // In the frame only, and in both.
        let hex = |name: &str| hex(name.as_bytes());
        let mut edited = lines.clone();
        edited[5] = edited[5].replace(&hex("key 5"), &hex("key V"));
        assert_ne!(edited, lines);
        says(&edited, "entry 5 is not as it was written");
        edited[5] = edited[5].replace("\"key 5\"", "\"key V\"");
        says(&edited, "entry 5 is not as it was written");
    }

    #[test]
    fn shows_a_removed_an_added_and_a_reordered_entry() {
        let (_dir, home) = portcullis_testkit::home();
        let lines = export(&filled(&home, Store::builder()));
        let mut removed = lines.clone();
        removed.remove(4);
        says(&removed, "entry 4 is missing: entry 5 stands in its place");
        let mut twice = lines.clone();
        twice.insert(5, lines[4].clone());
        says(&twice, "entry 4 stands where entry 5 should");
        let mut swapped = lines.clone();
        swapped.swap(4, 5);
        says(&swapped, "entry 4 is missing: entry 5 stands in its place");
        // One from another store, with the right number.
        let (_dir, other) = portcullis_testkit::home();
        let mut added = lines.clone();
        added[4].clone_from(&export(&filled(&other, Store::builder()))[4]);
        says(&added, "entry 4 is not as it was written");
    }

    #[test]
    fn shows_that_its_tail_was_cut_off() {
        let (_dir, home) = portcullis_testkit::home();
        let lines = export(&filled(&home, Store::builder()));
        says(&lines[..8], "it ends after entry 7 without a trailer");
        let mut cut = lines.clone();
        cut.drain(8..11);
        says(&cut, "it ends at entry 7, but its trailer names entry 10");
        cut[8] = cut[8].replace("\"sequence\":10", "\"sequence\":7");
        says(&cut, "the trailer is not as it was written");
        says(&[], "it is empty");
        let mut headless = lines.clone();
        headless.remove(0);
        says(&headless, "not a header");
        let mut later = lines.clone();
        later[0] = later[0].replace("\"after\":0", "\"after\":1");
        says(&later, "the header is not as it was written");
    }

    #[test]
    fn of_a_store_with_a_pepper_cannot_be_sealed_anew() {
        let (_dir, home) = portcullis_testkit::home();
        let offline = Offline::new().pepper(PEPPER);
        let store = filled(&home, Store::builder().pepper(PEPPER));
        let lines = export(&store);
        let trailer: Value = serde_json::from_str(&lines[11]).unwrap();
        // The same trailer for a shorter trail, with the seal that anyone can compute.
        let told: Value = serde_json::from_str(&lines[7]).unwrap();
        let frame = told["frame"].as_str().unwrap();
        let head = &frame[frame.len() - 64..];
        let bytes = |text: &str| -> Vec<u8> {
            (0..text.len() / 2)
                .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap())
                .collect()
        };
        let time: jiff_free::Millis = jiff_free::millis(trailer["time"].as_str().unwrap());
        let numbers = [7u64.to_le_bytes(), time.to_le_bytes()].concat();
        let store_id = bytes(trailer["store"].as_str().unwrap());
        let tag = seal("trail", &[b"trail end", &store_id, &numbers, &bytes(head)]);
        let tag = hex(&tag[..16]);
        let forged = json!({"store": trailer["store"], "sequence": 7, "head": head, "time": trailer["time"], "seal": tag});
        let mut cut = lines[..8].to_vec();
        cut.push(forged.to_string());
        let error = check(&offline, &cut).unwrap_err().to_string();
        assert!(error.contains("the trailer is not as it was written"), "{error}");
    }

    /// The moment of an RFC 3339 text in milliseconds, without a library of its own.
    mod jiff_free {
        pub(super) type Millis = u64;

        pub(super) fn millis(text: &str) -> Millis {
            // Days from the civil date, after Howard Hinnant.
            let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
            let (y, m, d) = (number(0..4), number(5..7), number(8..10));
            let y = if m <= 2 { y - 1 } else { y };
            let yoe = y - y.div_euclid(400) * 400;
            let doy = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
            let days =
                y.div_euclid(400) * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468;
            let seconds =
                days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
            let fraction = text.get(19..).unwrap().trim_start_matches('.').trim_end_matches('Z');
            let millis: i64 = format!("{fraction:0<3}").parse().unwrap();
            u64::try_from(seconds * 1000 + millis).unwrap()
        }
    }

    #[test]
    fn is_given_in_parts_that_join_on_to_one_another() {
        let (_dir, home) = portcullis_testkit::home();
        let store = filled(&home, Store::builder());
        let part = |query: &str| {
            let (status, text) =
                ask(&store, None, "GET", &format!("/v1/audit/export?{query}"), &Value::Null);
            assert_eq!(status, StatusCode::OK, "{text}");
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let first = part("limit=4");
        assert_eq!(first.len(), 6);
        says(&first, "it ends at entry 4, but its trailer names entry 10: it was truncated");
        // A later export goes on where an earlier one ended, or repeats some of it.
        let early = export(&store);
        issue(&store, new_key(&store, "later", &[]));
        for after in [10, 6] {
            let later = part(&format!("after={after}"));
            let both = early.iter().chain(&later);
            let told = check(&Offline::new(), both).unwrap();
            assert_eq!(told.last().unwrap().sequence, 11);
        }
        // One after a gap does not.
        let apart = early.iter().chain(&part("after=11")).cloned().collect::<Vec<_>>();
        says(&apart, "it begins after entry 11");
        let (_dir, other) = portcullis_testkit::home();
        let other = export(&filled(&other, Store::builder()));
        let foreign = early.iter().chain(&other).cloned().collect::<Vec<_>>();
        says(&foreign, "another store");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn that_was_changed_anywhere_is_never_taken_for_whole(
            flips in vec((0usize..4096, any::<u8>()), 1..3),
        ) {
            let (_dir, home) = portcullis_testkit::home();
            let store = Store::open(&home).unwrap();
            issue(&store, new_key(&store, "a", &["api.read"]));
            let whole = export(&store).join("\n").into_bytes();
            let mut bytes = whole.clone();
            for (at, byte) in flips {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let Ok(text) = String::from_utf8(bytes.clone()) else { return Ok(()) };
            match check(&Offline::new(), text.lines()) {
                Err(_) => {}
                // Spaces between the words of JSON say nothing.
                Ok(entries) => {
                    let same = entries == store.audit(0, 9).unwrap();
                    if !same { return Err(TestCaseError::fail("changed unseen")) }
                }
            }
        }
    }
}

mod a_cut {
    use super::*;

    /// A store whose first ten entries are four days old, and then some that are not.
    fn house() -> (tempfile::TempDir, std::path::PathBuf, Store) {
        let (dir, home) = portcullis_testkit::home();
        drop(filled(&home, Store::builder()));
        age(&home, 100);
        let store = Store::open(&home).unwrap();
        issue(&store, new_key(&store, "young", &["api.read"]));
        (dir, home, store)
    }

    fn cut(store: &Store) -> Result<Option<portcullis::Pruned>, Error> {
        store.acting_as(Actor::Local(7), Some(SOURCE)).prune_audit(hours_ago(30))
    }

    #[test]
    fn leaves_a_trail_that_is_proved_from_there_on() {
        let (_dir, home, store) = house();
        let before = export(&store);
        let done = cut(&store).unwrap().unwrap();
        assert_eq!((done.sequence, done.through, done.removed), (12, 10, 10));
        let told = store.audit(0, 100).unwrap();
        assert_eq!(told.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [11, 12]);
        let Act::Prune { through, head } = &told[1].act else { panic!("{told:?}") };
        let last: Value = serde_json::from_str(&before[10]).unwrap();
        let hex = hex(head);
        assert!(*through == 10 && last["frame"].as_str().unwrap().ends_with(&hex));
        assert_eq!((told[1].actor, told[1].source), (Actor::Local(7), Some(SOURCE)));

        // What stays is proved, alone and joined on to what was exported before.
        let after = export(&store);
        assert_eq!(check(&Offline::new(), &after).unwrap(), told);
        let both = check(&Offline::new(), before.iter().chain(&after)).unwrap();
        assert_eq!(both.len(), 12);

        // The entries are gone from the disk, and the store opens, goes on and is healthy.
        drop(store);
        operate(&home, |db| {
            assert_eq!(
                (1..=12).filter(|n| db.contains_key(entry(*n)).unwrap()).collect::<Vec<_>>(),
                [11, 12]
            );
        });
        let store = Store::open(&home).unwrap();
        assert_eq!(store.audit(3, 100).unwrap(), told);
        assert_eq!(store.audit(11, 100).unwrap(), told[1..]);
        issue(&store, new_key(&store, "younger", &[]));
        drop(store);
        let report = Offline::new().examine(&home, home.parent().unwrap()).unwrap();
        assert!(report.is_healthy(), "{report:#?}");
        assert_eq!(report.entries, 3);
    }

    #[test]
    fn can_be_made_again_and_again() {
        let (_dir, home, store) = house();
        cut(&store).unwrap().unwrap();
        assert_eq!(cut(&store).unwrap(), None);
        let early = export(&store);
        drop(store);
        age(&home, 100);
        let store = Store::open(&home).unwrap();
        issue(&store, new_key(&store, "younger", &[]));
        let done = cut(&store).unwrap().unwrap();
        assert_eq!((done.sequence, done.through, done.removed), (14, 12, 2));
        let told = store.audit(0, 9).unwrap();
        assert_eq!(told.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [13, 14]);
        assert_eq!(check(&Offline::new(), export(&store)).unwrap(), told);
        assert_eq!(check(&Offline::new(), early).unwrap().len(), 2);
        drop(store);
        let report = Offline::new().examine(&home, home.parent().unwrap()).unwrap();
        assert!(report.is_healthy(), "{report:#?}");
    }

    #[test]
    fn takes_nothing_that_the_last_day_needs() {
        let (_dir, _home, store) = house();
        let acting = store.acting_as(Actor::Host, None);
        let refused = acting.prune_audit(hours_ago(23));
        assert!(matches!(refused, Err(Error::Invalid { field: Field::Before, .. })), "{refused:?}");
        let request = portcullis::Idempotency { key: b"once", route: "POST", payload: b"a" };
        let made = acting.issue_once(new_key(&store, "a", &[]), &request).unwrap();
        let portcullis::Outcome::Issued(made) = made else { panic!("{made:?}") };
        acting.prune_audit(hours_ago(25)).unwrap().unwrap();
        let again = store
            .acting_as(Actor::Host, None)
            .issue_once(new_key(&store, "a", &[]), &request)
            .unwrap();
        let portcullis::Outcome::Before(again) = again else { panic!("{again:?}") };
        assert_eq!(again.id, made.record.id);
    }

    #[test]
    fn is_remembered_where_requests_are_read_back() {
        let (_dir, home, store) = house();
        let request = portcullis::Idempotency { key: b"once", route: "POST", payload: b"a" };
        store.acting_as(Actor::Host, None).issue_once(new_key(&store, "a", &[]), &request).unwrap();
        cut(&store).unwrap().unwrap();
        drop(store);
        let store = Store::open(&home).unwrap();
        let again =
            store.acting_as(Actor::Host, None).issue_once(new_key(&store, "a", &[]), &request);
        assert!(matches!(again, Ok(portcullis::Outcome::Before(_))), "{again:?}");
    }

    #[test]
    fn is_the_machines_alone() {
        let (_dir, _home, store) = house();
        let root = NewKey { grant: Grant::All, ..new_key(&store, "root", &[]) };
        let (id, key) = issue(&store, root);
        let (other, _) = issue(&store, NewKey { grant: Grant::All, ..new_key(&store, "b", &[]) });
        let refused = store.acting_as(Actor::Key(other), None).prune_audit(hours_ago(30));
        assert!(matches!(refused, Err(Error::Forbidden(Forbidden::PruneIsLocal))), "{refused:?}");
        let told = store.audit(0, 100).unwrap().len();
        let body = json!({"before": "2001-01-01T00:00:00Z"});
        let (status, _) = ask(&store, Some(&key), "POST", "/v1/audit/cut", &body);
        assert_eq!(status, StatusCode::FORBIDDEN);
        let last = store.audit(0, 100).unwrap();
        assert_eq!(last.len(), told + 1);
        let Act::Refuse { attempt, .. } = &last[told].act else { panic!("{last:?}") };
        assert_eq!(
            (attempt.as_str(), last[told].actor, last[told].source),
            ("cut", Actor::Key(id), Some(SOURCE))
        );
    }

    #[test]
    fn is_not_undone_by_a_kill_before_the_sweep() {
        let (_dir, home, store) = house();
        let frames =
            |db: &sled::Db| (1..=10).map(|n| db.get(entry(n)).unwrap()).collect::<Vec<_>>();
        drop(store);
        let old = operate(&home, frames);
        let store = Store::open(&home).unwrap();
        cut(&store).unwrap().unwrap();
        drop(store);
        // The entries lie there still, as after a kill between the cut and the sweep.
        operate(&home, |db| {
            for (n, frame) in (1..).zip(&old) {
                db.insert(entry(n), frame.as_ref().unwrap()).unwrap();
            }
        });
        let store = Store::open(&home).unwrap();
        assert_eq!(store.audit(0, 100).unwrap()[0].sequence, 11);
        let patience = SystemTime::now() + Duration::from_secs(20);
        while store.acting_as(Actor::Host, None).prune_audit(hours_ago(30)).unwrap().is_some() {
            assert!(SystemTime::now() < patience);
        }
        issue(&store, new_key(&store, "wakes the writer", &[]));
        // Closing waits for the writer, which sweeps before it waits.
        std::thread::sleep(Duration::from_millis(1500));
        drop(store);
        assert!(operate(&home, frames).iter().all(Option::is_none));
    }

    #[test]
    fn of_a_trail_of_many_strides_leaves_nothing_behind() {
        let (_dir, home) = portcullis_testkit::home();
        let store = Store::open(&home).unwrap();
        let (id, _) = issue(&store, new_key(&store, "a", &["api.read"]));
        let store_ref = &store;
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    for n in 0..320 {
                        let name = Some(format!("{thread} {n}"));
                        store_ref.update(id, Change { name, ..Change::default() }).unwrap();
                    }
                });
            }
        });
        drop(store);
        age(&home, 100);
        let store = Store::open(&home).unwrap();
        let done = cut(&store).unwrap().unwrap();
        assert_eq!(done.removed, 2 + 8 * 320);
        drop(store);
        let left = operate(&home, |db| db.scan_prefix(b"a").count());
        assert_eq!(left, 1);
    }
}

mod each_verb_and_each_door {
    use super::*;

    struct House {
        _dir: tempfile::TempDir,
        store: Store,
        told: u64,
    }

    impl House {
        fn new() -> Self {
            let (dir, home) = portcullis_testkit::home();
            let store = Store::open(home).unwrap();
            Self { _dir: dir, store, told: 1 }
        }

        fn key(&mut self, name: &str, names: &[&str]) -> (KeyId, Vec<u8>) {
            let made = issue(&self.store, new_key(&self.store, name, names));
            self.told += 1;
            made
        }

        /// The one entry that was written since.
        #[track_caller]
        fn entry(&mut self) -> AuditEntry {
            let before = now();
            let mut entries = self.store.audit(self.told, 100).unwrap();
            assert_eq!(entries.len(), 1, "{entries:?}");
            self.told += 1;
            let entry = entries.pop().unwrap();
            assert!(entry.at.as_millis().abs_diff(before) < 60_000);
            entry
        }

        #[track_caller]
        fn refused(&mut self, actor: Actor, attempt: &str, key: Option<KeyId>) {
            let entry = self.entry();
            let Act::Refuse { attempt: told, .. } = &entry.act else { panic!("{entry:?}") };
            assert_eq!(
                (told.as_str(), entry.actor, entry.source, entry.key),
                (attempt, actor, Some(SOURCE), key)
            );
        }
    }

    #[test]
    fn tells_every_change_with_who_whence_before_and_after() {
        let mut house = House::new();
        let names =
            ["admin.key.create", "admin.key.update", "admin.key.delete", "api.read", "api.write"];
        let (clerk, _) = house.key("clerk", &names);
        let store = house.store.clone();
        let acting = store.acting_as(Actor::Key(clerk), Some(SOURCE));
        let made = acting.issue(new_key(&store, "a", &["api.read", "api.write"])).unwrap().record;
        let mut told = house.entry();
        assert_eq!((told.act.clone(), told.key), (Act::Create, Some(made.id)));
        assert_eq!(told.before, Change::default());
        assert_eq!(told.after.grant, Some(made.grant));
        assert_eq!((told.after.active, told.after.name.as_deref()), (Some(true), Some("a")));
        let narrow = Change {
            grant: Some(scopes(&store, &["api.read"])),
            expiry: Some(Expiry::At(Timestamp::from_secs(4_000_000_000))),
            ..Change::default()
        };
        acting.update(made.id, narrow.clone()).unwrap();
        let update = house.entry();
        assert_eq!((update.act.clone(), &update.after), (Act::Update, &narrow));
        assert_eq!(
            (update.before.grant, update.before.expiry),
            (Some(made.grant), Some(Expiry::Never))
        );
        let new = acting.rotate(made.id, Duration::ZERO).unwrap().record.id;
        let rotate = house.entry();
        assert_eq!((rotate.act.clone(), rotate.key), (Act::Rotate { into: new }, Some(made.id)));
        assert_eq!((&rotate.before, &rotate.after), (&Change::activate(), &Change::deactivate()));
        acting.revoke(new).unwrap();
        let revoke = house.entry();
        assert_eq!((&revoke.before, &revoke.after), (&Change::activate(), &Change::deactivate()));
        acting.delete(new).unwrap();
        let delete = house.entry();
        assert_eq!((delete.act.clone(), &delete.after), (Act::Delete, &Change::default()));
        assert_eq!(delete.before.name.as_deref(), Some("a"));
        for entry in [&told, &update, &rotate, &revoke, &delete] {
            assert_eq!((entry.actor, entry.source), (Actor::Key(clerk), Some(SOURCE)));
        }
        // Each is in the change's own transaction: it has the number that the record has.
        told.sequence += 1;
        assert_eq!(told.sequence, update.sequence);
        assert_eq!(store.get(made.id).unwrap().revision, rotate.sequence);
    }

    #[test]
    fn tells_every_act_that_the_rules_refuse() {
        let mut house = House::new();
        let (clerk, _) =
            house.key("clerk", &["admin.key.create", "admin.key.update", "admin.key.delete"]);
        let (feeble, _) = house.key("feeble", &[]);
        let (strong, _) = house.key("strong", &["api.write"]);
        let (root, _) = {
            let new = NewKey { grant: Grant::All, ..new_key(&house.store, "root", &[]) };
            house.told += 1;
            issue(&house.store, new)
        };
        let store = house.store.clone();
        let as_clerk = store.acting_as(Actor::Key(clerk), Some(SOURCE));
        as_clerk.issue(new_key(&store, "x", &["api.write"])).unwrap_err();
        house.refused(Actor::Key(clerk), "create", None);
        as_clerk.rotate(strong, Duration::ZERO).unwrap_err();
        house.refused(Actor::Key(clerk), "rotate", Some(strong));
        as_clerk.delete(strong).unwrap_err();
        house.refused(Actor::Key(clerk), "delete", Some(strong));
        as_clerk.revoke(root).unwrap_err();
        house.refused(Actor::Key(clerk), "update", Some(root));
        as_clerk.prune_audit(hours_ago(30)).unwrap_err();
        house.refused(Actor::Key(clerk), "cut", None);
        store
            .acting_as(Actor::Key(feeble), Some(SOURCE))
            .issue(new_key(&store, "x", &[]))
            .unwrap_err();
        house.refused(Actor::Key(feeble), "create", None);
        for id in [strong, "key_00000000000".parse().unwrap()] {
            // The same key's same acts would be counted.
            let (weak, _) = house.key("weak", &[]);
            let as_weak = store.acting_as(Actor::Key(weak), Some(SOURCE));
            as_weak.revoke(id).unwrap_err();
            house.refused(Actor::Key(weak), "update", Some(id));
            as_weak.rotate(id, Duration::ZERO).unwrap_err();
            house.refused(Actor::Key(weak), "rotate", Some(id));
            as_weak.delete(id).unwrap_err();
            house.refused(Actor::Key(weak), "delete", Some(id));
        }
        // A key that was taken away does nothing more, and what it tries is told.
        store.revoke(clerk).unwrap();
        house.told += 1;
        as_clerk.issue(new_key(&store, "x", &[])).unwrap_err();
        house.refused(Actor::Key(clerk), "create", None);
        // The host and the machine are told of as well.
        store.delete(strong).unwrap_err();
        let told = house.entry();
        assert_eq!((told.actor, told.act.as_str()), (Actor::Host, "refuse"));
    }

    #[test]
    fn tells_what_each_route_of_the_api_refuses_and_does() {
        let mut house = House::new();
        let (other, _) = house.key("other", &["api.read"]);
        let store = house.store.clone();
        let one = format!("/v1/keys/{other}");
        let new = json!({"name": "x", "scopes": []});
        let cases = [
            ("POST", "/v1/keys".to_owned(), new.clone(), "create", None),
            ("GET", "/v1/keys".to_owned(), Value::Null, "list", None),
            ("GET", one.clone(), Value::Null, "list", Some(other)),
            ("PATCH", one.clone(), json!({"active": false}), "update", Some(other)),
            ("DELETE", one.clone(), Value::Null, "delete", Some(other)),
            ("POST", format!("{one}/rotate"), json!({}), "rotate", Some(other)),
            ("GET", "/v1/scopes".to_owned(), Value::Null, "list", None),
            ("GET", "/v1/audit".to_owned(), Value::Null, "list", None),
            ("GET", "/v1/audit/export".to_owned(), Value::Null, "list", None),
            (
                "POST",
                "/v1/audit/cut".to_owned(),
                json!({"before": "2001-01-01T00:00:00Z"}),
                "cut",
                None,
            ),
            ("POST", "/v1/verify".to_owned(), json!({"key": "x"}), "verify", None),
        ];
        for (method, path, body, attempt, id) in cases {
            // The same key's same acts would be counted.
            let (weak, key) = house.key("weak", &["api.read"]);
            let (status, said) = ask(&store, Some(&key), method, &path, &body);
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} {said}");
            house.refused(Actor::Key(weak), attempt, id);
        }
        // The same by a user of this machine is done and told, with that user and no address.
        let done = [
            ("POST", "/v1/keys".to_owned(), new, "create"),
            ("POST", format!("{one}/rotate"), json!({"grace_seconds": 60}), "rotate"),
            ("PATCH", one.clone(), json!({"active": false}), "update"),
            ("DELETE", one.clone(), Value::Null, "delete"),
        ];
        for (method, path, body, act) in done {
            let (status, said) = ask(&store, None, method, &path, &body);
            assert!(status.is_success(), "{method} {path} {said}");
            let told = house.entry();
            assert_eq!(
                (told.act.as_str(), told.actor, told.source),
                (act, Actor::Local(1000), None)
            );
        }
    }

    #[test]
    fn tells_nothing_of_who_is_not_let_in() {
        let mut house = House::new();
        let (off, inactive) = house.key("off", &["api.read"]);
        let store = house.store.clone();
        store.revoke(off).unwrap();
        house.entry();
        let portal =
            Portal::new(store.clone()).at("https://keys.example".parse().unwrap()).router();
        for key in [&inactive, &b"somebody".to_vec()] {
            for (method, path) in [
                ("GET", "/v1/whoami"),
                ("GET", "/v1/keys"),
                ("POST", "/v1/keys"),
                ("DELETE", "/v1/keys/key_00000000000"),
                ("GET", "/v1/audit"),
                ("POST", "/v1/verify"),
                ("GET", "/authz?scope=api.read"),
            ] {
                let (status, said) = ask(&store, Some(key), method, path, &Value::Null);
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path} {said}");
            }
            let login = Request::post("/login")
                .header("origin", "https://keys.example")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from([b"key=", &key[..]].concat()));
            let (status, said) = send(&portal, login.unwrap());
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{said}");
        }
        assert_eq!(store.audit(house.told, 100).unwrap(), []);
    }
}

mod a_refused_act_that_repeats {
    use super::*;
    use portcullis::Attempt;

    const FLOOD: u64 = 10_000;

    /// A store, a key without scopes, and the number of the newest entry.
    fn house() -> (tempfile::TempDir, std::path::PathBuf, Store, KeyId) {
        let (dir, home) = portcullis_testkit::home();
        let store = Store::open(&home).unwrap();
        let (id, _) = issue(&store, new_key(&store, "weak", &["api.read"]));
        (dir, home, store, id)
    }

    fn flood(store: &Store, id: KeyId) {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let acting = store.acting_as(Actor::Key(id), Some(SOURCE));
                    for _ in 0..FLOOD / 4 {
                        acting.refuse(Attempt::List, None, "lacks it").unwrap();
                    }
                });
            }
        });
    }

    /// What the trail has after its first two entries, the counted entries of one act summed up.
    fn refused(store: &Store) -> Vec<(Attempt, String, u64)> {
        let mut told = Vec::new();
        for entry in store.audit(2, 1000).unwrap() {
            match entry.act {
                Act::Refuse { attempt, reason } => told.push((attempt, reason, 0)),
                Act::RefuseRepeated { attempt, reason, count, first, last } => {
                    assert!(first <= last && last <= entry.at);
                    told.push((attempt, reason, count));
                }
                _ => {}
            }
        }
        told
    }

    #[test]
    fn ten_thousand_times_is_two_entries_with_an_exact_count_and_span() {
        let (_dir, home, store, id) = house();
        let begun = now();
        flood(&store, id);
        let ended = now();
        let told = refused(&store);
        // More only if the flood takes longer than a minute.
        assert!((1..=2 + (ended - begun) / 60_000 * 2).contains(&(told.len() as u64)), "{told:?}");
        drop(store);
        let store = Store::open(&home).unwrap();
        let told = store.audit(2, 1000).unwrap();
        let mut sum = 0;
        for entry in &told {
            assert_eq!((entry.actor, entry.source), (Actor::Key(id), Some(SOURCE)));
            match &entry.act {
                Act::Refuse { .. } => sum += 1,
                Act::RefuseRepeated { attempt, reason, count, first, last } => {
                    sum += count;
                    assert_eq!((*attempt, reason.as_str()), (Attempt::List, "lacks it"));
                    // The coarse clock is a few milliseconds behind.
                    assert!(begun <= first.as_millis() + 1000 && last.as_millis() <= ended);
                    assert!(first <= last && *last <= entry.at);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sum, FLOOD);
    }

    #[test]
    fn is_an_entry_at_once_if_its_actor_act_or_reason_is_another() {
        let (_dir, _home, store, id) = house();
        let acting = |actor| store.acting_as(actor, None);
        let acts = [
            (Actor::Key(id), Attempt::List, "a"),
            (Actor::Key(id), Attempt::List, "b"),
            (Actor::Key(id), Attempt::Create, "a"),
            (Actor::Local(7), Attempt::List, "a"),
            (Actor::Host, Attempt::List, "a"),
        ];
        for _ in 0..3 {
            for (actor, attempt, reason) in acts {
                acting(actor).refuse(attempt, None, reason).unwrap();
            }
        }
        let told: Vec<_> = store.audit(2, 100).unwrap();
        let told: Vec<_> = told.iter().map(|entry| (entry.actor, &entry.act)).collect();
        let expected = acts.map(|(actor, attempt, reason)| {
            (actor, Act::Refuse { attempt, reason: reason.into() })
        });
        let expected: Vec<_> = expected.iter().map(|(actor, act)| (*actor, act)).collect();
        assert_eq!(told, expected);
    }

    /// A copy of the directory is what a kill leaves behind.
    #[test]
    fn loses_its_open_count_alone_in_a_crash() {
        let (dir, home, store, id) = house();
        let acting = store.acting_as(Actor::Key(id), None);
        let copied = |name: &str| {
            let copy = dir.path().join(name);
            portcullis_testkit::copy(&home, &copy);
            let store = Store::open(copy).unwrap();
            refused(&store)
        };
        acting.refuse(Attempt::List, None, "a").unwrap();
        let first = [(Attempt::List, "a".to_owned(), 0)];
        assert_eq!(copied("at once"), first);
        for _ in 0..100 {
            acting.refuse(Attempt::List, None, "a").unwrap();
        }
        assert_eq!(copied("later"), first);
        store.revoke(id).unwrap();
        assert_eq!(copied("behind a change"), first);
        drop(store);
        let [first] = first;
        let told = [first, (Attempt::List, "a".to_owned(), 100)];
        assert_eq!(refused(&Store::open(&home).unwrap()), told);
    }

    #[test]
    fn has_a_shared_account_where_one_key_gives_many_reasons() {
        let (_dir, home, store, id) = house();
        let acting = store.acting_as(Actor::Key(id), None);
        for reason in 0..1000 {
            acting.refuse(Attempt::Rotate, None, &format!("reason {reason}")).unwrap();
        }
        drop(store);
        let told = refused(&Store::open(&home).unwrap());
        // Each by itself, the first of the others, and all the rest.
        assert_eq!(told.len(), 16 + 1 + 1, "{told:?}");
        assert_eq!(told[17], (Attempt::Rotate, "(several other reasons)".into(), 1000 - 17));
    }
}

#[test]
fn export_given_twice_counts_its_entries_once() {
    let (_dir, home) = portcullis_testkit::home();
    let store = filled(&home, Builder::default());
    let (offline, all) = (Offline::new(), export(&store));
    let entries = check(&offline, &all).unwrap().len();
    assert!(entries > 2);
    assert_eq!(check(&offline, all.iter().chain(&all)).unwrap().len(), entries);
    store.acting_as(Actor::Host, None).refuse(portcullis::Attempt::List, None, "x").unwrap();
    let longer = export(&store);
    // The end is that of the part that reaches furthest, wherever it stands.
    for parts in [[&all, &longer, &all], [&longer, &all, &all], [&all, &all, &longer]] {
        let told = check(&offline, parts.into_iter().flatten()).unwrap();
        let told: Vec<u64> = told.iter().map(|entry| entry.sequence).collect();
        assert_eq!(told, (1..=entries as u64 + 1).collect::<Vec<_>>());
    }
}
