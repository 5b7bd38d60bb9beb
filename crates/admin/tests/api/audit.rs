//! The audit log over the API: an export detects every edited, removed, added or reordered entry,
//! also after pruning, and each route records its act or its refusal.

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use portcullis::{
    Actor, Builder, Error, Grant, Offline, Store,
    audit::{Act, AuditEntry},
};
use portcullis_admin::{ExportError, ExportReader, LocalUser, Portal, router};
use portcullis_testkit::{
    audit::{AuditedStore, SOURCE, fill_to_ten_entries, hours_ago, store_with_old_entries},
    basic, issue, new_key,
    surgery::{age, entry, operate, seal},
};
use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path};
use tower::ServiceExt;

const PEPPER: &[u8] = b"sixteen bytes at least";

/// Sends a request to the API: with a key from `SOURCE`, or as a local user without a key.
fn request(
    store: &Store,
    key: Option<&[u8]>,
    method: &str,
    path: &str,
    body: &Value,
) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .extension(ConnectInfo(SocketAddr::new(SOURCE, 9)));
    let request = match key {
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
    let (status, text) = request(store, None, "GET", "/v1/audit/export", &Value::Null);
    assert_eq!(status, StatusCode::OK, "{text}");
    text.lines().map(str::to_owned).collect()
}

