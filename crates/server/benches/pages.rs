//! How long does a page of keys take over HTTP, from the API and in the portal, with a million keys?
//!
//! The server runs in this process, as behind a proxy, and gets its requests over one TCP connection. A
//! measurement ends with the last byte of the response.
//! `cargo bench -p portcullis-server --bench pages`.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench fails by a panic, and prints rounded figures"
)]

#[path = "../../../benches/support"]
mod support {
    pub(crate) mod fill;
    pub(crate) mod run;
    pub(crate) mod sizes;
    pub(crate) mod statistics;
}

use portcullis::{Expiry, Grant, NewKey, Store};
use portcullis_admin::control::ControlSocket;
use portcullis_server::{Operation, Signals, Transport, serve};
use reqwest::{
    blocking::{Client, RequestBuilder},
    redirect::Policy,
};
use std::{
    net::TcpListener,
    num::NonZeroU32,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};
use support::{fill::fill, run::is_measured, sizes::sizes, statistics::percentile};

/// The label and the path of each request, and a text that its page shows.
const REQUESTS: [(&str, &str, &str); 12] = [
    ("API, newest", "/v1/keys", "Branch"),
    ("API, newest, 200", "/v1/keys?page_size=200", "Branch"),
    ("API, inactive", "/v1/keys?active=false", "Branch"),
    ("API, of no key's scope", "/v1/keys?scope=admin.account.list", "root"),
    ("API, frequent name", "/v1/keys?q=till&page_size=200", "Till"),
    ("API, one name, the oldest", "/v1/keys?q=branch%20rare", "Branch rare"),
    ("API, no name", "/v1/keys?q=zebra%20crossing", ""),
    ("portal, newest", "/", "Branch"),
    ("portal, inactive", "/?status=inactive", "Branch"),
    ("portal, frequent name", "/?q=till", "Till"),
    ("portal, one name, the oldest", "/?q=branch+rare", "Branch rare"),
    ("portal, no name, inactive", "/?q=zebra&status=inactive", "No key matches"),
];

fn main() {
    let repetitions = if is_measured() { 101 } else { 2 };
    println!("milliseconds a page: median, p99, longest of {repetitions}");
    for keys in sizes(&[1_000_000]) {
        let store = portcullis_testkit::builder().in_memory().unwrap();
        issue(&store, "Branch rare", store_scopes(&store));
        fill(&store, keys, |_, _, _| {});
        let root = issue(&store, "root", Grant::All).1;
        for number in 0..30 {
            let (id, _) = issue(&store, &format!("Branch {number}"), store_scopes(&store));
            if number % 2 == 0 {
                store.revoke(id).unwrap();
            }
        }
        let session = Session::log_in(start_server(store), root);
        for (name, path, shown) in REQUESTS {
            let mut took: Vec<f64> = (0..repetitions).map(|_| session.time(path, shown)).collect();
            let [median, p99, longest] = [0.5, 0.99, 1.0].map(|share| percentile(&mut took, share));
            println!("{keys:>9} keys, {name:<30} {median:8.2} {p99:8.2} {longest:8.2}");
        }
    }
}

fn store_scopes(store: &Store) -> Grant {
    Grant::Scopes(store.scopes(["api.read"]).unwrap())
}

fn issue(store: &Store, name: &str, grant: Grant) -> (portcullis::KeyId, String) {
    let issued = store.issue(NewKey::new(name, grant, Expiry::Never)).unwrap();
    (issued.record.id, issued.secret.reveal(str::to_owned))
}

/// Starts the server, which runs until this process ends. Returns its address.
fn start_server(store: Store) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let (ready, is_ready) = channel();
    thread::spawn(move || {
        let directory = tempfile::tempdir().unwrap();
        let control = ControlSocket::bind(directory.path()).unwrap();
        let operation = Operation {
            public_origin: None,
            metrics: None,
            trusted_proxies: Vec::new(),
            max_bad_keys: NonZeroU32::MIN,
            max_connections: 9,
            hsts: None,
            leaks: None,
            revoke_exposed: false,
            drain_delay: Duration::ZERO,
        };
        let serving = async {
            let signals = Signals::new().unwrap();
            let ready = || ready.send(()).unwrap();
            serve(store, listener, Transport::BehindProxy, control, operation, signals, ready).await
        };
        tokio::runtime::Runtime::new().unwrap().block_on(serving).unwrap();
    });
    is_ready.recv().unwrap();
    url
}

/// A client with a root key and a session of the portal.
struct Session {
    client: Client,
    url: String,
    root: String,
    cookie: String,
}

impl Session {
    fn log_in(url: String, root: String) -> Self {
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        let request = client
            .post(format!("{url}/login"))
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(format!("key={root}")).send().unwrap();
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Self { client, url, root, cookie }
    }

    fn time(&self, path: &str, shown: &str) -> f64 {
        let request = self.with_credentials(self.client.get(format!("{}{path}", self.url)), path);
        let start = Instant::now();
        let text = request.send().unwrap().error_for_status().unwrap().text().unwrap();
        let took = start.elapsed().as_secs_f64() * 1e3;
        assert!(text.contains(shown), "no {shown:?} in {text}");
        took
    }

    fn with_credentials(&self, request: RequestBuilder, path: &str) -> RequestBuilder {
        if path.starts_with("/v1") {
            request.basic_auth(&self.root, Some(""))
        } else {
            request.header("cookie", &self.cookie)
        }
    }
}
