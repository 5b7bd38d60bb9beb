//! `POST /v1/leaks`: signed reports of a secret-scanning service.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use http_body_util::BodyExt;
use portcullis::{Actor, Expiry, Grant, KeyId, NewKey, Store};
use portcullis_admin::{LeakReports, router};
use portcullis_testkit::{base64, home, issue, new_key};
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, path::PathBuf};
use tower::ServiceExt;

/// A scanning service with its key pair.
struct Scanner(EcdsaKeyPair);

impl Scanner {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn public_keys(&self, id: &str) -> String {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        let pem = base64(der.as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n");
        json!({"public_keys": [{"key_identifier": id, "key": pem, "is_current": false}]})
            .to_string()
    }

    fn sign(&self, body: &[u8]) -> String {
        base64(self.0.sign(&SystemRandom::new(), body).unwrap().as_ref())
    }
}

struct Server {
    _dir: tempfile::TempDir,
    file: PathBuf,
    scanner: Scanner,
    leaks: LeakReports,
    app: Router,
    store: Store,
}

impl Server {
    fn new() -> Self {
        Self::with(|leaks| leaks)
    }

    fn with(options: impl FnOnce(LeakReports) -> LeakReports) -> Self {
        let (dir, home) = home();
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let scanner = Scanner::new();
        let file = dir.path().join("keys.json");
        fs::write(&file, scanner.public_keys("1a2b")).unwrap();
        let leaks = options(LeakReports::open(&file).unwrap());
        let app = router(store.clone()).merge(leaks.router(store.clone()));
        Self { _dir: dir, file, scanner, leaks, app, store }
    }

    fn key(&self, name: &str) -> (KeyId, String) {
        let (id, key) = issue(&self.store, new_key(&self.store, name, &["api.read"]));
        (id, String::from_utf8(key).unwrap())
    }

    async fn send(&self, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
        let request = Request::post("/v1/leaks")
            .header("content-type", "application/json")
            .extension(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 9))));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let reply =
            self.app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = reply.status().as_u16();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes().to_vec();
        (status, String::from_utf8(bytes).unwrap())
    }

    async fn report_text(&self, body: &str) -> (u16, String) {
        let signature = self.scanner.sign(body.as_bytes());
        let headers = [
            ("Github-Public-Key-Identifier", "1a2b"),
            ("Github-Public-Key-Signature", &*signature),
        ];
        self.send(&headers, body.as_bytes().to_vec()).await
    }

    async fn report(&self, tokens: &[&str]) -> (u16, String) {
        let token = |token: &&str| json!({"token": token, "type": "key", "url": "https://example.com/a", "source": "commit"});
        self.report_text(&tokens.iter().map(token).collect::<Value>().to_string()).await
    }

    fn counts(&self) -> (Vec<u64>, Vec<u64>) {
        let numbers =
            |counts: &mut dyn Iterator<Item = (&'static str, u64)>| counts.map(|c| c.1).collect();
        (numbers(&mut self.leaks.report_counts()), numbers(&mut self.leaks.token_counts()))
    }

    fn is_active(&self, id: KeyId) -> bool {
        self.store.get(id).unwrap().active
    }
}

#[tokio::test]
async fn reported_key_is_revoked_and_the_audit_log_names_the_scanner() {
    let server = Server::new();
    let ((one, a), (two, b)) = (server.key("a"), server.key("b"));
    let (other, _) = server.key("other");
    let text = format!("KEY={b}");
    assert_eq!(server.report(&[&a, "some_token", &text]).await, (204, String::new()));
    assert!(!server.is_active(one) && !server.is_active(two) && server.is_active(other));
    let last = server.store.audit(0, 100).unwrap().pop().unwrap();
    assert_eq!((last.actor, last.key), (Actor::SecretScanning, Some(two)));
    assert_eq!(last.source, Some([192, 0, 2, 7].into()));
    assert_eq!(server.store.get(one).unwrap().updated_by.to_string(), "secret-scanning");
    // A replay changes nothing.
    let entries = server.store.audit(0, 100).unwrap().len();
    assert_eq!(server.report(&[&a]).await.0, 204);
    assert_eq!(server.store.audit(0, 100).unwrap().len(), entries);
    assert_eq!(server.counts(), (vec![2, 0, 0, 0, 0], vec![2, 1, 0, 0, 1]));
}

