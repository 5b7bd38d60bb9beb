//! Parses the value of an `Authorization` header and returns the presented key.
//!
//! The key is the user name of Basic authentication (RFC 7617); the password is empty or absent.
//! Everything else is refused with the same response, so one refusal covers all malformed values.
//!
//! Secret: the header and the decoded key. Not secret: their lengths. Errors are gathered over the
//! whole text and checked once, so the time does not depend on their place.
//!
//! A decoded key is looked up first. Its syntax is checked only on a miss ([`is_user`]): a hit is
//! valid by construction.
//!
//! The design document has the figure for a base64 decoder of its own.

mod accepted;
#[cfg(test)]
mod slow_parser;

pub use self::accepted::{Credentials, KeyHeader, ParseKeyHeaderError};

use crate::{refusal::Refusal, secret::MAX_KEY_LEN};
use std::fmt;
use zeroize::Zeroize;

/// The longest header value that is parsed.
const MAX_VALUE_LEN: usize = 1024;
/// The longest base64 text, padding included: that of the longest key and a colon.
const MAX_TEXT_LEN: usize = (MAX_KEY_LEN + 1).div_ceil(3) * 4;
/// The characters that are decoded at a time, and their bytes.
const CHARS: usize = 16;
const BYTES: usize = CHARS / 4 * 3;
/// The buffer size for the longest text, in whole steps.
const ROOM: usize = MAX_TEXT_LEN.div_ceil(CHARS) * BYTES;

/// Returns the only `Authorization` value of a request.
///
/// Two values are refused even if they are identical: a proxy could read another one than this
/// program.
#[inline]
pub(crate) fn only<V>(mut values: impl Iterator<Item = V>) -> Result<V, Refusal> {
    let first = values.next().ok_or(Refusal::Missing)?;
    if values.next().is_some() { Err(Refusal::Ambiguous) } else { Ok(first) }
}

/// The base64 text of a value whose scheme is Basic and whose length may be that of a key. A value that
/// fails this check needs no buffer that must be wiped.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'h>(&'h [u8]);

impl<'h> Encoded<'h> {
    #[inline]
    pub(crate) fn find(authorization: &'h [u8]) -> Result<Self, Refusal> {
        if authorization.len() > MAX_VALUE_LEN {
            return Err(Refusal::Malformed);
        }
        match token(authorization) {
            Some(text) if text.len() <= MAX_TEXT_LEN => Ok(Self(text)),
            _ => Err(Refusal::Malformed),
        }
    }

    /// The base64 text.
    pub(crate) fn text(self) -> &'h [u8] {
        self.0
    }

    /// Decodes the presented key into `buffer`. Returns 1 to 64 bytes, without the colon at their end.
    #[inline]
    pub(crate) fn read(self, buffer: &mut KeyBuffer) -> Result<&[u8], Refusal> {
        decode(self.0, &mut buffer.0).ok_or(Refusal::Malformed)
    }
}

/// The base64 text of a value whose scheme is Basic and which is too long for an own key.
pub(crate) fn long_token(authorization: &[u8]) -> Option<&[u8]> {
    if authorization.len() > MAX_VALUE_LEN { None } else { token(authorization) }
}

/// The key in a value whose scheme is Bearer (RFC 6750 §2.1); `None` for other values.
pub(crate) fn bearer(authorization: &[u8], longest: usize) -> Option<&[u8]> {
    let value = authorization.trim_ascii();
    let (scheme, rest) = value.split_at_checked("Bearer".len())?;
    if !scheme.eq_ignore_ascii_case(b"Bearer") || !rest.starts_with(b" ") {
        return None;
    }
    // RFC 9110 §11.4 has 1*SP here, so other white space is refused.
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    plain_key(rest.get(spaces..)?, longest)
}

/// The key in a header of its own: the whole value.
pub(crate) fn plain_key(value: &[u8], longest: usize) -> Option<&[u8]> {
    let may_be_key = (1..=longest).contains(&value.len()) && is_user(value);
    may_be_key.then_some(value)
}

/// Whether these bytes can be a user name: visible ASCII without a colon, after which a password would
/// follow.
pub(crate) fn is_user(presented: &[u8]) -> bool {
    presented.iter().all(|byte| byte.is_ascii_graphic() && *byte != b':')
}

