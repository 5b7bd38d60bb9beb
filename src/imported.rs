//! Keys of other systems: how their digests were computed, and how those are written.

use crate::error::{Error, Field};
use std::fmt;

/// The longest text of an imported key, in bytes.
pub(crate) const MAX_LEN: usize = 256;
/// The shortest plaintext that is imported: a shorter one could be guessed from its digest.
const MIN_LEN: usize = 20;
const SHA256_BYTES: usize = 32;
const SHA512_BYTES: usize = 64;

/// How the digest of an imported key was computed. It stays the key's only digest until the key is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Imported {
    /// The store hashed the text itself when the key was imported.
    Plaintext,
    /// SHA-256 of the whole text.
    Sha256,
    /// SHA-256 of the text after the first `|`, as Laravel Sanctum has it. The number before it is not
    /// compared.
    Sha256AfterBar,
    /// SHA-512 of the whole text, of which this is the second half.
    Sha512([u8; 32]),
}

impl Imported {
    /// Returns the name of the algorithm.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Sha256 => "sha256",
            Self::Sha256AfterBar => "sha256-after-bar",
            Self::Sha512(_) => "sha512",
        }
    }

    /// The bit of this kind in a set of kinds.
    pub(crate) fn bit(self) -> u8 {
        match self {
            Self::Plaintext => 1,
            Self::Sha256 => 2,
            Self::Sha256AfterBar => 4,
            Self::Sha512(_) => 8,
        }
    }
}

/// An unsalted digest of a key of another system.
///
/// ```
/// # use portcullis::ImportedDigest;
/// let hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
/// assert!(ImportedDigest::parse(hex, None).is_ok());
/// let slow = "pbkdf2_sha256$870000$salt$aGFzaA==";
/// assert!(ImportedDigest::parse(slow, None).unwrap_err().to_string().contains("slow"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImportedDigest {
    pub(crate) kind: Imported,
    /// The first half of SHA-512.
    pub(crate) bytes: [u8; 32],
}

impl ImportedDigest {
    /// Parses a digest: hexadecimal in either case, or base64 of either alphabet with or without padding.
    /// `algorithm` is `sha256`, `sha256-after-bar` or `sha512`; without it the length decides, and a text
    /// may begin with `sha512$$`.
    ///
    /// A salted or slow hash is refused: a key could only be found by trying each row.
    pub fn parse(text: &str, algorithm: Option<&str>) -> Result<Self, Error> {
        let refused = |reason: &str| Err(Error::invalid(Field::Digest, reason));
        let text = text.trim();
        if is_slow_or_salted(text) {
            return refused(
                "is a salted or slow hash, by which no key can be looked up; issue a new key to its holder, or let the \
                 other system store an unsalted SHA-256 or SHA-512 digest first",
            );
        }
        let (text, algorithm) = match text.strip_prefix("sha512$$") {
            Some(hex) => (hex, Some("sha512")),
            None => (text, algorithm),
        };
        let bytes = bytes_of_hex(text).or_else(|| bytes_of_base64(text)).unwrap_or_default();
        let halves = (bytes.first_chunk::<32>().copied(), bytes.last_chunk::<32>().copied());
        let (Some(first), Some(last)) = halves else {
            return refused("must be a SHA-256 or SHA-512 digest as hexadecimal or base64 digits");
        };
        let kind = match (algorithm, bytes.len()) {
            (None | Some("sha256"), SHA256_BYTES) => Imported::Sha256,
            (Some("sha256-after-bar"), SHA256_BYTES) => Imported::Sha256AfterBar,
            (None | Some("sha512"), SHA512_BYTES) => Imported::Sha512(last),
            (Some("sha256" | "sha256-after-bar" | "sha512"), _) => {
                return refused("has another length than a digest of this algorithm");
            }
            (Some(_), _) => {
                return refused("has an algorithm other than sha256, sha256-after-bar and sha512");
            }
            (None, _) => {
                return refused("has another length than a SHA-256 or SHA-512 digest");
            }
        };
        Ok(Self { kind, bytes: first })
    }
}

impl fmt::Debug for ImportedDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImportedDigest({}, …)", self.kind.as_str())
    }
}

/// Checks that a plaintext can be sent as the user name of Basic authentication and cannot be guessed.
pub(crate) fn check_plaintext(text: &str) -> Result<(), Error> {
    let is_user = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if is_user && (MIN_LEN..=MAX_LEN).contains(&text.len()) {
        return Ok(());
    }
    Err(Error::invalid(
        Field::Key,
        "must be 20 to 256 visible ASCII characters without a colon, to be sent as a user name and not be guessed; \
         issue a new key to its holder",
    ))
}