#[tokio::test]
async fn right_id_with_another_secret_revokes_nothing() {
    let server = Server::new();
    let ((one, a), (two, b)) = (server.key("a"), server.key("b"));
    let forged = format!("{}{}", &a[..15], &b[15..]);
    assert_eq!(server.report(&[&forged, &a[..15], &one.to_string()]).await.0, 204);
    assert!(server.is_active(one) && server.is_active(two));
}

#[tokio::test]
async fn leaked_last_root_key_stays_active_and_is_counted() {
    let server = Server::new();
    let (root, key) = issue(&server.store, NewKey::new("root", Grant::All, Expiry::Never));
    let key = String::from_utf8(key).unwrap();
    assert_eq!(server.report(&[&key]).await.0, 204);
    assert!(server.is_active(root));
    assert_eq!(server.counts().1, [0, 0, 1, 0, 0]);
}

#[tokio::test]
async fn unsigned_and_malformed_reports_are_refused() {
    let server = Server::new();
    let (id, key) = server.key("a");
    let body = json!([{"token": key}]).to_string();
    let signature = server.scanner.sign(body.as_bytes());
    let foreign = Scanner::new().sign(body.as_bytes());
    let (identifier, signed) = ("github-public-key-identifier", "github-public-key-signature");
    for (headers, status) in [
        (&[][..], 400),
        (&[(identifier, "1a2b")], 400),
        (&[(signed, &*signature)], 400),
        (&[(identifier, "1a2b"), (identifier, "1a2b"), (signed, &*signature)], 400),
        (&[(identifier, "1a2c"), (signed, &*signature)], 503),
        (&[(identifier, "1a2b"), (signed, &*foreign)], 403),
        (&[(identifier, "1a2b"), (signed, "no base64")], 403),
    ] {
        let (found, text) = server.send(headers, body.clone().into_bytes()).await;
        assert_eq!(found, status, "{headers:?} {text}");
        assert!(!text.contains(&key));
    }
    let headers = [(identifier, "1a2b"), (signed, &*signature)];
    assert_eq!(server.send(&headers, format!("{body} ").into_bytes()).await.0, 403);
    assert_eq!(server.report_text(&format!("{{\"token\":\"{key}\"}}")).await.0, 400);
    assert_eq!(server.report(&[&*key; 1001]).await.0, 413);
    assert_eq!(server.send(&headers, vec![b' '; (1 << 20) + 1]).await.0, 413);
    assert!(server.is_active(id));
    assert_eq!(server.counts().0, [0, 1, 3, 6, 0]);
    assert_eq!(server.report(&[&*key; 1000]).await.0, 204);
}

#[tokio::test]
async fn unknown_identifier_is_refused_before_the_body_is_read() {
    let server = Server::new();
    // This body never ends.
    let body =
        Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = Request::post("/v1/leaks")
        .header("github-public-key-identifier", "unknown")
        .header("github-public-key-signature", "AAAA")
        .body(body)
        .unwrap();
    let reply = server.app.clone().oneshot(request).await.unwrap();
    assert_eq!(reply.status(), 503);
}

#[tokio::test]
async fn feedback_has_the_hash_of_each_token_and_never_the_token() {
    let server = Server::with(LeakReports::with_feedback);
    let (_, key) = server.key("a");
    for _ in 0..2 {
        let (status, text) = server.report(&[&key, "abc"]).await;
        assert_eq!(status, 200);
        assert!(!text.contains(&key), "{text}");
        let feedback: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(feedback[0]["label"], "true_positive");
        let unknown = json!({
            "token_hash": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "token_type": "key",
            "label": "false_positive",
        });
        assert_eq!(feedback[1], unknown);
    }
}

#[tokio::test]
async fn route_exists_only_where_it_is_mounted_and_an_unusable_file_is_an_error() {
    let server = Server::new();
    let without = router(server.store.clone());
    let request = Request::post("/v1/leaks").body(Body::empty()).unwrap();
    assert_eq!(without.oneshot(request).await.unwrap().status(), 404);
    fs::write(&server.file, "{}").unwrap();
    let error = LeakReports::open(&server.file).unwrap_err().to_string();
    assert!(error.contains("keys.json") && error.contains("api.github.com"), "{error}");
}
