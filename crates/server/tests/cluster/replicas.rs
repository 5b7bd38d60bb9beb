//! What operators see of the replicas that share a store: metrics, the list over HTTP, the portal's page.

use axum::{Router, body::Body, http::Request};
use http_body_util::BodyExt;
use portcullis::{Grant, NewKey, Store, cluster::Replica};
use portcullis_admin::{Portal, router};
use portcullis_testkit::{
    etcd::Etcd,
    needs,
    serving::{Home, free_address, id_of},
};
use serde_json::{Value, json};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};
use tower::ServiceExt;

const WATCHDOG: Duration = Duration::from_mins(1);

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < WATCHDOG, "{what}");
        sleep(Duration::from_millis(50));
    }
}

/// Status and body of what a server answers by plain HTTP.
fn ask(url: &str, key: Option<&str>) -> (u16, String) {
    let client = reqwest::blocking::Client::builder().timeout(WATCHDOG).build().unwrap();
    let mut request = client.get(url.replace("https:", "http:"));
    if let Some(key) = key {
        request = request.basic_auth(key, None::<&str>);
    }
    let answer = request.send().unwrap();
    (answer.status().as_u16(), answer.text().unwrap())
}

/// The figure of a metric, if it is told.
fn figure(told: &str, name: &str) -> Option<f64> {
    let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|figure| figure.parse().unwrap())
}

#[needs("etcd", "etcdctl")]
#[test]
fn the_metrics_tell_the_gate_the_lag_the_waits_and_who_there_is() {
    let etcd = Etcd::start(1);
    let (home, url) = (Home::new(), etcd.url());
    home.done(&["--etcd", &url, "init"]);
    let listener = free_address();
    let serve = ["--etcd", &url, "--behind-proxy", "--metrics-listen", &listener];
    // Other work on the machine must not keep it from a proof for so long.
    let server = home.serve(&[&serve[..], &["--freshness", "10s"]].concat());
    let metrics = || ask(&format!("http://{listener}/metrics"), None).1;
    let told = |name: &str| figure(&metrics(), &format!("portcullis_{name}"));
    let members = "replicas{state=\"current\"}";
    eventually("the only one is current", || told(members) == Some(1.0));
    assert_eq!(told("replicas{state=\"fenced\"}"), Some(0.0));
    assert_eq!(told("gate_open"), Some(1.0));
    let remaining = told("gate_remaining_seconds").unwrap();
    assert!(remaining > 0.0 && remaining <= 10.0, "{remaining}");
    assert_eq!(told("replica_bootstraps_total"), Some(1.0));

    let waits = told("revocation_wait_seconds_count").unwrap();
    let key = home.key("till", "api.read");
    home.done(&["key", "revoke", &id_of(&key)]);
    assert_eq!(told("revocation_wait_seconds_count"), Some(waits + 1.0));
    assert_eq!(told("replicas_waited_out_total"), Some(0.0));
    eventually("it has applied it", || told("replica_behind_revisions") == Some(0.0));

    // Cut off, it still tells what it knows, and only that.
    etcd.freeze(0);
    eventually("the gate shuts", || told("gate_open") == Some(0.0));
    assert_eq!(told("gate_remaining_seconds"), Some(0.0));
    assert_eq!(told(members), None);
    etcd.thaw(0);
    eventually("it opens again", || told("gate_open") == Some(1.0));
    eventually("etcd answers again", || told(members) == Some(1.0));
    assert!(server.stop().success());
}

/// API and portal of a store, as one browser meets them.
struct Doors {
    app: Router,
    runtime: tokio::runtime::Runtime,
    cookie: String,
}

impl Doors {
    /// Logged in with this key.
    fn of(store: &Store, key: &str) -> Self {
        let app = router(store.clone()).merge(Portal::new(store.clone()).router());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut doors = Self { app, runtime, cookie: String::new() };
        let form = Request::post("/login")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .body(format!("key={key}").into());
        let (status, cookie, _) = doors.send(form.unwrap());
        assert_eq!(status, 303);
        cookie.split(';').next().unwrap().clone_into(&mut doors.cookie);
        doors
    }

    fn send(&self, request: Request<Body>) -> (u16, String, String) {
        self.runtime.block_on(async {
            let answer = self.app.clone().oneshot(request).await.unwrap();
            let (parts, body) = answer.into_parts();
            let text = body.collect().await.unwrap().to_bytes().to_vec();
            let cookie = parts.headers.get("set-cookie").map(|value| value.to_str().unwrap());
            let cookie = cookie.unwrap_or_default().to_owned();
            (parts.status.as_u16(), cookie, String::from_utf8(text).unwrap())
        })
    }

