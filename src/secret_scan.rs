//! Finds the keys of a deployment in any text: plain, and in base64 as a Basic header has them.
//!
//! Secret: the text and each found key.

use crate::secret::{MAX_KEY_LEN, Prefix};
use memchr::memmem::Finder;
use std::iter;
use zeroize::Zeroizing;

/// The digits of base64. The last two never occur in the base64 text of a key.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Passes each text that has the syntax and the checksum of a key with this prefix to `found`, first
/// the plain ones. The characters around a key do not matter.
pub(crate) fn each_key(prefix: Prefix, text: &[u8], mut found: impl FnMut(&[u8])) {
    let length = prefix.key_len();
    for start in occurrences(prefix.opening(), text) {
        if let Some(key) = text.get(start..start + length)
            && prefix.is_well_formed(key)
        {
            found(key);
        }
    }
    // The key is at the beginning of the encoded text: its first whole groups of three bytes have
    // always the same digits.
    let (groups, _) = prefix.opening().as_chunks::<3>();
    let opening: Vec<u8> = groups.iter().flat_map(|group| encode(*group)).collect();
    let mut buffer = Zeroizing::new([0; MAX_KEY_LEN]);
    let Some(key) = buffer.get_mut(..length) else { return };
    for start in occurrences(&opening, text) {
        let end = start + (length * 4).div_ceil(3);
        if text.get(start..end).is_some_and(|digits| decode(digits, key))
            && prefix.is_well_formed(key)
        {
            found(key);
        }
    }
}

/// The positions of a text within another, also those that overlap.
fn occurrences<'t>(needle: &'t [u8], text: &'t [u8]) -> impl Iterator<Item = usize> + 't {
    let (finder, mut from) = (Finder::new(needle), 0);
    iter::from_fn(move || {
        let start = from + finder.find(text.get(from..)?)?;
        from = start + 1;
        Some(start)
    })
}

fn encode([first, second, third]: [u8; 3]) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, first, second, third]);
    [18, 12, 6, 0].map(|shift| {
        let digit = usize::try_from(bits >> shift & 63).unwrap_or(0);
        BASE64.get(digit).copied().unwrap_or_default()
    })
}

/// Decodes as many bytes as `bytes` holds. Returns whether all digits are digits of base64.
fn decode(digits: &[u8], bytes: &mut [u8]) -> bool {
    let (mut bits, mut count) = (0_u32, 0);
    let mut bytes = bytes.iter_mut();
    for digit in digits {
        let Some(value) = memchr::memchr(*digit, BASE64) else { return false };
        bits = bits << 6 | u32::try_from(value).unwrap_or(0);
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., byte] = (bits >> count).to_be_bytes();
            if let Some(place) = bytes.next() {
                *place = byte;
            }
        }
    }
    true
}

// The models are built without base64.
#[cfg(test)]
#[cfg(not(any(shuttle, loom)))]
mod tests {
    use super::*;
    use crate::{KeyId, Secret};
    use base64::{Engine, engine::general_purpose::STANDARD};

    fn key(prefix: Prefix, id: u64) -> String {
        Secret::generate(prefix, KeyId::from_u64(id)).unwrap().reveal(str::to_owned)
    }

    fn keys_in(prefix: Prefix, text: &[u8]) -> Vec<String> {
        let mut keys = Vec::new();
        each_key(prefix, text, |key| keys.push(String::from_utf8(key.to_vec()).unwrap()));
        keys
    }

    #[test]
    fn plain_key_is_found_whatever_is_around_it() {
        let prefix = Prefix::default();
        let key = key(prefix, 7);
        let text = [b"\xff\0pcl_pcl_".as_slice(), key.as_bytes(), key.as_bytes(), b"9_x"].concat();
        assert_eq!(keys_in(prefix, &text), [key.clone(), key.clone()]);
        assert_eq!(keys_in(prefix, &key.as_bytes()[..53]), [""; 0]);
        assert_eq!(keys_in(Prefix::new("pc").unwrap(), key.as_bytes()), [""; 0]);
    }

    #[test]
    fn key_in_a_basic_header_is_found_with_every_length_of_prefix() {
        for length in 2..=12 {
            let prefix = Prefix::new(&"abcdefghijkl"[..length]).unwrap();
            let key = key(prefix, 7);
            for user in [format!("{key}:"), key.clone(), format!("{key}:a password")] {
                let text = format!("Authorization: Basic {}\r\nx", STANDARD.encode(user));
                assert_eq!(keys_in(prefix, text.as_bytes()), [key.as_str()], "{text}");
            }
        }
    }

    #[test]
    fn text_with_a_wrong_checksum_or_in_broken_base64_is_no_key() {
        let prefix = Prefix::default();
        let key = key(prefix, 7);
        let last = if key.ends_with('0') { "1" } else { "0" };
        assert_eq!(keys_in(prefix, format!("{}{last}", &key[..53]).as_bytes()), [""; 0]);
        let encoded = STANDARD.encode(format!("{key}:"));
        assert_eq!(keys_in(prefix, &encoded.as_bytes()[..71]), [""; 0]);
        assert_eq!(keys_in(prefix, encoded.replacen('X', "=", 1).as_bytes()), [""; 0]);
    }
}
