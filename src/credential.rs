//! What `Authorization` carries → the key that a caller presents.
//!
//! The key is the user of Basic authentication (RFC 7617); the password is empty or not set. What
//! is accepted is a table in `docs`; every refusal looks the same outside, so this room has one
//! word for all that can be wrong with a value.
//!
//! Secret: the header, the decoded key. Not secret: how long they are, and where the first fault
//! would be, though no work is saved by knowing it: faults are gathered and judged once.
//!
//! Why a decoder of our own: `base64` takes half as long again and serves alphabets that we refuse,
//! and the SIMD one is unsafe code in front of every request.

#[cfg(test)]
#[path = "../tests/support/slow_parser.rs"]
mod slow_parser;

use crate::{refusal::Refusal, secret::MAX_KEY_LEN};
use std::fmt;
use zeroize::Zeroize;

/// The longest header value that is looked at.
const MAX_VALUE_LEN: usize = 1024;
/// The longest base64 text, padding included: that of the longest key and a colon.
const MAX_TEXT_LEN: usize = (MAX_KEY_LEN + 1).div_ceil(3) * 4;
/// What the longest text decodes to.
const MAX_DECODED_LEN: usize = MAX_TEXT_LEN / 4 * 3;

/// Reads the presented key from all the `Authorization` values of one request.
///
/// Two values are refused even where they are identical: a request that different readers
/// understand differently is how others get fooled.
#[inline]
pub(crate) fn read_all<'b, 'h>(
    values: impl IntoIterator<Item = &'h [u8]>,
    buffer: &'b mut KeyBuffer,
) -> Result<&'b [u8], Refusal> {
    let mut values = values.into_iter();
    let first = values.next().ok_or(Refusal::Missing)?;
    if values.next().is_some() {
        return Err(Refusal::Ambiguous);
    }
    read(first, buffer)
}

/// Reads the presented key from one `Authorization` value into `buffer`.
///
/// What comes back is 1 to 64 bytes of visible ASCII without a colon; whether it is a key is for
/// others to say.
#[inline]
pub(crate) fn read<'b>(
    authorization: &[u8],
    buffer: &'b mut KeyBuffer,
) -> Result<&'b [u8], Refusal> {
    if authorization.len() > MAX_VALUE_LEN {
        return Err(Refusal::Malformed);
    }
    token(authorization).and_then(|token| decode(token, &mut buffer.0)).ok_or(Refusal::Malformed)
}

/// Where a presented key lies while it is checked: on the caller's stack, wiped on drop.
///
/// It has no `Clone`, and [`read`] decodes into it in place. Make it where it stays: moving it
/// after use would leave the old place unwiped.
pub(crate) struct KeyBuffer([u8; MAX_DECODED_LEN]);

const _: () = assert!(std::mem::needs_drop::<KeyBuffer>());

impl KeyBuffer {
    #[inline]
    pub(crate) fn new() -> Self {
        Self([0; MAX_DECODED_LEN])
    }

    /// As a slice, which `zeroize` fills with a few wide stores; an array it wipes byte by byte, in
    /// about the time of decoding it.
    #[inline]
    fn wipe(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

impl Drop for KeyBuffer {
    #[inline]
    fn drop(&mut self) {
        self.wipe();
    }
}

impl fmt::Debug for KeyBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBuffer(<elided>)")
    }
}

/// The base64 text: what follows `Basic` and its spaces.
#[inline]
fn token(mut value: &[u8]) -> Option<&[u8]> {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    let (scheme, rest) = value.split_at_checked(b"Basic".len())?;
    // RFC 9110 §11.4 separates by 1*SP; white space of other kinds is not the grammar's.
    let [b' ', token @ ..] = rest else { return None };
    let mut token = token;
    while let [b' ', rest @ ..] = token {
        token = rest;
    }
    scheme.eq_ignore_ascii_case(b"Basic").then_some(token)
}