/// The buffer of a presented key, on the caller's stack and wiped on drop.
///
/// It has no `Clone`, and [`Encoded::read`] decodes into it in place. Do not move it after use: the old
/// place would not be wiped.
pub(crate) struct KeyBuffer([u8; ROOM]);

const _: () = assert!(std::mem::needs_drop::<KeyBuffer>());

impl KeyBuffer {
    #[inline]
    pub(crate) fn new() -> Self {
        Self([0; ROOM])
    }

    /// `zeroize` wipes a slice with a few wide stores, but an array byte by byte.
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

/// Returns the base64 text after `Basic` and its spaces.
#[inline]
fn token(mut value: &[u8]) -> Option<&[u8]> {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    // The bit 0x20 converts letters to lower case and no other byte to a letter. A valid value has at
    // least eight bytes; the last two of these do not belong to the scheme.
    let scheme = u64::from_le_bytes(*value.first_chunk()?) & SCHEME_MASK | SCHEME_LETTERS;
    if scheme != SCHEME {
        return None;
    }
    // RFC 9110 §11.4 has 1*SP here, so other white space is refused.
    let mut token = value.get(6..)?;
    while let [b' ', rest @ ..] = token {
        token = rest;
    }
    Some(token)
}

/// `basic` and the space after it, as the low six bytes of a word.
const SCHEME: u64 = u64::from_le_bytes(*b"basic \0\0");
const SCHEME_LETTERS: u64 = u64::from_le_bytes(*b"     \0\0\0");
const SCHEME_MASK: u64 = (1 << 48) - 1;

/// Decodes the user name of `token` directly into `bytes`: an intermediate copy would not be wiped.
#[inline]
fn decode<'b>(token: &[u8], bytes: &'b mut [u8; ROOM]) -> Option<&'b [u8]> {
    // Checked before; repeated so that the compiler knows the largest number of steps.
    if token.len() > MAX_TEXT_LEN {
        return None;
    }
    // Padding that completes the last group of four. Any other `=` remains, and is not a digit.
    let text = match token {
        [text @ .., b'=', b'='] | [text @ .., b'='] if token.len().is_multiple_of(4) => text,
        text => text,
    };
    // The last 1 to 16 characters: shifted to their beginning, and filled up.
    let end_len = text.len().checked_sub(1)? % CHARS + 1;
    let end = ENDS.get(end_len - 1)?;
    let (head, rest) = text.split_at_checked(text.len() - end_len)?;
    let (head, _) = head.as_chunks::<CHARS>();
    let last = match text.last_chunk::<CHARS>() {
        Some(chunk) => u128::from_le_bytes(*chunk) >> (8 * (CHARS - end_len)),
        None => rest.iter().rev().fold(0, |word, &digit| word << 8 | u128::from(digit)),
    };
    let last = (last | end.filler).to_le_bytes();

    let (places, _) = bytes.as_chunks_mut::<BYTES>();
    let (last_place, places) = places.get_mut(..=head.len())?.split_last_mut()?;
    let (mut sound, mut seen) = ([u8::MAX; CHARS], [0; 2]);
    for (place, digits) in places.iter_mut().zip(head) {
        let words = decode_chunk(*digits, &mut sound);
        *place = bytes_of(words);
        seen.iter_mut().zip(words).for_each(|(seen, word)| *seen |= word);
    }
    let words = decode_chunk(last, &mut sound);
    *last_place = bytes_of(words);
    seen.iter_mut().zip(words).for_each(|(seen, word)| *seen |= word);
    let [a, b] = seen;

    let len = head.len() * BYTES + end.kept;
    let len = len - usize::from(bytes.get(len.checked_sub(1)?) == Some(&b':'));
    let sound = sound == [u8::MAX; CHARS] && end.is_sound(words) && (a | b) & each(0x80) == 0;
    if sound && (1..=MAX_KEY_LEN).contains(&len) { bytes.get(..len) } else { None }
}

/// The offsets that are added for a lower-case letter and for a figure.
const SMALL: u8 = b'Z' - b'A' + 1;
const FIGURE: u8 = b'a' - b'0' + 2 * SMALL;

