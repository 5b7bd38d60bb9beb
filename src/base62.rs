//! Base62: numbers and random bytes as letters and digits, which a double click selects as a whole.

/// In the order of ASCII, so texts of the same length sort like their numbers.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The largest multiple of 62 within a byte. Random bytes from here on are discarded, so all digits
/// are equally likely.
const BIASED_FROM: u8 = 248;

/// The digit for a number below 62.
fn digit(value: u64) -> u8 {
    ALPHABET.get(usize::try_from(value % 62).unwrap_or(0)).copied().unwrap_or(b'0')
}

/// Converts a random byte to a digit; `None` for a byte that would favour some digits.
pub(crate) fn digit_of_random(byte: u8) -> Option<u8> {
    (byte < BIASED_FROM).then(|| digit(u64::from(byte)))
}

/// Encodes `number` in exactly `N` digits. Higher digits are lost, so `N` must suffice.
pub(crate) fn encode<const N: usize>(mut number: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for place in text.iter_mut().rev() {
        *place = digit(number);
        number /= 62;
    }
    text
}

/// Decodes a number; `None` for another character or a number above 64 bits.
pub(crate) fn decode(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |number, &c| {
        let value = match c {
            b'0'..=b'9' => c - b'0',
            b'A'..=b'Z' => c - b'A' + 10,
            b'a'..=b'z' => c - b'a' + 36,
            _ => return None,
        };
        number.checked_mul(62)?.checked_add(u64::from(value))
    })
}

/// Whether every byte is a base62 digit.
pub(crate) fn is_base62(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A second implementation as the oracle: one digit at a time.
    fn naive(mut number: u64, width: usize) -> String {
        let mut digits = Vec::new();
        for _ in 0..width {
            let value = u8::try_from(number % 62).unwrap();
            digits.push(match value {
                0..=9 => char::from(b'0' + value),
                10..=35 => char::from(b'A' + value - 10),
                _ => char::from(b'a' + value - 36),
            });
            number /= 62;
        }
        digits.iter().rev().collect()
    }

    proptest! {
        #[test]
        fn eleven_digits_encode_any_id(number: u64) {
            let text = encode::<11>(number);
            prop_assert_eq!(std::str::from_utf8(&text).unwrap(), naive(number, 11));
            prop_assert_eq!(decode(&text), Some(number));
        }

        #[test]
        fn six_digits_encode_any_checksum(number: u32) {
            prop_assert_eq!(decode(&encode::<6>(u64::from(number))), Some(u64::from(number)));
        }
    }

    #[test]
    fn number_above_64_bits_is_refused() {
        assert_eq!(decode(b"zzzzzzzzzzz"), None);
        assert_eq!(decode(b"LygHa16AHYF"), Some(u64::MAX));
        assert_eq!(decode(b"LygHa16AHYG"), None);
    }

    #[test]
    fn every_digit_is_equally_likely() {
        let mut seen = [0u32; 128];
        for byte in 0..=255u8 {
            if let Some(digit) = digit_of_random(byte) {
                seen[usize::from(digit)] += 1;
            }
        }
        assert!(ALPHABET.iter().all(|&digit| seen[usize::from(digit)] == 4));
        assert_eq!(seen.iter().sum::<u32>(), 248);
    }
}