/// The user that `token` spells, decoded straight into `bytes`: a copy on the way would be one
/// that nobody wipes.
#[inline]
fn decode<'b>(token: &[u8], bytes: &'b mut [u8; MAX_DECODED_LEN]) -> Option<&'b [u8]> {
    if token.len() > MAX_TEXT_LEN {
        return None;
    }
    // Padding that completes the last group of four. Any other `=` stays, and is no digit.
    let text = match token {
        [text @ .., b'=', b'='] | [text @ .., b'='] if token.len() % 4 == 0 => text,
        text => text,
    };
    let (octets, rest) = text.as_chunks::<8>();
    let (head, last, kept) = match (octets, rest) {
        ([head @ .., last], []) => (head, *last, 6),
        (head, &[a, b]) => (head, [a, b, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO], 1),
        (head, &[a, b, c]) => (head, [a, b, c, ZERO, ZERO, ZERO, ZERO, ZERO], 2),
        (head, &[a, b, c, d]) => (head, [a, b, c, d, ZERO, ZERO, ZERO, ZERO], 3),
        (head, &[a, b, c, d, e, f]) => (head, [a, b, c, d, e, f, ZERO, ZERO], 4),
        (head, &[a, b, c, d, e, f, g]) => (head, [a, b, c, d, e, f, g, ZERO], 5),
        _ => return None,
    };
    let (places, _) = bytes.as_chunks_mut::<6>();
    let (last_place, places) = places.get_mut(..=head.len())?.split_last_mut()?;

    let mut faults = Faults::default();
    for (place, digits) in places.iter_mut().zip(head) {
        let word = faults.decode(*digits);
        *place = low_bytes(word);
        faults.check_user(word);
    }

    let word = faults.decode(last);
    *last_place = low_bytes(word);
    let missing_bits = 48 - 8 * kept;
    // Bits of the text beyond its last byte are zero, or two texts would spell one key.
    let beyond = (1 << missing_bits) - 1;
    faults.trailing |= word & beyond;
    // Here alone may a colon stand. It counts as a `0`, as do the bytes that are not there.
    let colon = u64::from((word >> missing_bits) & 0xff == u64::from(b':'));
    let colon_to_zero = (colon * u64::from(b':' ^ b'0')) << missing_bits;
    faults.check_user((word ^ colon_to_zero) | (each(b'0') & beyond));

    let len = (head.len() * 6 + kept).checked_sub(usize::from(colon == 1))?;
    let sound = faults.none() && (1..=MAX_KEY_LEN).contains(&len);
    if sound { bytes.get(..len) } else { None }
}

/// What is wrong with a text, gathered without a branch over all of it.
#[derive(Default)]
struct Faults {
    digits: u32,
    user: u64,
    trailing: u64,
}

impl Faults {
    /// Eight digits to six bytes, in the low bits, the first one highest.
    #[inline]
    fn decode(&mut self, digits: [u8; 8]) -> u64 {
        let [a, b, c, d, e, f, g, h] = digits;
        let high = FIRST.of(a) | SECOND.of(b) | THIRD.of(c) | FOURTH.of(d);
        let low = FIRST.of(e) | SECOND.of(f) | THIRD.of(g) | FOURTH.of(h);
        self.digits |= high | low;
        u64::from(high) << 24 | u64::from(low)
    }

    /// Notes bytes that are not visible ASCII, and colons: the top bit of the byte's own place is
    /// set. A byte of 0x80 or more may carry into the next, but is a fault already.
    #[inline]
    fn check_user(&mut self, word: u64) {
        let visible = word + each(0x80 - b'!');
        let delete = word + each(0x80 - 0x7f);
        let no_colon = (word ^ each(b':')) + each(0x7f);
        self.user |= word | delete | !(visible & no_colon);
    }

    #[inline]
    fn none(&self) -> bool {
        u64::from(self.digits & NO_DIGIT) | (self.user & each(0x80)) | self.trailing == 0
    }
}

/// The byte in each of the six places of a decoded word.
const fn each(byte: u8) -> u64 {
    u64::from_be_bytes([0, 0, byte, byte, byte, byte, byte, byte])
}

#[inline]
fn low_bytes(word: u64) -> [u8; 6] {
    let [_, _, bytes @ ..] = word.to_be_bytes();
    bytes
}

/// The base64 digit of zero bits, which stands in for what a short end lacks.
const ZERO: u8 = b'A';
/// The bit above those of a group: what the tables give for everything but a digit.
const NO_DIGIT: u32 = 1 << 31;

/// The bits of each digit where they belong in a group of four, first to last.
static FIRST: Digits = Digits::shifted(18);
static SECOND: Digits = Digits::shifted(12);
static THIRD: Digits = Digits::shifted(6);
static FOURTH: Digits = Digits::shifted(0);

struct Digits([u32; 256]);

impl Digits {
    const fn shifted(shift: u32) -> Self {
        let mut bits = [NO_DIGIT; 256];
        let mut rest: &mut [u32] = &mut bits;
        let mut character = 0u8;
        while let [place, tail @ ..] = rest {
            if let Some(sextet) = sextet(character) {
                *place = (sextet as u32) << shift;
            }
            character = character.wrapping_add(1);
            rest = tail;
        }
        Self(bits)
    }

    #[inline]
    fn of(&self, character: u8) -> u32 {
        self.0.get(usize::from(character)).copied().unwrap_or(NO_DIGIT)
    }
}

/// Letters and digits only. Text of `[A-Za-z0-9_:]` never needs `+` and `/`, nor what URL-safe
/// base64 has in their place, so nothing legitimate is lost.
const fn sextet(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character - b'A'),
        b'a'..=b'z' => Some(character - b'a' + 26),
        b'0'..=b'9' => Some(character - b'0' + 52),
        _ => None,
    }
}