    fn page(&self, path: &str) -> (u16, String) {
        let request = Request::get(path).header("cookie", &self.cookie);
        let (status, _, text) = self.send(request.body(Body::empty()).unwrap());
        (status, text)
    }

    fn replicas(&self, key: &str) -> Vec<Value> {
        let header = portcullis_testkit::basic(key.as_bytes());
        let request = Request::get("/v1/replicas").header("authorization", header);
        let (status, _, text) = self.send(request.body(Body::empty()).unwrap());
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["replicas"].as_array().unwrap().clone()
    }
}

fn root_of(store: &Store) -> String {
    let root = NewKey { grant: Grant::All, ..portcullis_testkit::new_key(store, "root", &[]) };
    String::from_utf8(portcullis_testkit::issue(store, root).1).unwrap()
}

#[needs("etcd", "etcdctl")]
#[test]
fn the_api_and_the_portal_list_the_replicas_and_say_which_one_answers() {
    let etcd = Etcd::start(1);
    let nodes = portcullis_etcd::Etcd::at(etcd.urls()).unwrap();
    let nodes = || portcullis_etcd::EtcdStore::new(&nodes).unwrap();
    let builder = Store::builder;
    let one = builder().create_cluster(nodes(), Replica::named("till <1>")).unwrap();
    let two = builder().open_cluster(nodes(), Replica::named("till 2")).unwrap();
    let key = root_of(&one);
    let doors = Doors::of(&one, &key);
    let told = |replica: &Value| {
        json!([replica["name"], replica["state"], replica["behind"], replica["is_this"]])
    };
    let both = [json!(["till 2", "current", 0, false]), json!(["till <1>", "current", 0, true])];
    let seen = || doors.replicas(&key).iter().map(told).collect::<Vec<_>>();
    eventually("both have applied all", || seen() == both);
    let replica = &doors.replicas(&key)[0];
    assert_eq!(replica["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&replica["freshness_ms"], replica["applied"].is_u64()), (&json!(3000), true));
    assert!(replica["joined_at"].as_str().unwrap().starts_with("20"), "{replica}");

    let (status, page) = doors.page("/");
    assert!(status == 200 && page.contains(r#"href="/replicas""#), "{page}");
    let (status, page) = doors.page("/replicas");
    assert_eq!(status, 200);
    for words in ["till &lt;1&gt;", "this one", "till 2", "Current", r#"aria-current="page""#] {
        assert!(page.contains(words), "no {words:?} in {page}");
    }
    assert_eq!(page.matches("this one").count(), 1);
    drop(two);
    assert_eq!(doors.replicas(&key).len(), 1, "who leaves is struck off");

    // Of another version, which says nothing that this one can read: one that lives, one fenced.
    let others = ["0".repeat(31) + "1", "0".repeat(31) + "2"];
    for (other, row) in others.iter().zip(["m of another format", "f"]) {
        etcd.say(&["put", &format!("portcullis/s/m/{other}"), row]);
    }
    let mut told: Vec<_> = doors.replicas(&key).iter().map(|r| r["state"].to_string()).collect();
    told.sort();
    assert_eq!(told, [r#""behind""#, r#""current""#, r#""fenced""#]);
    let (_, page) = doors.page("/replicas");
    let rows: Vec<_> = page.split("<tr>").skip(2).collect();
    for (name, state) in
        [("till &lt;1&gt;", "Current"), (&*others[0], "Behind"), (&*others[1], "Fenced")]
    {
        let of_it = rows.iter().filter(|row| row.contains(name)).collect::<Vec<_>>();
        assert!(of_it.len() == 1 && of_it[0].contains(&format!(">{state}<")), "{name}: {page}");
    }
    assert_eq!((page.matches("<h1").count(), page.matches(r#"scope="col""#).count()), (1, 5));
    for other in others {
        etcd.say(&["del", &format!("portcullis/s/m/{other}")]);
    }
    etcd.freeze(0);
    let (status, page) = doors.page("/replicas");
    etcd.thaw(0);
    assert!(status == 503 && page.contains("Not available"), "{status} {page}");
}

#[test]
fn a_store_that_is_alone_has_no_replicas_and_no_page_of_them() {
    let store = Store::in_memory().unwrap();
    let key = root_of(&store);
    let doors = Doors::of(&store, &key);
    assert!(doors.replicas(&key).is_empty());
    assert!(!doors.page("/").1.contains("/replicas"));
    assert_eq!(doors.page("/replicas").0, 404);
}
