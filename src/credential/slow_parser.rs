//! A second parser of `Authorization: Basic` values, clear rather than efficient. It is the oracle of the
//! property tests and of a fuzz target, so it shares no code with the crate.

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Returns the key that an accepted value presents.
pub(crate) fn parse(authorization: &[u8]) -> Option<Vec<u8>> {
    if authorization.len() > 1024 {
        return None;
    }
    let value = latin1(authorization);
    let value = value.trim_matches([' ', '\t']);
    let (scheme, rest) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = latin1(&decode_base64(rest.trim_start_matches(' '))?);
    let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
    let is_valid_user = !user.is_empty()
        && user.chars().all(|c| ('!'..='~').contains(&c))
        && user.chars().count() <= 64;
    (is_valid_user && password.is_empty()).then(|| user.as_bytes().to_vec())
}

/// Maps each byte to the character with the same number.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn decode_base64(token: &str) -> Option<Vec<u8>> {
    let text = token.trim_end_matches('=');
    let padding = token.len() - text.len();
    let missing = (4 - text.len() % 4) % 4;
    if padding != 0 && padding != missing {
        return None;
    }
    let mut bits = Vec::new();
    for digit in text.chars() {
        let value = ALPHABET.find(digit)?;
        for place in (0..6).rev() {
            bits.push(value >> place & 1);
        }
    }
    let mut bytes = Vec::new();
    while bits.len() >= 8 {
        let byte: Vec<usize> = bits.drain(..8).collect();
        bytes.push(u8::try_from(byte.iter().fold(0, |number, bit| number * 2 + bit)).ok()?);
    }
    // Six remaining bits are a digit without a byte. Fewer are the unused end of the last digit.
    let is_canonical = bits.len() < 6 && bits.iter().all(|&bit| bit == 0);
    is_canonical.then_some(bytes)
}
