//! Reports about the replicas of a shared store: metrics, the list over HTTP, the page of the portal.

use axum::{Router, body::Body, http::Request};
use http_body_util::BodyExt;
use portcullis::{Grant, Store, cluster::Replica};
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

/// Sends a request by plain HTTP. Returns status and body.
fn ask(url: &str, key: Option<&str>) -> (u16, String) {
    let client = reqwest::blocking::Client::builder().timeout(WATCHDOG).build().unwrap();
    let mut request = client.get(url.replace("https:", "http:"));
    if let Some(key) = key {
        request = request.basic_auth(key, None::<&str>);
    }
    let answer = request.send().unwrap();
    (answer.status().as_u16(), answer.text().unwrap())
}

/// Returns the value of a metric, if it is reported.
fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[needs("etcd", "etcdctl")]
#[test]
fn metrics_report_gate_lag_waits_and_members() {
    let etcd = Etcd::start(1);
    let (home, url) = (Home::new(), etcd.url());
    home.done(&["--etcd", &url, "init", "--scopes=financial-data"]);
    let listener = free_address();
    let serve = ["--etcd", &url, "--behind-proxy", "--metrics-listen", &listener];
    // A busy host must not delay the freshness proof beyond this.
    let server = home.serve(&[&serve[..], &["--freshness", "10s"]].concat());
    let metrics = || ask(&format!("http://{listener}/metrics"), None).1;
    let value = |name: &str| metric(&metrics(), &format!("portcullis_{name}"));
    let members = "replicas{state=\"current\"}";
    eventually("the only one is current", || value(members) == Some(1.0));
    assert_eq!(value("replicas{state=\"fenced\"}"), Some(0.0));
    assert_eq!(value("gate_open"), Some(1.0));
    let remaining = value("gate_remaining_seconds").unwrap();
    assert!(remaining > 0.0 && remaining <= 10.0, "{remaining}");
    assert_eq!(value("replica_bootstraps_total"), Some(1.0));

    let waits = value("revocation_wait_seconds_count").unwrap();
    let key = home.key("till", "api.read");
    home.done(&["key", "revoke", &id_of(&key)]);
    assert_eq!(value("revocation_wait_seconds_count"), Some(waits + 1.0));
    assert_eq!(value("replicas_waited_out_total"), Some(0.0));
    eventually("the change is applied", || value("replica_behind_revisions") == Some(0.0));

    // While etcd does not respond, only the local metrics are reported.
    etcd.freeze(0);
    eventually("the gate shuts", || value("gate_open") == Some(0.0));
    assert_eq!(value("gate_remaining_seconds"), Some(0.0));
    assert_eq!(value(members), None);
    etcd.thaw(0);
    eventually("it opens again", || value("gate_open") == Some(1.0));
    eventually("etcd answers again", || value(members) == Some(1.0));
    assert!(server.stop().success());
}

/// A client of the API and the portal of a store.
struct Client {
    app: Router,
    runtime: tokio::runtime::Runtime,
    cookie: String,
}

impl Client {
    /// Logged in with this key.
    fn of(store: &Store, key: &str) -> Self {
        let app = router(store.clone()).merge(Portal::new(store.clone()).router());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut client = Self { app, runtime, cookie: String::new() };
        let form = Request::post("/login")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
            .body(format!("key={key}").into());
        let (status, cookie, _) = client.send(form.unwrap());
        assert_eq!(status, 303);
        cookie.split(';').next().unwrap().clone_into(&mut client.cookie);
        client
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
    let root = portcullis_testkit::new_key(store, "root", &[]).with_grant(Grant::All);
    String::from_utf8(portcullis_testkit::issue(store, root).1).unwrap()
}

#[needs("etcd", "etcdctl")]
#[test]
fn api_and_portal_list_the_replicas_and_mark_this_one() {
    let etcd = Etcd::start(1);
    let nodes = portcullis_etcd::Etcd::at(etcd.urls()).unwrap();
    let nodes = || portcullis_etcd::EtcdStore::new(&nodes).unwrap();
    let builder = Store::builder;
    let one = builder().create_cluster(nodes(), Replica::named("till <1>")).unwrap();
    let two = builder().open_cluster(nodes(), Replica::named("till 2")).unwrap();
    let key = root_of(&one);
    let client = Client::of(&one, &key);
    let row = |replica: &Value| {
        json!([replica["name"], replica["state"], replica["behind"], replica["is_this"]])
    };
    let both = [json!(["till 2", "current", 0, false]), json!(["till <1>", "current", 0, true])];
    let seen = || client.replicas(&key).iter().map(row).collect::<Vec<_>>();
    eventually("both have applied all", || seen() == both);
    let replica = &client.replicas(&key)[0];
    assert_eq!(replica["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&replica["freshness_ms"], replica["applied"].is_u64()), (&json!(3000), true));
    assert!(replica["joined_at"].as_str().unwrap().starts_with("20"), "{replica}");

    let (status, page) = client.page("/");
    assert!(status == 200 && page.contains(r#"href="/replicas""#), "{page}");
    let (status, page) = client.page("/replicas");
    assert_eq!(status, 200);
    for words in ["till &lt;1&gt;", "this one", "till 2", "Current", r#"aria-current="page""#] {
        assert!(page.contains(words), "no {words:?} in {page}");
    }
    assert_eq!(page.matches("this one").count(), 1);
    drop(two);
    assert_eq!(client.replicas(&key).len(), 1, "a replica that leaves is removed");

    // Two members of another version with unreadable metadata: one current, one fenced.
    let others = ["0".repeat(31) + "1", "0".repeat(31) + "2"];
    for (other, value) in others.iter().zip(["m of another format", "f"]) {
        etcd.say(&["put", &format!("portcullis/s/m/{other}"), value]);
    }
    let mut states: Vec<_> = client.replicas(&key).iter().map(|r| r["state"].to_string()).collect();
    states.sort();
    assert_eq!(states, [r#""behind""#, r#""current""#, r#""fenced""#]);
    let (_, page) = client.page("/replicas");
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
    let (status, page) = client.page("/replicas");
    etcd.thaw(0);
    assert!(status == 503 && page.contains("Not available"), "{status} {page}");
}

#[test]
fn local_store_has_no_replicas_and_no_replica_page() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let key = root_of(&store);
    let client = Client::of(&store, &key);
    assert!(client.replicas(&key).is_empty());
    assert!(!client.page("/").1.contains("/replicas"));
    assert_eq!(client.page("/replicas").0, 404);
}