/// Decodes sixteen digits to two words of six bytes, the first digit highest. A character that is not a
/// digit clears bits of its place in `sound`.
///
/// Arithmetic instead of a table: the compiler vectorizes it, and no memory address depends on the key.
/// `+` and `/` are not digits here, nor their URL-safe replacements: the base64 text of
/// `[A-Za-z0-9_:]` never contains them.
#[inline]
fn decode_chunk(digits: [u8; CHARS], sound: &mut [u8; CHARS]) -> [u64; 2] {
    let mut sextets = [0; CHARS];
    for ((sextet, sound), digit) in sextets.iter_mut().zip(sound).zip(digits) {
        // The distance from `a`, without regard to case, which one bit distinguishes.
        let letter = (digit | 0x20).wrapping_sub(b'a');
        let is_letter = all_ones(letter < 26);
        let is_small = all_ones(digit.cast_signed() > b'Z'.cast_signed());
        let is_figure = all_ones(digit.wrapping_sub(b'0') < 10);
        // A figure has that bit as well, so `letter` is its distance from `a`.
        *sextet = letter.wrapping_add(is_small & SMALL).wrapping_add(is_figure & FIGURE);
        *sound &= is_letter | is_figure;
    }
    let (halves, _) = sextets.as_chunks::<8>();
    let mut words = [0; 2];
    for (word, half) in words.iter_mut().zip(halves) {
        *word = join(u64::from_le_bytes(*half));
    }
    words
}

/// The constants for the last characters of a text, by their number.
struct End {
    /// `A`, which is zero bits, in the place of each absent character.
    filler: u128,
    /// The number of decoded bytes: 0 if the last group has only one digit.
    kept: usize,
    /// All bits of the absent bytes.
    beyond: [u64; 2],
}

/// Indexed by the number of characters, less one.
static ENDS: [End; CHARS] = {
    let mut ends = [const { End::of(1) }; CHARS];
    let mut rest: &mut [End] = &mut ends;
    let mut len = 0;
    while let [end, tail @ ..] = rest {
        len += 1;
        *end = End::of(len);
        rest = tail;
    }
    ends
};

impl End {
    const fn of(len: usize) -> Self {
        let kept = if len % 4 == 1 { 0 } else { len * 6 / 8 };
        Self {
            filler: u128::from_le_bytes([b'A'; CHARS]) << (8 * (len - 1)) << 8,
            kept,
            beyond: halves((1 << (8 * (BYTES - kept))) - 1),
        }
    }

    /// Whether the last group has at least two digits, and the bits after the last byte are zero.
    /// Otherwise two texts would decode to the same key.
    #[inline]
    fn is_sound(&self, [high, low]: [u64; 2]) -> bool {
        let [beyond_high, beyond_low] = self.beyond;
        self.kept != 0 && high & beyond_high | low & beyond_low == 0
    }
}

/// The low twelve bytes as two words of six bytes.
#[expect(clippy::cast_possible_truncation, reason = "the mask keeps the low bits")]
const fn halves(bytes: u128) -> [u64; 2] {
    [(bytes >> 48) as u64 & each(0xff), bytes as u64 & each(0xff)]
}

#[inline]
fn all_ones(condition: bool) -> u8 {
    if condition { u8::MAX } else { 0 }
}

/// Joins eight sextets, a byte each, to six bytes: pairs to 12 bits, fours to 24, all to 48.
#[inline]
fn join(sextets: u64) -> u64 {
    const EVERY_OTHER_BYTE: u64 = 0x00ff_00ff_00ff_00ff;
    const EVERY_OTHER_PAIR: u64 = 0x0000_ffff_0000_ffff;
    let pairs = (sextets & EVERY_OTHER_BYTE) << 6 | sextets >> 8 & EVERY_OTHER_BYTE;
    let fours = (pairs & EVERY_OTHER_PAIR) << 12 | pairs >> 16 & EVERY_OTHER_PAIR;
    (fours << 24 | fours >> 32) & each(0xff)
}

/// The byte in each of the six places of a word.
const fn each(byte: u8) -> u64 {
    u64::from_be_bytes([0, 0, byte, byte, byte, byte, byte, byte])
}

