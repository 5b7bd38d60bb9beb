//! The stream of the audit log: complete over any number of interruptions, ended with its key, and limited.

use axum::{
    Extension, Router,
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use portcullis::{Actor, Change, KeyId, Metadata, Store};
use portcullis_admin::{EndlessResponse, StreamStop, router};
use portcullis_testkit::{
    audit::{hours_ago, store_with_old_entries},
    basic, home, issue, new_key,
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use std::{future::Future, thread};
use tower::ServiceExt;

const LISTS: [&str; 1] = ["admin.key.list"];

/// One stream and the part of it that was received.
struct Stream {
    body: Body,
    lines: Vec<Value>,
}

impl Stream {
    /// Opens a stream, which must be accepted.
    async fn open(app: &Router, key: &[u8], after: u64) -> Self {
        let (status, body) = Self::try_open(app, key, &format!("?after={after}")).await;
        assert_eq!(status, StatusCode::OK);
        Self { body, lines: Vec::new() }
    }

    async fn try_open(app: &Router, key: &[u8], query: &str) -> (StatusCode, Body) {
        let request = Request::get(format!("/v1/audit/stream{query}"));
        let request = request.header("authorization", basic(key)).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let is_endless = response.extensions().get::<EndlessResponse>().is_some();
        assert_eq!(is_endless, response.status().is_success());
        (response.status(), response.into_body())
    }

    /// Returns the next line; `None` when the stream has ended, with or without an error.
    async fn line(&mut self) -> Option<Value> {
        while self.lines.is_empty() {
            let data = self.body.frame().await?.ok()?.into_data().unwrap();
            // A chunk ends with a line.
            assert!(data.ends_with(b"\n"), "{data:?}");
            let lines = data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            self.lines.extend(lines.map(|line| serde_json::from_slice::<Value>(line).unwrap()));
        }
        Some(self.lines.remove(0))
    }

    /// Returns the sequence of the next line, which must be an entry.
    async fn sequence(&mut self) -> u64 {
        let line = self.line().await.unwrap();
        line["sequence"].as_u64().unwrap_or_else(|| panic!("{line}"))
    }
}

async fn problem(body: Body) -> Value {
    serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn rename(store: &Store, id: KeyId, name: &str) {
    store.update(id, Change::default().with_name(name)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// The client is cut after any number of lines, also within a chunk, while the log grows.
    #[test]
    fn resumed_parts_join_to_the_whole_log_without_gap_and_duplicate(
        cuts in vec(0_usize..40, 0..12),
        writes in 0_u64..150,
    ) {
        let (_dir, home) = home();
        let store = portcullis_testkit::builder().open(home).unwrap();
        let (id, key) = issue(&store, new_key(&store, "siem", &LISTS));
        let app = router(store.clone());
        let last = 2 + writes;
        let writer = {
            let store = store.clone();
            thread::spawn(move || (0..writes).for_each(|n| rename(&store, id, &n.to_string())))
        };
        let mut received: Vec<Value> = Vec::new();
        block_on(async {
            let position = |lines: &[Value]| lines.last().map_or(0, |line| line["sequence"].as_u64().unwrap());
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let mut stream = Stream::open(&app, &key, position(&received)).await;
                for _ in 0..cut {
                    if position(&received) == last {
                        break;
                    }
                    let line = stream.line().await.unwrap();
                    if line.get("heartbeat").is_none() {
                        received.push(line);
                    }
                }
            }
        });
        writer.join().unwrap();
        prop_assert_eq!(received, listed(&store, &key));
    }
}

/// Returns the entries as `GET /v1/audit` has them.
fn listed(store: &Store, key: &[u8]) -> Vec<Value> {
    let request = Request::get("/v1/audit?limit=1000").header("authorization", basic(key));
    let response = router(store.clone()).oneshot(request.body(Body::empty()).unwrap());
    let page = block_on(async { problem(response.await.unwrap().into_body()).await });
    page["entries"].as_array().unwrap().clone()
}

#[tokio::test]
async fn stream_ends_when_its_key_is_revoked_or_narrowed() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(home).unwrap();
    let app = router(store.clone());
    let (other_id, other) = issue(&store, new_key(&store, "other", &LISTS));
    let mut unaffected = Stream::open(&app, &other, 0).await;
    let narrowed = Change::default().with_grant(portcullis_testkit::scopes(&store, &LISTS));
    for restriction in [Change::deactivate(), narrowed] {
        let new = new_key(&store, "siem", &["admin.key.list", "api.read"]);
        let (id, key) = issue(&store, new);
        let mut stream = Stream::open(&app, &key, 0).await;
        assert_eq!(stream.sequence().await, 1);
        store.update(id, restriction.clone()).unwrap();
        let mut is_ended = false;
        while let Some(line) = stream.line().await {
            assert!(line.get("heartbeat").is_none(), "the stream does not end");
            // The entry about the restriction does not reach its key.
            is_ended |= line["key"] == id.to_string() && line["act"] == "update";
        }
        assert!(!is_ended, "{restriction:?}");
    }
    let newest = store.audit(0, 1000).unwrap().len() as u64;
    while unaffected.sequence().await < newest {}
    rename(&store, other_id, "still followed");
    assert_eq!(unaffected.sequence().await, newest + 1);
}

#[tokio::test]
async fn ninth_stream_of_a_key_is_refused_until_another_one_ends() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(home).unwrap();
    let app = router(store.clone());
    let (_, key) = issue(&store, new_key(&store, "siem", &LISTS));
    let (_, other) = issue(&store, new_key(&store, "other", &LISTS));
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(Stream::open(&app, &key, 0).await);
    }
    let (status, body) = Stream::try_open(&app, &key, "").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    let refused = problem(body).await;
    assert_eq!(refused["type"], "urn:portcullis:too-many-streams");
    Stream::open(&app, &other, 0).await;
    // A request that is refused later does not keep its place, nor does a client that is gone.
    streams.pop();
    assert_eq!(Stream::try_open(&app, &key, "?after=99").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    streams.push(Stream::open(&app, &key, 0).await);
    assert_eq!(Stream::try_open(&app, &key, "").await.0, StatusCode::TOO_MANY_REQUESTS);
    // All keys together have 256.
    let mut all = streams;
    let refused = loop {
        let (_, key) = issue(&store, new_key(&store, "one of many", &LISTS));
        let (status, body) = Stream::try_open(&app, &key, "").await;
        match status {
            StatusCode::OK => all.push(Stream { body, lines: Vec::new() }),
            refused => break refused,
        }
        assert!(all.len() <= 256);
    };
    assert_eq!((refused, all.len()), (StatusCode::TOO_MANY_REQUESTS, 256));
}

#[tokio::test]
async fn entries_that_were_pruned_before_they_were_sent_are_reported() {
    let (_dir, _, store) = store_with_old_entries();
    let app = router(store.clone());
    let (_, key) = issue(&store, new_key(&store, "siem", &LISTS));
    let prune = || {
        let store = store.clone();
        let prune = move || store.acting_as(Actor::Local(0)).prune_audit(hours_ago(50));
        thread::spawn(move || prune().unwrap().unwrap()).join().unwrap()
    };
    assert_eq!(prune().through, 10);
    let mut stream = Stream::open(&app, &key, 0).await;
    assert_eq!(stream.line().await.unwrap(), json!({"pruned": {"through": 10}}));
    assert_eq!(stream.sequence().await, 11);
    // A client that has all of them, or resumes after the report, is not told again.
    for after in [10, 11] {
        let mut stream = Stream::open(&app, &key, after).await;
        assert_eq!(stream.sequence().await, after + 1);
    }
    let mut stream = Stream::open(&app, &key, 7).await;
    assert_eq!(stream.line().await.unwrap(), json!({"pruned": {"through": 10}}));
}

#[tokio::test]
async fn slow_reader_is_told_of_the_entries_that_were_pruned_meanwhile() {
    let (_dir, home) = home();
    let metadata = |n: usize| -> Metadata {
        (0..4).map(|entry| (entry.to_string(), format!("{n:0200}"))).collect()
    };
    {
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let (id, _) = issue(&store, new_key(&store, "large", &["api.read"]));
        for n in 0..400 {
            store.update(id, Change::default().with_metadata(metadata(n))).unwrap();
        }
    }
    portcullis_testkit::surgery::age(&home, 100);
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let (_, key) = issue(&store, new_key(&store, "siem", &LISTS));
    let app = router(store.clone());
    // Another client reads all chunks.
    let mut whole = Stream::open(&app, &key, 0).await;
    for sequence in 1..=403 {
        assert_eq!(whole.sequence().await, sequence);
    }
    let mut stream = Stream::open(&app, &key, 0).await;
    let mut last = 0;
    for _ in 0..5 {
        last = stream.sequence().await;
    }
    let pruning = store.clone();
    let prune = move || pruning.acting_as(Actor::Local(0)).prune_audit(hours_ago(50)).unwrap();
    let through = thread::spawn(prune).join().unwrap().unwrap().through;
    assert_eq!(through, 402);
    // One chunk was read ahead at most.
    let reported = loop {
        let line = stream.line().await.unwrap();
        match line["sequence"].as_u64() {
            Some(sequence) => assert_eq!((sequence, last), (last + 1, sequence - 1)),
            None => break line,
        }
        last += 1;
        assert!(last < 200, "the stream read far ahead of its client");
    };
    assert_eq!(reported, json!({"pruned": {"through": 402}}));
    assert_eq!(stream.sequence().await, 403);
}

#[tokio::test(start_paused = true)]
async fn silent_stream_sends_heartbeats_from_which_it_can_be_resumed() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(home).unwrap();
    let app = router(store.clone());
    let shop = new_key(&store, "siem", &["admin.key.list", "admin.key.update"]).with_owner("shop");
    let (id, key) = issue(&store, shop);
    let (other, _) = issue(&store, new_key(&store, "other", &LISTS).with_owner("bank"));
    let mut stream = Stream::open(&app, &key, 0).await;
    // Entry 1 is about no key, and entry 3 about a key of another owner.
    assert_eq!(stream.sequence().await, 2);
    let start = tokio::time::Instant::now();
    assert_eq!(stream.line().await.unwrap(), json!({"heartbeat": {"after": 3}}));
    assert_eq!(start.elapsed().as_secs(), 15);
    rename(&store, other, "hidden");
    assert_eq!(stream.line().await.unwrap(), json!({"heartbeat": {"after": 4}}));
    assert_eq!(start.elapsed().as_secs(), 30);
    rename(&store, id, "shown");
    let shown = stream.line().await.unwrap();
    assert_eq!((&shown["sequence"], &shown["actor"]), (&json!(5), &json!("operator")));
    let mut resumed = Stream::open(&app, &key, 4).await;
    assert_eq!(resumed.line().await.unwrap(), shown);
}

#[tokio::test]
async fn stream_begins_at_no_entry_that_the_log_does_not_have() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(home).unwrap();
    let app = router(store.clone());
    let (_, key) = issue(&store, new_key(&store, "siem", &LISTS));
    for query in ["?after=3", "?after=x", "?key=key_00000000000"] {
        let (status, body) = Stream::try_open(&app, &key, query).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        assert_eq!(problem(body).await["type"], "urn:portcullis:invalid-request");
    }
    Stream::open(&app, &key, 2).await;
    let (_, weak) = issue(&store, new_key(&store, "weak", &["api.read"]));
    assert_eq!(Stream::try_open(&app, &weak, "").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn stopping_server_ends_its_streams() {
    let (_dir, home) = home();
    let store = portcullis_testkit::builder().open(home).unwrap();
    let stop = StreamStop::new();
    let app = router(store.clone()).layer(Extension(stop.clone()));
    let (_, key) = issue(&store, new_key(&store, "siem", &LISTS));
    let mut stream = Stream::open(&app, &key, 1).await;
    assert_eq!(stream.sequence().await, 2);
    stop.stop();
    assert!(stream.body.frame().await.is_none());
    assert!(Stream::open(&app, &key, 0).await.body.frame().await.is_none());
}