/// Whether a text is the hash of a password function, or has a salt.
fn is_slow_or_salted(text: &str) -> bool {
    let forms = ["$argon2", "$2a$", "$2b$", "$2y$", "$scrypt$", "$pbkdf2", "$5$", "$6$", "$y$"];
    let names =
        ["pbkdf2", "argon2", "bcrypt", "scrypt", "ssha", "{ssha", "md5$", "sha1$", "sha256$"];
    let lower = text.to_ascii_lowercase();
    forms.iter().chain(&names).any(|form| lower.starts_with(form))
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes.filter(|bytes| rest.is_empty() && matches!(bytes.len(), SHA256_BYTES | SHA512_BYTES))
}

/// Decodes base64 (RFC 4648 §4 and §5). Bits beyond the last byte must be zero.
pub(crate) fn bytes_of_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    for group in digits.chunks(4) {
        let mut word = 0u32;
        for digit in group {
            word = word << 6 | base64_digit(*digit)?;
        }
        let kept = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        let [_, all @ ..] = (word << (6 * (4 - group.len()))).to_be_bytes();
        let (first, beyond) = all.split_at_checked(kept)?;
        if beyond.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(first);
    }
    Some(bytes)
}

fn base64_digit(digit: u8) -> Option<u32> {
    Some(match digit {
        b'A'..=b'Z' => u32::from(digit - b'A'),
        b'a'..=b'z' => u32::from(digit - b'a') + 26,
        b'0'..=b'9' => u32::from(digit - b'0') + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn digest_is_read_in_every_encoding() {
        let expected = ImportedDigest::parse(HEX, None).unwrap();
        assert_eq!(expected.kind, Imported::Sha256);
        assert_eq!(expected.bytes[..2], [0x9f, 0x86]);
        for same in [
            HEX.to_uppercase(),
            format!(" {HEX}\n"),
            "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=".into(),
            "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg".into(),
        ] {
            assert_eq!(ImportedDigest::parse(&same, Some("sha256")).unwrap(), expected, "{same}");
        }
        let sanctum = ImportedDigest::parse(HEX, Some("sha256-after-bar")).unwrap();
        assert_eq!(sanctum.kind, Imported::Sha256AfterBar);
        let long = format!("{HEX}{}", "ab".repeat(32));
        for text in [long.clone(), format!("sha512$${long}")] {
            let digest = ImportedDigest::parse(&text, None).unwrap();
            assert_eq!((digest.kind, digest.bytes), (Imported::Sha512([0xab; 32]), expected.bytes));
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        let long = "ab".repeat(64);
        for (text, algorithm, reason) in [
            ("pbkdf2_sha256$870000$c2FsdA$aGFzaA==", None, "salted or slow"),
            ("$argon2id$v=19$m=65536$c2FsdA$aGFzaA", None, "salted or slow"),
            ("$2b$12$abcdefghijklmnopqrstuv", Some("sha256"), "salted or slow"),
            ("{SSHA256}abcd", None, "salted or slow"),
            ("", None, "must be a SHA-256 or SHA-512 digest"),
            ("not a digest", None, "must be a SHA-256 or SHA-512 digest"),
            (&HEX[2..], None, "must be a SHA-256"),
            (HEX, Some("sha512"), "another length"),
            (&long, Some("sha256"), "another length"),
            (HEX, Some("md5"), "an algorithm other than"),
        ] {
            let refused = ImportedDigest::parse(text, algorithm).unwrap_err().to_string();
            assert!(refused.contains(reason), "{text}: {refused}");
            assert!(text.len() < 12 || !refused.contains(text), "{refused}");
        }
    }

    #[test]
    fn plaintext_must_be_sendable_and_long() {
        for good in ["x".repeat(20), "1|abcdefghijklmnopqrstuv".into(), "y".repeat(256)] {
            assert!(check_plaintext(&good).is_ok(), "{good}");
        }
        for bad in
            ["x".repeat(19), "x".repeat(257), "a:".repeat(12), "ü".repeat(20), " ".repeat(20)]
        {
            let refused = check_plaintext(&bad).unwrap_err().to_string();
            assert!(refused.contains("20 to 256") && !refused.contains(&bad), "{refused}");
        }
    }
}