#[inline]
fn bytes_of([high, low]: [u64; 2]) -> [u8; BYTES] {
    let [_, _, _, _, bytes @ ..] = (u128::from(high) << 48 | u128::from(low)).to_be_bytes();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "pcl_00000000000_ThisIsNotARealKeyItIsOnlyForTests00000";

    /// A plain base64 encoder with padding.
    fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let word = group.iter().fold(0, |word, &byte| word << 8 | usize::from(byte));
            let word = word << (8 * (3 - group.len()));
            for place in 0..4 {
                let digit = char::from(ALPHABET[word >> (18 - 6 * place) & 63]);
                text.push(if place <= group.len() { digit } else { '=' });
            }
        }
        text
    }

    fn basic(user_and_password: impl AsRef<[u8]>) -> String {
        format!("Basic {}", base64(user_and_password.as_ref()))
    }

    /// The user name in a value, or its refusal.
    fn read_key(value: impl AsRef<[u8]>) -> Result<Vec<u8>, Refusal> {
        let mut buffer = KeyBuffer::new();
        let user = Encoded::find(value.as_ref())?.read(&mut buffer)?;
        if is_user(user) { Ok(user.to_vec()) } else { Err(Refusal::Malformed) }
    }

    #[track_caller]
    fn agrees_with_the_slow_parser(value: &[u8]) {
        let slow = slow_parser::parse(value).ok_or(Refusal::Malformed);
        assert_eq!(read_key(value), slow, "{:?}", value.escape_ascii().to_string());
    }

    #[test]
    fn documented_accepted_values_are_accepted() {
        let text = base64(format!("{KEY}:").as_bytes());
        let bare = base64(KEY.as_bytes());
        let cases = [
            ("base64(KEY:)", format!("Basic {text}")),
            ("base64(KEY), no colon", format!("Basic {bare}")),
            ("any letter case of the scheme", format!("bAsIC {text}")),
            ("any letter case of the scheme: capitals", format!("BASIC {text}")),
            ("one or more spaces after the scheme", format!("Basic     {text}")),
            ("white space around the whole value", format!(" \t Basic {text}\t  ")),
            ("unpadded base64", format!("Basic {}", text.trim_end_matches('='))),
            ("unpadded base64, no colon", format!("Basic {}", bare.trim_end_matches('='))),
            ("a value of 1,024 bytes", format!("Basic {text}{}", " ".repeat(1018 - text.len()))),
        ];
        for (row, value) in cases {
            assert_eq!(read_key(&value).as_deref(), Ok(KEY.as_bytes()), "{row}: {value:?}");
            agrees_with_the_slow_parser(value.as_bytes());
        }
    }

    #[test]
    fn documented_refused_values_are_refused() {
        let text = base64(format!("{KEY}:").as_bytes());
        // 51 letters and no colon: whole groups, so no padding belongs there.
        let whole = base64(&KEY.as_bytes()[..51]);
        let swap = |at: usize, with: &str| {
            let mut text = text.clone();
            text.replace_range(at..=at, with);
            format!("Basic {text}")
        };
        let unpadded = text.trim_end_matches('=');
        assert_eq!(unpadded.len() % 4, 2);
        assert!(text.ends_with("g==") && !whole.contains('='));
        let cases = [
            ("a non-empty password", basic(format!("{KEY}:x"))),
            ("a non-empty password: a second colon", basic(format!("{KEY}::"))),
            ("a non-empty password: None", basic(format!("{KEY}:None"))),
            ("empty user: a password alone", basic(format!(":{KEY}"))),
            ("empty user: a colon alone", basic(":")),
            ("empty user: two colons", basic("::")),
            ("empty user: Basic alone", "Basic".into()),
            ("empty user: Basic and a space", "Basic ".into()),
            ("empty user: padding alone", "Basic ==".into()),
            ("empty user: a whole group of padding", "Basic ====".into()),
            ("an empty value", String::new()),
            ("no space after the scheme", format!("Basic{text}")),
            ("another scheme", format!("Bearer {KEY}")),
            ("another scheme of five letters", format!("Digest {text}").replace("Digest", "Baaic")),
            ("a TAB after the scheme", format!("Basic\t{text}")),
            ("a TAB after the scheme and a space", format!("Basic \t{text}")),
            ("a TAB after the scheme, then a space", format!("Basic\t {text}")),
            ("non-zero trailing bits", format!("Basic {}h==", &unpadded[..unpadded.len() - 1])),
            (
                "non-zero trailing bits, unpadded",
                format!("Basic {}h", &unpadded[..unpadded.len() - 1]),
            ),
            ("non-zero trailing bits of two", "Basic YWJ=".into()),
            ("inner =", swap(20, "=")),
            ("inner = between two texts", format!("Basic {text}{text}")),
            ("= in front", format!("Basic =={unpadded}")),
            ("too many =", format!("Basic {text}=")),
            ("too many =: three", format!("Basic {unpadded}===")),
            ("too many = after whole groups", format!("Basic {whole}=")),
            ("too many = after whole groups: four", format!("Basic {whole}====")),
            ("too few =", format!("Basic {unpadded}=")),
            ("a digit that stands alone", format!("Basic {whole}A")),
            ("a digit that stands alone, padded", format!("Basic {whole}A===")),
            ("spaces", swap(20, " ")),
            ("commas", swap(20, ",")),
            ("URL-safe characters: -", swap(20, "-")),
            ("URL-safe characters: _", swap(20, "_")),
            ("+", swap(20, "+")),
            ("/", swap(20, "/")),
            ("non-ASCII in the user", basic(format!("{}é:", &KEY[..52]))),
            ("control characters in the user", basic(format!("{}\u{7}:", &KEY[..53]))),
            ("control characters in the user: NUL", basic(format!("{KEY}\0"))),
            ("control characters in the user: DEL", basic(format!("{KEY}\u{7f}:"))),
            ("spaces in the user", basic("a key:")),
            ("spaces in the user, at its end", basic(format!("{KEY} "))),
            ("Basic a, Basic a", format!("Basic {text}, Basic {text}")),
            ("Basic a, Basic a, short", "Basic YQ, Basic YQ".into()),
            ("a value over 1,024 bytes", format!("Basic {text}{}", " ".repeat(1019 - text.len()))),
            ("a value over 1,024 bytes of base64", format!("Basic {}", "A".repeat(100_000))),
            ("a user over 64 bytes", basic("k".repeat(65))),
            ("a user over 64 bytes and a colon", basic(format!("{}:", "k".repeat(65)))),
        ];
        for (row, value) in cases {
            assert_eq!(read_key(&value), Err(Refusal::Malformed), "{row}: {value:?}");
            agrees_with_the_slow_parser(value.as_bytes());
        }
    }

    #[test]
    fn raw_bytes_from_0x80_in_the_header_are_refused() {
        let valid = basic(KEY).into_bytes();
        for at in 0..=valid.len() {
            for byte in 0x80..=0xff {
                let mut value = valid.clone();
                value.insert(at, byte);
                assert_eq!(read_key(&value), Err(Refusal::Malformed), "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn decoder_refuses_a_user_name_with_a_byte_from_0x80() {
        for at in 0..KEY.len() {
            let mut user = KEY.as_bytes().to_vec();
            user[at] |= 0x80;
            // If its base64 has neither `+` nor `/`, no other check refuses it.
            let value = basic(&user);
            let mut buffer = KeyBuffer::new();
            let read = Encoded::find(value.as_bytes()).unwrap().read(&mut buffer);
            assert_eq!(read, Err(Refusal::Malformed), "{at}");
        }
    }

    #[test]
    fn two_authorization_values_are_refused_even_if_identical() {
        let valid = basic(KEY).into_bytes();
        let of = |values: &[&[u8]]| only(values.iter().copied()).and_then(read_key);
        assert_eq!(of(&[]), Err(Refusal::Missing));
        assert_eq!(of(&[&valid]).as_deref(), Ok(KEY.as_bytes()));
        assert_eq!(of(&[&valid, &valid]), Err(Refusal::Ambiguous));
        assert_eq!(of(&[&valid, b""]), Err(Refusal::Ambiguous));
        assert_eq!(of(&[b"", b"Bearer x", &valid]), Err(Refusal::Ambiguous));
        assert_eq!(of(&[b""]), Err(Refusal::Malformed));
    }

    #[test]
    fn user_name_of_any_length_is_decoded() {
        for len in 1..=64 {
            let user: String =
                ('!'..='z').filter(|&c| c != ':' && c != '>' && c != '?').take(len).collect();
            for sent in [user.clone(), format!("{user}:")] {
                let value = basic(&sent);
                let unpadded = value.trim_end_matches('=');
                assert_eq!(read_key(&value).as_deref(), Ok(user.as_bytes()), "{len}");
                assert_eq!(read_key(unpadded).as_deref(), Ok(user.as_bytes()), "{len}");
            }
        }
    }

    #[test]
    fn text_of_the_key_alphabet_never_needs_plus_or_slash() {
        let alphabet: Vec<u8> =
            (0..128u8).filter(|c| c.is_ascii_alphanumeric() || *c == b'_' || *c == b':').collect();
        assert_eq!(alphabet.len(), 64);
        let is_plain = |bytes: &[u8]| !base64(bytes).contains(['+', '/']);
        for &a in &alphabet {
            assert!(is_plain(&[a]));
            for &b in &alphabet {
                assert!(is_plain(&[a, b]));
                assert!(alphabet.iter().all(|&c| is_plain(&[a, b, c])));
            }
        }
        assert!(!is_plain(b"ab~"));
    }

    #[test]
    fn any_single_byte_change_agrees_with_the_slow_parser() {
        for valid in [basic(KEY), basic(format!("{KEY}:")), basic("k".repeat(64)), basic("ab")] {
            for at in 0..valid.len() {
                for byte in 0..=u8::MAX {
                    let mut value = valid.clone().into_bytes();
                    value[at] = byte;
                    agrees_with_the_slow_parser(&value);
                }
                agrees_with_the_slow_parser(&valid.as_bytes()[..at]);
            }
        }
    }

    #[test]
    fn key_buffer_can_be_reused_wiped_and_has_no_secret_in_debug() {
        let mut buffer = KeyBuffer::new();
        let (long, short) = (basic("k".repeat(64)), basic("short:"));
        assert!(Encoded::find(long.as_bytes()).unwrap().read(&mut buffer).is_ok());
        assert_eq!(Encoded::find(short.as_bytes()).unwrap().read(&mut buffer), Ok(&b"short"[..]));
        assert_eq!(format!("{buffer:?}"), "KeyBuffer(<elided>)");
        assert!(buffer.0.contains(&b'k'));
        buffer.wipe();
        assert_eq!(buffer.0, [0; ROOM]);
    }

    /// Nearly valid values: each part is mostly valid, and one byte may be replaced.
    fn nearly_valid() -> impl Strategy<Value = Vec<u8>> {
        let scheme = prop::sample::select(vec![
            "Basic ", "basic  ", " BASIC ", "Basic\t", "Bearer ", "Basic",
        ]);
        let user = prop_oneof![
            4 => prop::collection::vec(prop::sample::select(KEY.as_bytes()), 0..70),
            2 => prop::collection::vec(b' '..=b'~', 0..70),
            1 => prop::collection::vec(any::<u8>(), 0..70),
        ];
        let password = prop::sample::select(vec!["", ":", ":", "::", ":x"]);
        let padding = prop::sample::select(vec![None, None, Some(""), Some("="), Some("==")]);
        let replaced_byte =
            prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
        (scheme, user, password, padding, replaced_byte).prop_map(
            |(scheme, mut user, password, padding, replaced_byte)| {
                user.extend(password.bytes());
                let text = base64(&user);
                let text = match padding {
                    None => text,
                    Some(padding) => format!("{}{padding}", text.trim_end_matches('=')),
                };
                let mut value = format!("{scheme}{text}").into_bytes();
                if let Some((at, byte)) = replaced_byte {
                    let at = at.index(value.len());
                    value[at] = byte;
                }
                value
            },
        )
    }

    proptest! {
        #[test]
        fn any_bytes_agree_with_the_slow_parser(value: Vec<u8>) {
            agrees_with_the_slow_parser(&value);
        }

        #[test]
        fn nearly_valid_values_agree_with_the_slow_parser(value in nearly_valid()) {
            agrees_with_the_slow_parser(&value);
        }
    }
}
