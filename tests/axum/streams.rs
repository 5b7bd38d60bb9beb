//! Long-running work ends when its key is revoked or expires: a streamed body, server-sent events
//! and a WebSocket over TCP connections.
//!
//! The tests bound the end only by a long timeout. They print the measured time, usually a few
//! milliseconds: `cargo test --features axum --test axum streams:: -- --nocapture`.

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
    Change, Expiry, Grant, KeyId, Refusal, Store, Timestamp,
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

/// Much longer than any step takes. A stream that is not ended would never end.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Sends one chunk and then nothing, so that only the revocation can end the body.
async fn body(State(store): State<Store>, headers: HeaderMap) -> Result<Response, Refusal> {
    let caller = web::authenticate(&store, &headers)?;
    caller.require(&API_READ)?;
    let quiet = stream::unfold(0, |sent| async move {
        if sent > 0 {
            std::future::pending::<()>().await;
        }
        Some((Ok::<_, Infallible>(Bytes::from_static(b"hello")), sent + 1))
    });
    Ok(web::until_revoked(Body::from_stream(quiet), store.revocation(&caller)))
}

/// Sends an event every five milliseconds.
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
        let session = async {
            socket.send(Message::text("hello")).await.unwrap();
            while socket.recv().await.is_some() {}
        };
        if let Err(Revoked) = WhenRevoked::new(revocation).interrupt(session).await {
            let close = CloseFrame { code: 1008, reason: "the key was revoked".into() };
            let _ = socket.send(Message::Close(Some(close))).await;
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

/// Opens a connection and waits for the first `hello`.
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
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while !received.windows(5).any(|window| window == b"hello") {
        let read = timeout(TIMEOUT, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert_ne!(read, 0, "{path}: {}", String::from_utf8_lossy(&received));
        received.extend_from_slice(buffer.get(..read).unwrap());
    }
    stream
}

/// Reads until the connection ends.
async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    // A reset ends the connection, too.
    let _ = timeout(TIMEOUT, stream.read_to_end(&mut received)).await.expect("the stream ends");
    received
}

/// Runs blocking work and returns the time at which it started.
async fn started_at(work: impl FnOnce() + Send + 'static) -> Instant {
    let start = Instant::now();
    tokio::task::spawn_blocking(work).await.unwrap();
    start
}

fn restrict(store: &Store, kind: &str, id: KeyId) {
    let change = match kind {
        "revoke" => Change::deactivate(),
        _ => Change::default().with_grant(Grant::Scopes(store.scopes(["api.write"]).unwrap())),
    };
    store.update(id, change).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_or_narrowing_ends_the_streams_of_that_key_only() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let address = serve(&store).await;
    for path in ["/body", "/events", "/socket"] {
        for kind in ["revoke", "narrow"] {
            let (id, key) = issue(&store, new_key(&store, "restricted", &["api.read"]));
            let (_, other) = issue(&store, new_key(&store, "unchanged", &["api.read"]));
            let mut restricted = connect(address, path, &key).await;
            let mut unchanged = connect(address, path, &other).await;
            let start = started_at({
                let store = store.clone();
                move || restrict(&store, kind, id)
            })
            .await;
            let received = read_to_end(&mut restricted).await;
            eprintln!("{path}, {kind}: ended after {:?}", start.elapsed());
            match path {
                // A chunked body that is complete ends with a chunk of length 0.
                "/body" | "/events" => assert!(!received.ends_with(b"0\r\n\r\n"), "{path}"),
                _ => assert!(String::from_utf8_lossy(&received).contains("the key was revoked")),
            }
            let mut buffer = [0; 64];
            match timeout(Duration::from_millis(30), unchanged.read(&mut buffer)).await {
                Err(_) => {}
                Ok(read) => assert_ne!(read.unwrap(), 0, "{path}: another key's stream ended"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_ends_at_an_expiry_that_was_moved_earlier() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let address = serve(&store).await;
    let in_secs = |secs| {
        let now = Timestamp::from(SystemTime::now());
        Expiry::At(Timestamp::from_secs(now.as_secs() + secs))
    };
    for path in ["/body", "/events", "/socket"] {
        let new = new_key(&store, "brief", &["api.read"]).with_expiry(in_secs(3600));
        let (id, key) = issue(&store, new);
        let mut stream = connect(address, path, &key).await;
        let start = started_at({
            let (store, expiry) = (store.clone(), in_secs(2));
            move || {
                store.update(id, Change::default().with_expiry(expiry)).unwrap();
            }
        })
        .await;
        read_to_end(&mut stream).await;
        let passed = start.elapsed();
        assert!(passed > Duration::from_millis(900), "{path} ended early, after {passed:?}");
        eprintln!("{path}: ended {passed:?} after the expiry was set one to two seconds ahead");
    }
}

/// Prints how long one revocation takes to complete all futures of its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_ends_a_thousand_futures_of_its_key() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (id, key) = issue(&store, new_key(&store, "popular", &["api.read"]));
    let caller = store.authenticate_key(&key).unwrap();
    let ends: Vec<_> = (0..1000)
        .map(|_| {
            let end = WhenRevoked::new(store.revocation(&caller));
            tokio::spawn(async move { (end.await, Instant::now()).1 })
        })
        .collect();
    tokio::task::yield_now().await;
    let start = started_at({
        let store = store.clone();
        move || drop(store.revoke(id).unwrap())
    })
    .await;
    let mut last = start;
    for end in ends {
        last = last.max(timeout(TIMEOUT, end).await.unwrap().unwrap());
    }
    eprintln!("a thousand futures: the last completed after {:?}", last - start);
}
