//! A server on the control socket with scripted responses.

use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

/// A server on the control socket of an absent store; the test writes the responses.
pub struct Scripted(UnixListener);

impl Scripted {
    pub fn new(data: &Path) -> Self {
        fs::create_dir(data).unwrap();
        Self(UnixListener::bind(data.join("control.sock")).unwrap())
    }

    /// Accepts the next connection. Returns it with its first request other than `/readyz`.
    pub fn request(&self) -> (BufReader<UnixStream>, String) {
        let mut stream = BufReader::new(self.0.accept().unwrap().0);
        loop {
            let line = next_request(&mut stream);
            if !line.starts_with("GET /readyz ") {
                return (stream, line);
            }
            answer(&mut stream, "200 OK", &json!({"status": "ok"}));
        }
    }
}

/// Reads the next request: its first line and its body.
pub fn next_request(stream: &mut BufReader<UnixStream>) -> String {
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(count) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = count.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    format!("{} {}", first.trim(), String::from_utf8(body).unwrap())
}

pub fn answer(stream: &mut BufReader<UnixStream>, status: &str, body: &Value) {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.get_mut().write_all((head + &body).as_bytes()).unwrap();
}

/// Returns a newly created key, as the API has it.
pub fn new_key() -> Value {
    json!({
        "id": "key_8fK2mQ9xZ1a", "name": "till", "hint": "pcl_8fK2mQ9xZ1a", "scopes": [], "active": true,
        "owner": null, "metadata": {}, "created_at": "2026-01-01T00:00:00Z", "created_by": "local:0",
        "updated_at": "2026-01-01T00:00:00Z", "updated_by": "local:0", "inactive_since": null,
        "last_used_at": null, "expires_at": null, "key": "the text of the key"
    })
}
