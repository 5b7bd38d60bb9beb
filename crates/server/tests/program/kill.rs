//! A server that is killed with SIGKILL while clients create and deactivate keys over HTTP.
//!
//! Each round starts the server on the same data directory. Four clients create keys and deactivate
//! every other one as fast as they can, until the server is killed at a random moment. After a
//! restart each key must have its last acknowledged state: 200 if active, 401 if deactivated. A key
//! whose deactivation was requested but not acknowledged may have either. CI runs 6 rounds. The long
//! form:
//!
//! ```text
//! PORTCULLIS_SERVER_KILLS=200 cargo test --release --test program kill:: -- --nocapture
//! ```

use portcullis_testkit::serving::Home;
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// A key with its last acknowledged state.
struct ClientKey {
    key: String,
    active: bool,
    /// A deactivation was requested and not acknowledged.
    in_doubt: bool,
}

/// Sends one request on its own connection. Returns `None` if the server ends before it responds.
fn ask(address: &str, key: &str, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let authorization = portcullis_testkit::basic(key.as_bytes());
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {authorization}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let length: usize = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
        })?
        .parse()
        .ok()?;
    (body.len() == length).then_some(())?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn field(json: &str, name: &str) -> String {
    let (_, rest) = json.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

/// Creates keys and deactivates every other one until the server is gone.
fn client(address: &str, root: &str, killed: &AtomicBool, keys: &Mutex<Vec<ClientKey>>) {
    for round in 0u32.. {
        let body = r#"{"name":"campaign","scopes":["api.read"]}"#;
        let Some((status, made)) = ask(address, root, "POST", "/v1/keys", body) else { break };
        assert_eq!(status, 201, "{made}");
        let (key, id) = (field(&made, "key"), field(&made, "id"));
        let at = {
            let mut keys = keys.lock().unwrap();
            keys.push(ClientKey { key, active: true, in_doubt: round % 2 == 1 });
            keys.len() - 1
        };
        if round % 2 == 0 {
            continue;
        }
        let path = format!("/v1/keys/{id}");
        let Some((status, _)) = ask(address, root, "PATCH", &path, r#"{"active":false}"#) else {
            break;
        };
        assert_eq!(status, 200);
        let mut keys = keys.lock().unwrap();
        let one = keys.get_mut(at).unwrap();
        (one.active, one.in_doubt) = (false, false);
    }
    assert!(killed.load(Ordering::SeqCst), "the server stopped responding before it was killed");
}

#[test]
fn acknowledged_changes_survive_kills_of_a_server() {
    let rounds: u32 = std::env::var("PORTCULLIS_SERVER_KILLS").map_or(6, |n| n.parse().unwrap());
    let home = Home::new();
    let root = home.done(&["init", "--scopes=financial-data"]);
    // Requests with deactivated keys count as bad keys.
    let serve = || home.serve(&["--behind-proxy", "--max-bad-keys", "1000000"]);
    let (mut checked, mut lost, mut revived) = (0u32, 0u32, 0u32);
    for round in 0..rounds {
        let server = serve();
        let (killed, keys) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let address = server.address().to_owned();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| client(&address, &root, &killed, &keys));
            }
            thread::sleep(Duration::from_millis(150 + u64::from(round * 97 % 400)));
            killed.store(true, Ordering::SeqCst);
            drop(server);
        });
        let server = serve();
        for one in keys.into_inner().unwrap() {
            let (status, body) = ask(server.address(), &one.key, "GET", "/v1/whoami", "").unwrap();
            checked += 1;
            match status {
                200 if !one.active => revived += 1,
                401 if one.active && !one.in_doubt => lost += 1,
                200 | 401 => {}
                _ => panic!("{status} {body}"),
            }
        }
        drop(server);
    }
    println!(
        "server kill: {rounds} kills, {checked} acknowledged keys, {lost} lost, {revived} revived"
    );
    assert!(checked > rounds * 4, "the clients created too few keys");
    assert_eq!((lost, revived), (0, 0));
}
