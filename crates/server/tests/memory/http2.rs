//! A client of HTTP/2 that writes its own frames: it decides whether a header is indexed and where a
//! request is truncated.

use crate::{
    encoding::basic,
    http1::{Answer, Stream},
    huffman::encoded,
};

use portcullis_testkit::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, status, string,
};

/// How a header is written.
#[derive(Clone, Copy)]
pub(crate) enum Coding {
    /// Indexed: it stays in the dynamic table as long as the connection.
    Indexed,
    /// Not indexed.
    Literal,
    /// Indexed, its value in Huffman code.
    Huffman,
}

/// A connection.
pub(crate) struct Http2 {
    stream: Box<dyn Stream>,
    next: u32,
}

impl Http2 {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        let mut own = Self { stream, next: 1 };
        let _ = own.stream.write_all(PREFACE);
        own.frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        own.frame(WINDOW_UPDATE, 0, 0, &0x7000_0000u32.to_be_bytes());
        own
    }

    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let bytes = frame(kind, flags, id, payload);
        // Errors are ignored: the server may have closed the connection.
        let _ = self.stream.write_all(&bytes).and_then(|()| self.stream.flush());
    }

    /// Sends a request with a key and reads its answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, key: &str, body: &str) -> Answer {
        let basic = basic(key);
        let headers = [("authorization", basic.as_str()), ("content-type", "application/json")];
        self.ask_with(method, path, &headers, body, Coding::Indexed)
    }

    pub(crate) fn ask_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
        coding: Coding,
    ) -> Answer {
        let id = self.begin(method, path, headers, coding, body.is_empty());
        if !body.is_empty() {
            self.data(id, body, true);
        }
        self.answer(id)
    }

    /// Sends the headers of a request. Returns its stream.
    pub(crate) fn begin(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        coding: Coding,
        is_all: bool,
    ) -> u32 {
        let (id, block) = self.block(method, path, headers, coding);
        self.frame(HEADERS, END_HEADERS | (u8::from(is_all) * END_STREAM), id, &block);
        id
    }

    /// Sends headers that are never completed.
    pub(crate) fn begin_headers_only(&mut self, method: &str, path: &str, key: &str) {
        let basic = basic(key);
        let headers = [("authorization", basic.as_str())];
        let (id, block) = self.block(method, path, &headers, Coding::Literal);
        self.frame(HEADERS, 0, id, &block);
    }

    fn block(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        coding: Coding,
    ) -> (u32, Vec<u8>) {
        let id = self.next;
        self.next += 2;
        let mut block = Vec::new();
        for (name, value) in [
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path),
        ] {
            field(&mut block, name, value, Coding::Literal);
        }
        for (name, value) in headers {
            field(&mut block, name, value, coding);
        }
        (id, block)
    }

    /// Sends a part of a body.
    pub(crate) fn data(&mut self, id: u32, body: &str, is_all: bool) {
        let mut parts = body.as_bytes().chunks(16_000).peekable();
        while let Some(part) = parts.next() {
            let flags = u8::from(is_all && parts.peek().is_none()) * END_STREAM;
            self.frame(DATA, flags, id, part);
        }
    }

    pub(crate) fn reset(&mut self, id: u32) {
        self.frame(RST_STREAM, 0, id, &8u32.to_be_bytes());
    }

    /// Reads the response on a stream; its status is 0 if the stream was reset or the connection ended.
    pub(crate) fn answer(&mut self, id: u32) -> Answer {
        let mut answer = Answer::default();
        let mut body = Vec::new();
        loop {
            let mut head = [0; 9];
            if self.stream.read_exact(&mut head).is_err() {
                return Answer::default();
            }
            let [a, b, c, kind, flags, on @ ..] = head;
            let on = u32::from_be_bytes(on);
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            if self.stream.read_exact(&mut payload).is_err() {
                return Answer::default();
            }
            match kind {
                SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => self.frame(PING, ACK, 0, &payload),
                GOAWAY => return Answer::default(),
                RST_STREAM if on == id => return Answer::default(),
                HEADERS if on == id && answer.status == 0 => answer.status = status(&payload),
                DATA if on == id => body.extend(payload),
                _ => {}
            }
            if on == id && [HEADERS, DATA].contains(&kind) && flags & END_STREAM != 0 {
                answer.body = String::from_utf8_lossy(&body).into_owned();
                return answer;
            }
        }
    }

    /// Reads until the server closes, without acknowledging pings.
    pub(crate) fn drain(&mut self) {
        let _ = self.stream.read_to_end(&mut Vec::new());
    }

    /// Closes the connection in order. Dropping it aborts it.
    pub(crate) fn close(mut self) {
        self.frame(GOAWAY, 0, 0, &[0; 8]);
        self.stream.end();
    }
}

fn field(block: &mut Vec<u8>, name: &str, value: &str, coding: Coding) {
    block.push(if matches!(coding, Coding::Literal) { 0 } else { 0x40 });
    string(block, name.as_bytes(), 0);
    if matches!(coding, Coding::Huffman) {
        string(block, &encoded(value.as_bytes()), 0x80);
    } else {
        string(block, value.as_bytes(), 0);
    }
}
