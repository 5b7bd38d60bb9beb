//! Misplaced keys, truncated requests, and the other entry points: metrics, control socket, commands.

use crate::{
    authorization,
    encoding::basic,
    http1::{Http1, connect, request, with_headers},
    http2::Coding,
    servers::{Servers, id_of, keys_in, wrong},
};
use std::{io::Write, net::TcpStream, thread::sleep, time::Duration};

type Named = (&'static str, fn(&Servers) -> Vec<String>);

pub(crate) const SCENES: &[Named] = &[
    ("Authorization of other kinds", other_kinds),
    ("two Authorization lines", twice),
    ("key in path, query and other headers", in_the_address),
    ("key in fields of a body", in_a_body),
    ("handshake truncated", truncated_handshake),
    ("headers truncated", truncated_headers),
    ("body truncated", truncated_body),
    ("oversized header", oversized_header),
    ("oversized body", oversized_body),
    ("HTTP/2: indexed, literal and Huffman", codings),
    ("HTTP/2: reset and truncated", reset),
    ("HTTP/2: 40 streams at once", many_streams),
    ("pipelined requests", pipelined),
    ("Expect: 100-continue", expect),
    ("plain HTTP on the TLS port", plain_on_tls),
    ("metrics listener", metrics),
    ("control socket", control),
    ("command line", command_line),
    ("SIGHUP between requests", hang_up),
    ("root key", root),
    ("bad keys until the limit", flood),
];

fn other_kinds(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    let value = basic(&key);
    let with_password = portcullis_testkit::base64(format!("{key}:{key}").as_bytes());
    for value in [
        format!("Bearer {key}"),
        format!("Basic {key}"),
        key.clone(),
        value.replace("Basic", "Digest"),
        format!("{value}="),
        format!("Basic {with_password}"),
        format!("{value} {value}"),
    ] {
        let mut one = servers.http1();
        let header = [format!("Authorization: {value}")];
        let status = one.ask(&with_headers("GET", "/v1/whoami", &header, "", "")).status;
        assert!([400, 401, 429].contains(&status), "{status}");
        one.close();
        let mut two = servers.http2();
        two.ask_with("GET", "/v1/keys", &[("authorization", &value)], "", Coding::Indexed);
        two.close();
    }
    vec![key]
}

fn twice(servers: &Servers) -> Vec<String> {
    let (key, other) = (servers.admin(), servers.key());
    let lines = [authorization(&key), authorization(&other)];
    for path in ["/v1/whoami", "/authz?scope=api.read"] {
        let mut one = servers.http1();
        let status = one.ask(&with_headers("GET", path, &lines, "", "")).status;
        assert!([401, 429].contains(&status), "{status}");
        one.close();
    }
    let mut two = servers.http2();
    let (a, b) = (basic(&key), basic(&other));
    let both = [("authorization", a.as_str()), ("authorization", b.as_str())];
    two.ask_with("GET", "/v1/whoami", &both, "", Coding::Indexed);
    two.close();
    vec![key, other]
}

fn in_the_address(servers: &Servers) -> Vec<String> {
    let (key, pasted) = (servers.admin(), servers.key());
    let escaped = pasted.replace('_', "%5F");
    for path in [
        format!("/v1/keys/{pasted}"),
        format!("/v1/keys/{escaped}"),
        format!("/v1/keys?q={pasted}"),
        format!("/v1/keys?page_token={pasted}"),
        format!("/v1/keys?{pasted}={escaped}"),
        format!("/authz?scope={pasted}"),
        format!("/{pasted}"),
    ] {
        let mut one = servers.http1();
        let headers = [
            authorization(&key),
            format!("X-Api-Key: {pasted}"),
            format!("Cookie: session={pasted}"),
            format!("X-Forwarded-For: {pasted}"),
            format!("Idempotency-Key: {pasted}"),
            format!("If-Match: \"{pasted}\""),
        ];
        let answer = one.ask(&with_headers("GET", &path, &headers, "", ""));
        assert_ne!(answer.status, 0, "{path}");
        one.close();
        let mut two = servers.http2();
        assert_ne!(two.ask("GET", &path, &key, "").status, 0);
        two.close();
    }
    vec![key, pasted]
}

fn in_a_body(servers: &Servers) -> Vec<String> {
    let (key, pasted, target) = (servers.admin(), servers.key(), servers.key());
    let path = format!("/v1/keys/{}", id_of(&target));
    for body in [
        format!(r#"{{"name":"{pasted}","scopes":["api.read"]}}"#),
        format!(r#"{{"name":"new","scopes":["{pasted}"],"owner":"{pasted}"}}"#),
        format!(r#"{{"name":"new","scopes":["api.read"],"metadata":{{"{pasted}":"{pasted}"}}}}"#),
        format!(r#"{{"{pasted}":"{pasted}"}}"#),
        format!(r#"{{"name":"{pasted}""#),
        format!(r#"{{"name":"\u0070{}"}}"#, &pasted[1..]),
        format!("[{pasted}]"),
        pasted.clone(),
    ] {
        for (method, path) in [("POST", "/v1/keys"), ("PATCH", &path), ("POST", "/v1/verify")] {
            let mut one = servers.http1();
            let answer = one.ask(&request(method, path, &key, &body));
            assert!((400..500).contains(&answer.status), "{method} {path} {body}: {answer:?}");
            one.close();
        }
        let mut two = servers.http2();
        two.ask("POST", "/v1/keys", &key, &body);
        two.close();
    }
    vec![key, pasted, target]
}

fn truncated_handshake(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    // The record announces more bytes, and a key follows.
    let mut stream = TcpStream::connect(servers.address()).unwrap();
    stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
    stream.write_all(request("GET", "/v1/whoami", &key, "").as_bytes()).unwrap();
    sleep(Duration::from_millis(50));
    drop(stream);
    // The handshake message is complete, and a key follows in the clear.
    let mut one = servers.tls();
    one.write_all(request("GET", "/v1/whoami", &key, "").as_bytes()).unwrap();
    one.flush().unwrap();
    drop(one);
    vec![key]
}

fn truncated_headers(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    let whole = request("GET", "/v1/keys", &key, "");
    for length in [whole.len() - 2, whole.len() - 8, whole.len() / 2] {
        let mut one = servers.http1();
        one.send(&whole.as_bytes()[..length]);
        sleep(Duration::from_millis(20));
        drop(one);
    }
    let mut two = servers.http2();
    two.begin_headers_only("GET", "/v1/keys", &key);
    sleep(Duration::from_millis(20));
    drop(two);
    vec![key]
}

fn truncated_body(servers: &Servers) -> Vec<String> {
    let (key, pasted) = (servers.admin(), servers.key());
    let body = format!(r#"{{"key":"{pasted}","scopes":["api.read"]}}"#);
    let whole = request("POST", "/v1/verify", &key, &body);
    let mut one = servers.http1();
    one.send(&whole.as_bytes()[..whole.len() - 5]);
    sleep(Duration::from_millis(20));
    drop(one);
    let headers = [authorization(&key), "Transfer-Encoding: chunked".into()];
    let head = with_headers("POST", "/v1/verify", &headers, "", "")
        .replace("\r\n\r\n", "\r\nContent-Type: application/json\r\n\r\n");
    for chunk in [format!("{:x}\r\n{body}\r\n", body.len()), format!("zz\r\n{body}"), body.clone()]
    {
        let mut one = servers.http1();
        one.send((head.clone() + &chunk).as_bytes());
        sleep(Duration::from_millis(20));
        drop(one);
    }
    vec![key, pasted]
}

fn oversized_header(servers: &Servers) -> Vec<String> {
    let (key, pasted) = (servers.admin(), servers.key());
    let many = format!("X-Filler: {}", format!("{pasted} ").repeat(16));
    let lines: Vec<String> = std::iter::once(authorization(&key)).chain(vec![many; 600]).collect();
    let mut one = servers.http1();
    one.ask(&with_headers("GET", "/v1/whoami", &lines, "", ""));
    drop(one);
    let mut one = servers.http1();
    one.ask(&with_headers(
        "GET",
        &format!("/{}", pasted.repeat(2000)),
        &[authorization(&key)],
        "",
        "",
    ));
    drop(one);
    let (long, basic) = (pasted.repeat(400), basic(&key));
    let headers = [("authorization", basic.as_str()), ("x-filler", &long)];
    let mut two = servers.http2();
    two.begin("GET", "/v1/whoami", &headers[..1], Coding::Literal, true);
    two.begin("GET", "/v1/whoami", &headers, Coding::Literal, true);
    drop(two);
    vec![key, pasted]
}

fn oversized_body(servers: &Servers) -> Vec<String> {
    let (key, pasted) = (servers.admin(), servers.key());
    let body = format!(r#"{{"name":"{}"}}"#, pasted.repeat(4000));
    for path in ["/v1/keys", "/v1/verify", "/login"] {
        let mut one = servers.http1();
        one.ask(&request("POST", path, &key, &body));
        drop(one);
        let mut two = servers.http2();
        two.ask("POST", path, &key, &body[..60_000]);
        two.close();
    }
    vec![key, pasted]
}

fn codings(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    let value = basic(&key);
    for coding in [Coding::Indexed, Coding::Literal, Coding::Huffman] {
        let mut two = servers.http2();
        for path in ["/v1/whoami", "/v1/keys"] {
            let headers = [("authorization", value.as_str())];
            assert_eq!(two.ask_with("GET", path, &headers, "", coding).status, 200);
        }
        two.close();
    }
    vec![key]
}

fn reset(servers: &Servers) -> Vec<String> {
    let (key, pasted) = (servers.admin(), servers.key());
    let value = basic(&key);
    let headers = [("authorization", value.as_str()), ("content-type", "application/json")];
    let mut two = servers.http2();
    let id = two.begin("POST", "/v1/verify", &headers, Coding::Indexed, false);
    two.data(id, &format!(r#"{{"key":"{pasted}""#), false);
    two.reset(id);
    assert_eq!(two.ask("GET", "/v1/whoami", &key, "").status, 200);
    let id = two.begin("POST", "/v1/verify", &headers, Coding::Indexed, false);
    two.data(id, &format!(r#"{{"key":"{pasted}""#), false);
    drop(two);
    vec![key, pasted]
}

fn many_streams(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    let value = basic(&key);
    let headers = [("authorization", value.as_str())];
    let mut two = servers.http2();
    let paths = ["/v1/whoami", "/v1/keys", "/v1/scopes", "/v1/audit"];
    let ids: Vec<u32> =
        (0..40).map(|n| two.begin("GET", paths[n % 4], &headers, Coding::Indexed, true)).collect();
    // Responses come in any order; waiting for the last stream is enough.
    two.answer(ids[39]);
    drop(two);
    vec![key]
}

fn pipelined(servers: &Servers) -> Vec<String> {
    let (key, other) = (servers.admin(), servers.key());
    let mut one = servers.http1();
    let both = request("GET", "/v1/keys", &key, "") + &request("GET", "/v1/whoami", &other, "");
    one.send(both.repeat(3).as_bytes());
    for _ in 0..6 {
        assert_eq!(one.answer().status, 200);
    }
    one.close();
    vec![key, other]
}

fn expect(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    let headers = [authorization(&key), "Expect: 100-continue".into(), "Content-Length: 40".into()];
    for path in ["/v1/keys", "/login"] {
        let mut one = servers.http1();
        one.send(with_headers("POST", path, &headers, "", "").as_bytes());
        sleep(Duration::from_millis(20));
        drop(one);
    }
    vec![key]
}

fn plain_on_tls(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    let mut one = Http1::new(connect(servers.address(), None));
    assert_eq!(one.ask(&request("GET", "/v1/whoami", &key, "")).status, 403);
    drop(one);
    vec![key]
}

fn metrics(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    let mut one = Http1::new(connect(&servers.metrics, None));
    assert_eq!(one.ask(&request("GET", "/metrics", &key, "")).status, 200);
    one.ask(&request("GET", &format!("/{key}"), &key, ""));
    one.close();
    vec![key]
}

fn control(servers: &Servers) -> Vec<String> {
    let (key, pasted) = (servers.admin(), servers.key());
    let mut one = servers.control();
    let mut keys = vec![key.clone(), pasted.clone()];
    let verify = format!(r#"{{"key":"{pasted}"}}"#);
    assert_eq!(one.ask(&request("POST", "/v1/verify", &key, &verify)).status, 200);
    let made =
        one.ask(&request("POST", "/v1/keys", &key, r#"{"name":"new","scopes":["api.read"]}"#));
    keys.extend(keys_in(&made.body));
    let rotate = format!("/v1/keys/{}/rotate", id_of(&keys[2]));
    keys.extend(keys_in(&one.ask(&request("POST", &rotate, &key, "{}")).body));
    assert_eq!(keys.len(), 4);
    one.close();
    let mut one = servers.control();
    one.send(request("GET", "/v1/backup", &key, "").as_bytes());
    sleep(Duration::from_millis(50));
    drop(one);
    keys
}

fn command_line(servers: &Servers) -> Vec<String> {
    let (key, unknown) = (servers.key(), wrong(&servers.key()));
    assert!(servers.command(&["verify"], &key).starts_with("VALID"));
    assert!(servers.command(&["verify", "--json"], &unknown).contains("UNKNOWN"));
    let made = servers.command(&["key", "create", "--name", "new", "--scope", "api.read"], "");
    let rotated = servers.command(&["key", "rotate", &id_of(made.trim())], "");
    let keys = [vec![key, unknown], keys_in(&made), keys_in(&rotated)].concat();
    assert_eq!(keys.len(), 4);
    keys
}

fn hang_up(servers: &Servers) -> Vec<String> {
    let key = servers.admin();
    let mut one = servers.http1();
    assert_eq!(one.ask(&request("GET", "/v1/whoami", &key, "")).status, 200);
    servers.server.signal("HUP");
    assert_eq!(one.ask(&request("GET", "/v1/keys", &key, "")).status, 200);
    one.close();
    vec![key]
}

fn root(servers: &Servers) -> Vec<String> {
    let root = servers.root().to_owned();
    let (mut one, mut two) = (servers.http1(), servers.http2());
    for path in ["/v1/whoami", "/v1/keys", "/v1/audit"] {
        assert_eq!(one.ask(&request("GET", path, &root, "")).status, 200);
        assert_eq!(two.ask("GET", path, &root, "").status, 200);
    }
    one.close();
    two.close();
    vec![root]
}

fn flood(servers: &Servers) -> Vec<String> {
    let keys: Vec<String> = (0..3).map(|_| wrong(&servers.key())).collect();
    for _ in 0..3 {
        let mut one = servers.http1();
        let mut statuses = Vec::new();
        for key in keys.iter().cycle().take(24) {
            statuses.push(one.ask(&request("GET", "/v1/whoami", key, "")).status);
        }
        assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
        one.close();
    }
    keys
}
