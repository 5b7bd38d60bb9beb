//! The backend of a reverse proxy: it responds with the head of the request that reached it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

/// Starts the backend, which runs until the test ends. `/broken` gets an error.
pub(crate) fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    head.extend(byte);
                }
                let is_broken = head.starts_with(b"GET /broken");
                let status = if is_broken { "500 Internal Server Error" } else { "200 OK" };
                let length = head.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.write_all(&[answer.as_bytes(), &head].concat());
            });
        }
    });
    address
}
