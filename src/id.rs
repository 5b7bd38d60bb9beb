//! The public id of a key. It is safe in logs and grants nothing.

use crate::{
    base62,
    random::{self, NoRandomness},
};
use std::{fmt, str::FromStr};

/// The digits of an id: 62^11 exceeds 2^64.
pub(crate) const ID_DIGITS: usize = 11;

/// The public id of a key, `key_8fK2mQ9xZ1a`.
///
/// It appears in logs, URLs and the audit log. It is not secret and grants nothing. The same digits
/// are the middle part of the key itself, so a holder and an operator can identify a key without
/// showing it.
///
/// ```
/// use portcullis::KeyId;
/// let id: KeyId = "key_8fK2mQ9xZ1a".parse().unwrap();
/// assert_eq!(id.to_string(), "key_8fK2mQ9xZ1a");
/// assert!("pcl_8fK2mQ9xZ1a".parse::<KeyId>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(u64);

impl KeyId {
    /// The ids below this are no keys. Values about all keys are kept under them, among the last uses of keys.
    pub(crate) const RESERVED: u64 = 1 << 33;

    /// Creates a random id. Two of a million keys have the same id with a probability below 10⁻⁷; the
    /// store checks for it.
    pub(crate) fn generate() -> Result<Self, NoRandomness> {
        loop {
            let id = Self(u64::from_le_bytes(random::array()?));
            if !id.is_reserved() {
                return Ok(id);
            }
        }
    }

    pub(crate) const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    pub(crate) const fn as_u64(self) -> u64 {
        self.0
    }

    pub(crate) const fn is_reserved(self) -> bool {
        self.0 < Self::RESERVED
    }

    /// The eleven digits within a key.
    pub(crate) fn digits(self) -> [u8; ID_DIGITS] {
        base62::encode(self.0)
    }

    /// Returns the id whose eleven digits are within a key.
    pub(crate) fn from_digits(digits: &[u8]) -> Option<Self> {
        (digits.len() == ID_DIGITS).then(|| base62::decode(digits).map(Self)).flatten()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("key_")?;
        self.digits().iter().try_for_each(|&d| fmt::Write::write_char(f, char::from(d)))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `key_` and eleven base62 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key id is 'key_' and 11 letters or digits")]
pub struct ParseKeyIdError;

impl FromStr for KeyId {
    type Err = ParseKeyIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("key_")
            .and_then(|digits| Self::from_digits(digits.as_bytes()))
            .ok_or(ParseKeyIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_has_exactly_one_text() {
        let id = KeyId::from_u64(7);
        assert_eq!((id.to_string(), format!("{id:?}")), ("key_00000000007".into(), id.to_string()));
        assert_eq!("key_00000000007".parse(), Ok(id));
        for wrong in [
            "key_7",
            "key_000000000007",
            "KEY_00000000007",
            "key_0000000000-",
            "key_zzzzzzzzzzz",
            "",
        ] {
            assert_eq!(wrong.parse::<KeyId>(), Err(ParseKeyIdError), "{wrong}");
        }
    }
}
