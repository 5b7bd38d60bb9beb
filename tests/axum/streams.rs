//! Work in flight ends with its key: a streaming body, server-sent events and a WebSocket over
//! real connections. The end is tested with a watchdog; how long it took is printed
//! (`cargo test --features axum --test axum streams:: -- --nocapture`), and is a few milliseconds.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket},
    },
    http::HeaderMap,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::get,
};
use futures_util::stream;
use portcullis::{
    Change, Expiry, Grant, KeyId, NewKey, Refusal, Store, Timestamp,
    scope::catalogue::API_READ,
    web::{self, Revoked, WhenRevoked},
};
use portcullis_testkit::{basic, issue, new_key};
use std::{
    convert::Infallible,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

/// Nothing here takes so long; a stream that does not end never does.
const WATCHDOG: Duration = Duration::from_mins(1);

/// Says one thing and then nothing for ever: only its key can end it.
async fn body(State(store): State<Store>, headers: HeaderMap) -> Result<Response, Refusal> {
    let caller = web::authenticate(&store, &headers)?;
    caller.require(&API_READ)?;
    let quiet = stream::unfold(0, |said| async move {
        if said > 0 {
            std::future::pending::<()>().await;
        }
        Some((Ok::<_, Infallible>(Bytes::from_static(b"hello")), said + 1))
    });
    Ok(web::until_revoked(Body::from_stream(quiet), store.revocation(&caller)))
}

/// Says something every five milliseconds.
async fn events(State(store): State<Store>, headers: HeaderMap) -> Result<Response, Refusal> {
    let caller = web::authenticate(&store, &headers)?;
    caller.require(&API_READ)?;
    let busy = stream::unfold((), |()| async {
        sleep(Duration::from_millis(5)).await;
        Some((Ok::<_, Infallible>(Event::default().data("hello")), ()))
    });
    let events = Sse::new(busy).keep_alive(KeepAlive::default());
    Ok(web::until_revoked(events, store.revocation(&caller)))
}

async fn socket(
    State(store): State<Store>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let caller = web::authenticate(&store, &headers)?;
    caller.require(&API_READ)?;
    let revocation = store.revocation(&caller);
    let chat = |mut socket: WebSocket| async move {
        let greeted = async {
            socket.send(Message::text("hello")).await.unwrap();
            while socket.recv().await.is_some() {}
        };
        if let Err(Revoked) = WhenRevoked::new(revocation).interrupt(greeted).await {
            let farewell = CloseFrame { code: 1008, reason: "the key was taken away".into() };
            let _ = socket.send(Message::Close(Some(farewell))).await;
        }
    };
    Ok(upgrade.on_upgrade(chat).into_response())
}

async fn serve(store: &Store) -> SocketAddr {
    let app = Router::new()
        .route("/body", get(body))
        .route("/events", get(events))
        .route("/socket", get(socket))
        .with_state(store.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// A connection on which the first hello has come.
async fn connect(address: SocketAddr, path: &str, key: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let upgrade = if path == "/socket" { upgrade } else { "" };
    let authorization = basic(key);
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\n{upgrade}authorization: {authorization}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut heard, mut part) = (Vec::new(), [0; 4096]);
    while !heard.windows(5).any(|window| window == b"hello") {
        let read = timeout(WATCHDOG, stream.read(&mut part)).await.unwrap().unwrap();
        assert_ne!(read, 0, "{path}: {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(part.get(..read).unwrap());
    }
    stream
}

/// What still comes until the connection ends.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    // A reset is an end as well.
    let _ = timeout(WATCHDOG, stream.read_to_end(&mut heard)).await.expect("the stream ends");
    heard
}

/// Runs a change where it may wait, and gives the moment before it.
async fn after(work: impl FnOnce() + Send + 'static) -> Instant {
    let start = Instant::now();
    tokio::task::spawn_blocking(work).await.unwrap();
    start
}

fn taken_away_by(store: &Store, way: &str, id: KeyId) {
    let change = match way {
        "revoke" => Change::deactivate(),
        _ => Change {
            grant: Some(Grant::Scopes(store.scopes(["api.write"]).unwrap())),
            ..Change::default()
        },
    };
    store.update(id, change).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_a_key_that_was_taken_away_ends_and_others_go_on() {
    let store = Store::in_memory().unwrap();
    let address = serve(&store).await;
    for path in ["/body", "/events", "/socket"] {
        for way in ["revoke", "narrow"] {
            let (id, key) = issue(&store, new_key(&store, "taken", &["api.read"]));
            let (_, other) = issue(&store, new_key(&store, "kept", &["api.read"]));
            let mut taken = connect(address, path, &key).await;
            let mut kept = connect(address, path, &other).await;
            let start = after({
                let store = store.clone();
                move || taken_away_by(&store, way, id)
            })
            .await;
            let heard = rest(&mut taken).await;
            eprintln!("{path}, {way}: ended after {:?}", start.elapsed());
            match path {
                // A chunked body that ends well says so with a chunk of length 0.
                "/body" | "/events" => assert!(!heard.ends_with(b"0\r\n\r\n"), "{path}"),
                _ => assert!(String::from_utf8_lossy(&heard).contains("taken away")),
            }
            let mut part = [0; 64];
            match timeout(Duration::from_millis(30), kept.read(&mut part)).await {
                Err(_) => {}
                Ok(read) => assert_ne!(read.unwrap(), 0, "{path}: another key's stream ended"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_when_its_key_expires_even_if_the_end_came_nearer_meanwhile() {
    let store = Store::in_memory().unwrap();
    let address = serve(&store).await;
    let in_secs = |secs| {
        let now = Timestamp::from(SystemTime::now());
        Expiry::At(Timestamp::from_secs(now.as_secs() + secs))
    };
    for path in ["/body", "/events", "/socket"] {
        let new = NewKey { expiry: in_secs(3600), ..new_key(&store, "brief", &["api.read"]) };
        let (id, key) = issue(&store, new);
        let mut stream = connect(address, path, &key).await;
        let start = after({
            let (store, expiry) = (store.clone(), in_secs(2));
            move || {
                store.update(id, Change { expiry: Some(expiry), ..Change::default() }).unwrap();
            }
        })
        .await;
        rest(&mut stream).await;
        let passed = start.elapsed();
        assert!(passed > Duration::from_millis(900), "{path} ended early, after {passed:?}");
        eprintln!("{path}: ended {passed:?} after its end was set one to two seconds ahead");
    }
}

/// What an application pays that does not stream: nothing. What one that does pays is this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_of_a_key_end_together() {
    let store = Store::in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "popular", &["api.read"]));
    let caller = store.authenticate_key(&key).unwrap();
    let ends: Vec<_> = (0..1000)
        .map(|_| {
            let end = WhenRevoked::new(store.revocation(&caller));
            tokio::spawn(async move { (end.await, Instant::now()).1 })
        })
        .collect();
    tokio::task::yield_now().await;
    let start = after({
        let store = store.clone();
        move || drop(store.revoke(id).unwrap())
    })
    .await;
    let mut last = start;
    for end in ends {
        last = last.max(timeout(WATCHDOG, end).await.unwrap().unwrap());
    }
    eprintln!("a thousand watches: the last ended after {:?}", last - start);
}
