//! HTTP/2 frames for misbehaving clients: the constants of the protocol, and a client without TLS.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// The client connection preface (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
// Frame types and their flags (RFC 9113 §6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;
/// The setting of the initial flow-control window.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

pub const NO_ERROR: u32 = 0;
pub const INTERNAL_ERROR: u32 = 2;
pub const CANCEL: u32 = 8;

/// The client side of a connection.
pub struct Frames {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A frame: its type, its flags, its stream and its payload.
pub type Frame = (u8, u8, u32, Vec<u8>);

impl Frames {
    /// Connects, and gives each stream this flow-control window.
    pub fn connect(address: &str, window: u32) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?, window)
    }

    pub fn over(stream: TcpStream, window: u32) -> io::Result<Self> {
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        stream.set_nodelay(true)?;
        let mut frames = Self { stream, buffer: Vec::new() };
        frames.stream.write_all(PREFACE)?;
        let mut settings = Vec::new();
        // No dynamic table in either direction, so that headers need no state.
        for (name, value) in [(1_u16, 0_u32), (4, window)] {
            settings.extend(name.to_be_bytes());
            settings.extend(value.to_be_bytes());
        }
        frames.send(SETTINGS, 0, 0, &settings)?;
        Ok(frames)
    }

    pub fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frame(kind, flags, id, payload))
    }

    /// Sends the headers of a request. `ends` means that no body follows.
    pub fn request(
        &mut self,
        id: u32,
        what: (&str, &str),
        headers: &[(&str, &str)],
        ends: bool,
    ) -> io::Result<()> {
        let (method, path) = what;
        let pseudo =
            [(":method", method), (":path", path), (":scheme", "http"), (":authority", "here")];
        let mut block = Vec::new();
        for (name, value) in pseudo.iter().chain(headers) {
            block.push(0);
            for text in [name, value] {
                string(&mut block, text.as_bytes(), 0);
            }
        }
        self.send(HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, id, &block)
    }

    pub fn data(&mut self, id: u32, bytes: &[u8], ends: bool) -> io::Result<()> {
        self.send(DATA, if ends { END_STREAM } else { 0 }, id, bytes)
    }

    pub fn reset(&mut self, id: u32, code: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, id, &code.to_be_bytes())
    }

    pub fn window(&mut self, id: u32, more: u32) -> io::Result<()> {
        self.send(WINDOW_UPDATE, 0, id, &more.to_be_bytes())
    }

    /// Reads the next frame. Acknowledges settings and pings.
    pub fn next_frame(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.read()?;
            match (frame.0, frame.1) {
                (SETTINGS, 0) => self.send(SETTINGS, ACK, 0, &[])?,
                (PING, 0) => self.send(PING, ACK, 0, &frame.3)?,
                (SETTINGS, _) => {}
                _ => return Ok(frame),
            }
        }
    }

    fn read(&mut self) -> io::Result<Frame> {
        let head = self.take(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.take(length)?;
        Ok((head[3], head[4], id, payload))
    }

    /// Reads this many bytes. Bytes that arrived before a timeout are kept.
    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            let mut part = [0; 16 * 1024];
            let read = self.stream.read(&mut part)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend(&part[..read]);
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Waits until the server has read everything sent so far.
    pub fn ping(&mut self) -> io::Result<()> {
        self.send(PING, 0, 0, b"whatever")?;
        loop {
            let frame = self.next_frame()?;
            if frame.0 == PING && frame.1 == ACK {
                return Ok(());
            }
        }
    }

    /// Reads the status of the response on this stream. Discards frames of other streams.
    pub fn status(&mut self, id: u32) -> io::Result<u16> {
        loop {
            let (kind, _, of, payload) = self.next_frame()?;
            if of == id && kind == HEADERS {
                return Ok(status(&payload));
            }
            if of == id && kind == RST_STREAM {
                return Err(io::Error::other(format!("reset with {payload:?}")));
            }
        }
    }
}

/// Encodes a frame.
pub fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Appends a string to a header block (RFC 7541 §5.2). `flag` is 0x80 for a text in Huffman code.
pub fn string(block: &mut Vec<u8>, text: &[u8], flag: u8) {
    let length = text.len();
    if length < 127 {
        block.push(flag | u8::try_from(length).unwrap());
    } else {
        let mut rest = length - 127;
        block.push(flag | 127);
        while rest >= 128 {
            block.push(u8::try_from(rest % 128 + 128).unwrap());
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap());
    }
    block.extend(text);
}

/// Decodes the status of a response: `:status` is the first field, after updates of the table size.
pub fn status(block: &[u8]) -> u16 {
    let at = block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap();
    if let known @ 0x88..=0x8e = block[at] {
        return [200, 204, 206, 304, 400, 404, 500][usize::from(known - 0x88)];
    }
    let text = &block[at + 2..at + 2 + usize::from(block[at + 1] & 0x7f)];
    if block[at + 1] & 0x80 == 0 {
        str::from_utf8(text).unwrap().parse().unwrap()
    } else {
        digits(text)
    }
}

/// Decodes three digits in Huffman code: 0, 1 and 2 have five bits, 3 to 9 six.
fn digits(text: &[u8]) -> u16 {
    let bits: Vec<u16> =
        text.iter().flat_map(|byte| (0..8).rev().map(move |n| u16::from(byte >> n & 1))).collect();
    let number = |bits: &[u16]| bits.iter().fold(0, |number, bit| number * 2 + bit);
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        let digit = if short <= 2 { short } else { number(&bits[at..at + 6]) - 0b01_1001 + 3 };
        at += if short <= 2 { 5 } else { 6 };
        value = value * 10 + digit;
    }
    value
}
