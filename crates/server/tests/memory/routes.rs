//! Every route of the API with a valid, an unknown and a revoked key, over HTTP/1.1 and HTTP/2.

use crate::{
    authorization,
    encoding::basic,
    http1::{request, with_headers},
    http2::Coding,
    servers::{Servers, id_of, keys_in, wrong},
};

type Named = (&'static str, fn(&Servers) -> Vec<String>);

pub(crate) const SCENES: &[Named] = &[
    ("GET /v1/whoami", |s| on(s, "GET", "/v1/whoami", "")),
    ("GET /v1/keys", |s| on(s, "GET", "/v1/keys?page_size=5", "")),
    ("POST /v1/keys", |s| on(s, "POST", "/v1/keys", r#"{"name":"new","scopes":["api.read"]}"#)),
    ("GET /v1/keys/{id}", |s| on(s, "GET", "/v1/keys/{id}", "")),
    ("PATCH /v1/keys/{id}", |s| on(s, "PATCH", "/v1/keys/{id}", r#"{"name":"other"}"#)),
    ("DELETE /v1/keys/{id}", |s| on(s, "DELETE", "/v1/keys/{id}", "")),
    ("POST /v1/keys/{id}/rotate", |s| {
        on(s, "POST", "/v1/keys/{id}/rotate", r#"{"grace_seconds":3600}"#)
    }),
    ("GET /v1/scopes", |s| on(s, "GET", "/v1/scopes", "")),
    ("GET /v1/audit", |s| on(s, "GET", "/v1/audit", "")),
    ("GET /v1/audit/export", |s| on(s, "GET", "/v1/audit/export", "")),
    ("POST /v1/audit/cut", |s| {
        on(s, "POST", "/v1/audit/cut", r#"{"before":"2001-01-01T00:00:00Z"}"#)
    }),
    ("POST /v1/verify", verify),
    ("POST /v1/keys/leaked", leaked),
    ("GET /healthz, /readyz, /openapi.json", |s| {
        let probes = ["/healthz", "/readyz", "/openapi.json"];
        probes.iter().flat_map(|path| on(s, "GET", path, "")).collect()
    }),
    ("GET /authz", |s| on(s, "GET", "/authz?scope=api.read", "")),
    ("unknown path, wrong method", |s| {
        [on(s, "GET", "/v1/nothing", ""), on(s, "PUT", "/v1/keys", "{}")].concat()
    }),
    ("wrong key on every route", |s| with_refused_key(s, &wrong(&s.key()))),
    ("revoked key on every route", |s| with_refused_key(s, &s.inactive())),
    ("key without the scope", without_scope),
    ("forward authentication behind a proxy", behind_proxy),
    ("idempotent creation, twice", idempotent),
];

/// Three requests over HTTP/1.1, the last one closing, and three over HTTP/2.
fn on(servers: &Servers, method: &str, path: &str, body: &str) -> Vec<String> {
    let key = servers.admin();
    let mut keys = vec![key.clone()];
    let mut target = || {
        let target = servers.key();
        keys.push(target.clone());
        path.replace("{id}", &id_of(&target))
    };
    let has_target = path.contains("{id}");
    let paths: Vec<String> =
        (0..4).map(|_| if has_target { target() } else { path.to_owned() }).collect();
    let mut answers = Vec::new();
    let mut one = servers.http1();
    answers.push(one.ask(&request(method, &paths[0], &key, body)));
    let last = [authorization(&key), "Connection: close".into()];
    answers.push(one.ask(&with_headers(method, &paths[1], &last, "application/json", body)));
    one.drain();
    let mut one = servers.http1();
    answers.push(one.ask(&request(method, &paths[2], &key, body)));
    one.close();
    let mut two = servers.http2();
    answers.push(two.ask(method, &paths[3], &key, body));
    answers.push(two.ask("GET", "/v1/whoami", &key, ""));
    two.close();
    for answer in answers {
        assert!(![0, 401].contains(&answer.status), "{method} {path}: {answer:?}");
        keys.extend(keys_in(&answer.body));
    }
    keys
}

/// Keys in the body too: a valid, an unknown and a revoked one.
fn verify(servers: &Servers) -> Vec<String> {
    let (admin, valid, revoked) = (servers.admin(), servers.key(), servers.inactive());
    let unknown = wrong(&servers.key());
    let (mut one, mut two) = (servers.http1(), servers.http2());
    for key in [&valid, &revoked, &unknown] {
        let body = format!(r#"{{"key":"{key}","scopes":["api.write"]}}"#);
        let answers = [
            one.ask(&request("POST", "/v1/verify", &admin, &body)),
            two.ask("POST", "/v1/verify", &admin, &body),
        ];
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    }
    one.close();
    two.close();
    vec![admin, valid, revoked, unknown]
}

/// Keys in a leaked text: plain and encoded, found and revoked, and an unknown one.
fn leaked(servers: &Servers) -> Vec<String> {
    let (admin, unknown) = (servers.admin(), wrong(&servers.key()));
    let keys: Vec<String> = (0..4).map(|_| servers.key()).collect();
    let text = |one: &str, two: &str| {
        format!("{}\nkey={one} {}\n{unknown}", "x".repeat(100_000), authorization(two))
    };
    let mut one = servers.http1();
    let headers = [authorization(&admin)];
    for (path, [a, b]) in [
        ("/v1/keys/leaked", [&keys[0], &keys[1]]),
        ("/v1/keys/leaked?revoke=true", [&keys[0], &keys[1]]),
    ] {
        let answer = one.ask(&with_headers("POST", path, &headers, "text/plain", &text(a, b)));
        assert!(answer.status == 200 && answer.body.contains(&id_of(a)), "{answer:?}");
    }
    one.close();
    let basic = basic(&admin);
    let headers = [("authorization", basic.as_str()), ("content-type", "text/plain")];
    let mut two = servers.http2();
    let body = format!("{} {}", keys[2], keys[3]);
    let answer =
        two.ask_with("POST", "/v1/keys/leaked?revoke=true", &headers, &body, Coding::Indexed);
    assert!(answer.status == 200 && answer.body.contains("\"revoked\""), "{answer:?}");
    two.close();
    [keys, vec![admin, unknown]].concat()
}

fn with_refused_key(servers: &Servers, key: &str) -> Vec<String> {
    let routes = [
        ("GET", "/v1/whoami", ""),
        ("GET", "/v1/keys", ""),
        ("POST", "/v1/keys", r#"{"name":"new","scopes":["api.read"]}"#),
        ("PATCH", "/v1/keys/key_00000000000", r#"{"name":"other"}"#),
        ("DELETE", "/v1/keys/key_00000000000", ""),
        ("POST", "/v1/keys/key_00000000000/rotate", "{}"),
        ("GET", "/v1/audit/export", ""),
        ("POST", "/v1/verify", r#"{"key":"x"}"#),
        ("GET", "/authz?scope=api.read", ""),
    ];
    for (method, path, body) in routes {
        let mut one = servers.http1();
        let answer = one.ask(&request(method, path, key, body));
        assert!([401, 429].contains(&answer.status), "{method} {path}: {answer:?}");
        one.close();
        let mut two = servers.http2();
        let answer = two.ask(method, path, key, body);
        assert!([401, 429].contains(&answer.status), "{method} {path}: {answer:?}");
        two.close();
    }
    vec![key.to_owned()]
}

fn without_scope(servers: &Servers) -> Vec<String> {
    let key = servers.key();
    let (mut one, mut two) = (servers.http1(), servers.http2());
    assert_eq!(one.ask(&request("GET", "/v1/keys", &key, "")).status, 403);
    assert_eq!(two.ask("GET", "/v1/audit", &key, "").status, 403);
    one.close();
    two.close();
    vec![key]
}

fn behind_proxy(servers: &Servers) -> Vec<String> {
    let key = servers.plain_key();
    let headers = [
        authorization(&key),
        "X-Forwarded-For: 192.0.2.7".into(),
        "X-Forwarded-Proto: https".into(),
    ];
    let mut one = servers.plain_http1();
    for path in
        ["/authz?scope=api.read", "/authz/scope/api.read/some/path", "/v1/whoami", "/v1/keys"]
    {
        let answer = one.ask(&with_headers("GET", path, &headers, "", ""));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    one.close();
    let mut two = servers.plain_http2();
    assert_eq!(two.ask("GET", "/authz?scope=api.read", &key, "").status, 200);
    two.close();
    // Plain HTTP to the proxy is refused.
    let mut one = servers.plain_http1();
    let headers = [authorization(&key), "X-Forwarded-Proto: http".into()];
    assert_eq!(one.ask(&with_headers("GET", "/v1/whoami", &headers, "", "")).status, 403);
    one.close();
    vec![key]
}

fn idempotent(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    let mut keys = vec![key.clone()];
    let mut one = servers.http1();
    for _ in 0..2 {
        let headers = [authorization(&key), "Idempotency-Key: once".into()];
        let body = r#"{"name":"new","scopes":["api.read"]}"#;
        let answer = one.ask(&with_headers("POST", "/v1/keys", &headers, "application/json", body));
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        keys.extend(keys_in(&answer.body));
    }
    assert_eq!(keys.len(), 2);
    one.close();
    keys
}