/// Verifies the lines of an export.
fn verify<L: AsRef<str>>(
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

/// Creates a store whose audit log has ten entries: 1 is the catalogue, 2 to 10 are keys.
fn store_with_ten_entries(home: &Path, builder: Builder) -> Store {
    let store = builder.open(home).unwrap();
    fill_to_ten_entries(&store);
    store
}

mod exports {
    use super::*;

    #[track_caller]
    fn assert_invalid(lines: &[String], expected: &str) {
        let error = verify(&Offline::new(), lines).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn export_of_the_complete_log_verifies() {
        for pepper in [None, Some(PEPPER)] {
            let builder = pepper
                .map_or(portcullis_testkit::builder(), |p| portcullis_testkit::builder().pepper(p));
            let offline = pepper.map_or(Offline::new(), |p| Offline::new().pepper(p));
            let (_dir, home) = portcullis_testkit::home();
            let store = store_with_ten_entries(&home, builder);
            let lines = export(&store);
            assert_eq!(lines.len(), 12);
            assert_eq!(verify(&offline, &lines).unwrap(), store.audit(0, 100).unwrap());
        }
    }

    #[test]
    fn export_verifies_only_with_the_pepper_of_its_store() {
        let (_dir, home) = portcullis_testkit::home();
        let lines =
            export(&store_with_ten_entries(&home, portcullis_testkit::builder().pepper(PEPPER)));
        assert_invalid(&lines, "the pepper does not match");
        let other = Offline::new().pepper(b"another of sixteen".as_slice());
        assert!(verify(&other, &lines).unwrap_err().to_string().contains("pepper"));
    }

    #[test]
    fn edited_entry_is_detected() {
        let (_dir, home) = portcullis_testkit::home();
        let lines = export(&store_with_ten_entries(&home, portcullis_testkit::builder()));
        // Only in the JSON.
        let mut edited = lines.clone();
        edited[5] = edited[5].replace("\"key 5\"", "\"key V\"");
        assert_ne!(edited, lines);
        assert_invalid(&edited, "entry 5 does not match its frame");
        // Only in the frame, then in both.
        let hex = |name: &str| hex(name.as_bytes());
        let mut edited = lines.clone();
        edited[5] = edited[5].replace(&hex("key 5"), &hex("key V"));
        assert_ne!(edited, lines);
        assert_invalid(&edited, "entry 5 is not as it was written");
        edited[5] = edited[5].replace("\"key 5\"", "\"key V\"");
        assert_invalid(&edited, "entry 5 is not as it was written");
    }

    #[test]
    fn removed_added_and_reordered_entries_are_detected() {
        let (_dir, home) = portcullis_testkit::home();
        let lines = export(&store_with_ten_entries(&home, portcullis_testkit::builder()));
        let mut removed = lines.clone();
        removed.remove(4);
        assert_invalid(&removed, "entry 4 is missing: entry 5 is in its place");
        let mut twice = lines.clone();
        twice.insert(5, lines[4].clone());
        assert_invalid(&twice, "entry 4 is in the place of entry 5");
        let mut swapped = lines.clone();
        swapped.swap(4, 5);
        assert_invalid(&swapped, "entry 4 is missing: entry 5 is in its place");
        // An entry of another store with the same sequence.
        let (_dir, other) = portcullis_testkit::home();
        let mut added = lines.clone();
        added[4]
            .clone_from(&export(&store_with_ten_entries(&other, portcullis_testkit::builder()))[4]);
        assert_invalid(&added, "entry 4 is not as it was written");
    }

    #[test]
    fn truncated_export_is_detected() {
        let (_dir, home) = portcullis_testkit::home();
        let lines = export(&store_with_ten_entries(&home, portcullis_testkit::builder()));
        assert_invalid(&lines[..8], "it ends after entry 7 without a trailer");
        let mut truncated = lines.clone();
        truncated.drain(8..11);
        assert_invalid(&truncated, "it ends at entry 7, but its trailer names entry 10");
        truncated[8] = truncated[8].replace("\"sequence\":10", "\"sequence\":7");
        assert_invalid(&truncated, "the trailer is not as it was written");
        assert_invalid(&[], "it is empty");
        let mut without_header = lines.clone();
        without_header.remove(0);
        assert_invalid(&without_header, "not a header");
        let mut later = lines.clone();
        later[0] = later[0].replace("\"after\":0", "\"after\":1");
        assert_invalid(&later, "the header is not as it was written");
    }

    #[test]
    fn trailer_forged_without_the_pepper_is_detected() {
        let (_dir, home) = portcullis_testkit::home();
        let offline = Offline::new().pepper(PEPPER);
        let store = store_with_ten_entries(&home, portcullis_testkit::builder().pepper(PEPPER));
        let lines = export(&store);
        let trailer: Value = serde_json::from_str(&lines[11]).unwrap();
        // A trailer for a shorter log, with the seal that needs no pepper.
        let last: Value = serde_json::from_str(&lines[7]).unwrap();
        let frame = last["frame"].as_str().unwrap();
        let head = &frame[frame.len() - 64..];
        let bytes = |text: &str| -> Vec<u8> {
            (0..text.len() / 2)
                .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap())
                .collect()
        };
        let time = unix_millis(trailer["time"].as_str().unwrap());
        let numbers = [7u64.to_le_bytes(), time.to_le_bytes()].concat();
        let store_id = bytes(trailer["store"].as_str().unwrap());
        let tag = seal("trail", &[b"trail end", &store_id, &numbers, &bytes(head)]);
        let tag = hex(&tag[..16]);
        let forged = json!({"store": trailer["store"], "sequence": 7, "head": head, "time": trailer["time"], "seal": tag});
        let mut truncated = lines[..8].to_vec();
        truncated.push(forged.to_string());
        let error = verify(&offline, &truncated).unwrap_err().to_string();
        assert!(error.contains("the trailer is not as it was written"), "{error}");
    }

    /// Parses an RFC 3339 timestamp in UTC; the library's own parser is private.
    fn unix_millis(text: &str) -> u64 {
        // Days since the epoch by Howard Hinnant's `days_from_civil`.
        let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
        let (y, m, d) = (number(0..4), number(5..7), number(8..10));
        let y = if m <= 2 { y - 1 } else { y };
        let yoe = y - y.div_euclid(400) * 400;
        let doy = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
        let days = y.div_euclid(400) * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468;
        let seconds = days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
        let fraction = text.get(19..).unwrap().trim_start_matches('.').trim_end_matches('Z');
        let millis: i64 = format!("{fraction:0<3}").parse().unwrap();
        u64::try_from(seconds * 1000 + millis).unwrap()
    }

    #[test]
    fn consecutive_and_overlapping_exports_verify_together() {
        let (_dir, home) = portcullis_testkit::home();
        let store = store_with_ten_entries(&home, portcullis_testkit::builder());
        let part = |query: &str| {
            let (status, text) =
                request(&store, None, "GET", &format!("/v1/audit/export?{query}"), &Value::Null);
            assert_eq!(status, StatusCode::OK, "{text}");
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let first = part("limit=4");
        assert_eq!(first.len(), 6);
        assert_invalid(
            &first,
            "it ends at entry 4, but its trailer names entry 10: it was truncated",
        );
        // A later export continues the earlier one, or overlaps it.
        let early = export(&store);
        issue(&store, new_key(&store, "later", &[]));
        for after in [10, 6] {
            let later = part(&format!("after={after}"));
            let both = early.iter().chain(&later);
            let entries = verify(&Offline::new(), both).unwrap();
            assert_eq!(entries.last().unwrap().sequence, 11);
        }
        // An export after a gap does not continue it.
        let with_gap = early.iter().chain(&part("after=11")).cloned().collect::<Vec<_>>();
        assert_invalid(&with_gap, "it begins after entry 11");
        let (_dir, other) = portcullis_testkit::home();
        let other = export(&store_with_ten_entries(&other, portcullis_testkit::builder()));
        let foreign = early.iter().chain(&other).cloned().collect::<Vec<_>>();
        assert_invalid(&foreign, "another store");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn export_with_changed_bytes_never_verifies_with_other_entries(
            flips in vec((0usize..4096, any::<u8>()), 1..3),
        ) {
            let (_dir, home) = portcullis_testkit::home();
            let store = portcullis_testkit::builder().open(&home).unwrap();
            issue(&store, new_key(&store, "a", &["api.read"]));
            let mut bytes = export(&store).join("\n").into_bytes();
            for (at, byte) in flips {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let Ok(text) = String::from_utf8(bytes.clone()) else { return Ok(()) };
            match verify(&Offline::new(), text.lines()) {
                Err(_) => {}
                // White space between JSON tokens has no meaning.
                Ok(entries) => {
                    let same = entries == store.audit(0, 9).unwrap();
                    if !same { return Err(TestCaseError::fail("the change was not detected")) }
                }
            }
        }
    }
}

mod pruning {
    use super::*;

    fn prune(store: &Store) -> Result<Option<portcullis::audit::Pruned>, Error> {
        store.acting_as(Actor::Local(7)).with_address(SOURCE).prune_audit(hours_ago(30))
    }

    #[test]
    fn pruned_log_verifies_from_its_new_start() {
        let (_dir, home, store) = store_with_old_entries();
        let before = export(&store);
        let pruned = prune(&store).unwrap().unwrap();
        assert_eq!((pruned.sequence, pruned.through, pruned.removed), (12, 10, 10));
        let kept = store.audit(0, 100).unwrap();
        assert_eq!(kept.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [11, 12]);
        let Act::Prune { through, head } = &kept[1].act else { panic!("{kept:?}") };
        let last: Value = serde_json::from_str(&before[10]).unwrap();
        let hex = hex(head);
        assert!(*through == 10 && last["frame"].as_str().unwrap().ends_with(&hex));
        assert_eq!((kept[1].actor, kept[1].source), (Actor::Local(7), Some(SOURCE)));

        // The kept entries verify alone, and together with the earlier export.
        let after = export(&store);
        assert_eq!(verify(&Offline::new(), &after).unwrap(), kept);
        let both = verify(&Offline::new(), before.iter().chain(&after)).unwrap();
        assert_eq!(both.len(), 12);

        // The pruned entries are not on disk. The store opens, accepts changes and is healthy.
        drop(store);
        operate(&home, |db| {
            assert_eq!(
                (1..=12).filter(|n| db.contains_key(entry(*n)).unwrap()).collect::<Vec<_>>(),
                [11, 12]
            );
        });
        let store = portcullis_testkit::builder().open(&home).unwrap();
        assert_eq!(store.audit(3, 100).unwrap(), kept);
        assert_eq!(store.audit(11, 100).unwrap(), kept[1..]);
        issue(&store, new_key(&store, "newer", &[]));
        drop(store);
        let report = Offline::new().examine(&home, home.parent().unwrap()).unwrap();
        assert!(report.is_healthy(), "{report:#?}");
        assert_eq!(report.entries, 3);
    }

    #[test]
    fn log_can_be_pruned_repeatedly() {
        let (_dir, home, store) = store_with_old_entries();
        prune(&store).unwrap().unwrap();
        assert_eq!(prune(&store).unwrap(), None);
        let early = export(&store);
        drop(store);
        age(&home, 100);
        let store = portcullis_testkit::builder().open(&home).unwrap();
        issue(&store, new_key(&store, "newer", &[]));
        let pruned = prune(&store).unwrap().unwrap();
        assert_eq!((pruned.sequence, pruned.through, pruned.removed), (14, 12, 2));
        let kept = store.audit(0, 9).unwrap();
        assert_eq!(kept.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [13, 14]);
        assert_eq!(verify(&Offline::new(), export(&store)).unwrap(), kept);
        assert_eq!(verify(&Offline::new(), early).unwrap().len(), 2);
        drop(store);
        let report = Offline::new().examine(&home, home.parent().unwrap()).unwrap();
        assert!(report.is_healthy(), "{report:#?}");
    }

    #[test]
    fn root_key_may_not_prune_and_the_attempt_is_recorded() {
        let (_dir, _home, store) = store_with_old_entries();
        let root = new_key(&store, "root", &[]).with_grant(Grant::All);
        let (id, key) = issue(&store, root);
        let before = store.audit(0, 100).unwrap().len();
        let body = json!({"before": "2001-01-01T00:00:00Z"});
        let (status, _) = request(&store, Some(&key), "POST", "/v1/audit/cut", &body);
        assert_eq!(status, StatusCode::FORBIDDEN);
        let entries = store.audit(0, 100).unwrap();
        assert_eq!(entries.len(), before + 1);
        let Act::Refuse { attempt, .. } = &entries[before].act else { panic!("{entries:?}") };
        assert_eq!(
            (attempt.as_str(), entries[before].actor, entries[before].source),
            ("cut", Actor::Key(id), Some(SOURCE))
        );
    }
}

mod recorded_acts {
    use super::*;

    #[test]
    fn every_route_records_its_act_or_refusal() {
        let mut fixture = AuditedStore::new();
        let (other, _) = fixture.key("other", &["api.read"]);
        let store = fixture.store.clone();
        let one = format!("/v1/keys/{other}");
        let new = json!({"name": "x", "scopes": []});
        let cases = [
            ("POST", "/v1/keys".to_owned(), new.clone(), "create", None),
            ("GET", "/v1/keys".to_owned(), Value::Null, "list", None),
            ("GET", one.clone(), Value::Null, "list", Some(other)),
            ("PATCH", one.clone(), json!({"active": false}), "update", Some(other)),
            ("DELETE", one.clone(), Value::Null, "delete", Some(other)),
            ("POST", format!("{one}/rotate"), json!({}), "rotate", Some(other)),
            ("GET", format!("{one}/reach"), Value::Null, "list", Some(other)),
            (
                "POST",
                format!("{one}/reach/revoke"),
                json!({"group": "created"}),
                "update",
                Some(other),
            ),
            ("GET", "/v1/scopes".to_owned(), Value::Null, "list", None),
            ("GET", "/v1/audit".to_owned(), Value::Null, "list", None),
            ("GET", "/v1/audit/export".to_owned(), Value::Null, "list", None),
            ("GET", "/v1/audit/stream".to_owned(), Value::Null, "list", None),
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
            // A new key for each request: a repeated refusal of one key would only be counted.
            let (weak, key) = fixture.key("weak", &["api.read"]);
            let (status, text) = request(&store, Some(&key), method, &path, &body);
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} {text}");
            fixture.assert_refused(Actor::Key(weak), attempt, id);
        }
        // A local user may do the same. The entry has the uid and no address.
        let allowed = [
            ("POST", "/v1/keys".to_owned(), new, "create"),
            ("POST", format!("{one}/rotate"), json!({"grace_seconds": 60}), "rotate"),
            ("PATCH", one.clone(), json!({"active": false}), "update"),
            ("DELETE", one.clone(), Value::Null, "delete"),
        ];
        for (method, path, body, act) in allowed {
            let (status, text) = request(&store, None, method, &path, &body);
            assert!(status.is_success(), "{method} {path} {text}");
            let entry = fixture.entry();
            assert_eq!(
                (entry.act.as_str(), entry.actor, entry.source),
                (act, Actor::Local(1000), None)
            );
        }
    }

    #[test]
    fn failed_authentication_is_not_recorded() {
        let mut fixture = AuditedStore::new();
        let (revoked, revoked_key) = fixture.key("revoked", &["api.read"]);
        let store = fixture.store.clone();
        store.revoke(revoked).unwrap();
        fixture.entry();
        let portal =
            Portal::new(store.clone()).at("https://keys.example".parse().unwrap()).router();
        for key in [&revoked_key, &b"somebody".to_vec()] {
            for (method, path) in [
                ("GET", "/v1/whoami"),
                ("GET", "/v1/keys"),
                ("POST", "/v1/keys"),
                ("DELETE", "/v1/keys/key_00000000000"),
                ("GET", "/v1/audit"),
                ("POST", "/v1/verify"),
                ("GET", "/authz?scope=api.read"),
            ] {
                let (status, text) = request(&store, Some(key), method, path, &Value::Null);
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path} {text}");
            }
            let login = Request::post("/login")
                .header("origin", "https://keys.example")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from([b"key=", &key[..]].concat()));
            let (status, text) = send(&portal, login.unwrap());
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{text}");
        }
        assert_eq!(store.audit(fixture.read, 100).unwrap(), []);
    }
}

#[test]
fn entries_of_repeated_exports_are_counted_once() {
    let (_dir, home) = portcullis_testkit::home();
    let store = store_with_ten_entries(&home, portcullis_testkit::builder());
    let (offline, all) = (Offline::new(), export(&store));
    let count = verify(&offline, &all).unwrap().len();
    assert!(count > 2);
    assert_eq!(verify(&offline, all.iter().chain(&all)).unwrap().len(), count);
    store.acting_as(Actor::Host).refuse(portcullis::audit::Attempt::List, None, "x").unwrap();
    let longer = export(&store);
    // The trailer with the highest sequence counts, wherever its export is in the input.
    for exports in [[&all, &longer, &all], [&longer, &all, &all], [&all, &all, &longer]] {
        let entries = verify(&offline, exports.into_iter().flatten()).unwrap();
        let sequences: Vec<u64> = entries.iter().map(|entry| entry.sequence).collect();
        assert_eq!(sequences, (1..=count as u64 + 1).collect::<Vec<_>>());
    }
}
