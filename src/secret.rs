//! The secret text of a key: generated, shown once, and wiped.
//!
//! Secret: the whole text of a key. Not secret: its prefix, its id and its hint (`pcl_8fK2mQ9xZ1a`).

mod pattern;

use crate::{
    base62,
    id::{ID_DIGITS, KeyId},
    random::{self, NoRandomness},
};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The random digits of a key: 32 base62 digits have 190 bits.
const SECRET_DIGITS: usize = 32;
/// The digits of the checksum: 62^6 exceeds 2^32.
const CHECK_DIGITS: usize = 6;
/// The length after the prefix: `_`, the id, `_`, the random digits, the checksum.
const TAIL_LEN: usize = 1 + ID_DIGITS + 1 + SECRET_DIGITS + CHECK_DIGITS;
/// The longest key. One blake3 compression covers 64 bytes.
pub(crate) const MAX_KEY_LEN: usize = 64;

const _: () = assert!(Prefix::MAX_LEN + TAIL_LEN <= MAX_KEY_LEN);

/// The prefix of every key of a deployment: `[a-z][a-z0-9]{1,11}`, by default `pcl`.
///
/// ```
/// use portcullis::Prefix;
/// assert_eq!(Prefix::new("acme").unwrap().as_str(), "acme");
/// assert!(Prefix::new("Acme").is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The prefix, the `_` after it, and zeros.
    opening: [u8; 16],
    /// All bits of the bytes before the zeros, as a little-endian word.
    mask: u128,
    len: u8,
}

impl Prefix {
    const MAX_LEN: usize = 12;

    /// Parses a prefix: 2 to 12 lower-case letters and digits, a letter first.
    pub fn new(text: &str) -> Result<Self, ParsePrefixError> {
        let bytes = text.as_bytes();
        let fits = (2..=Self::MAX_LEN).contains(&bytes.len())
            && bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !fits {
            return Err(ParsePrefixError);
        }
        let mut opening = [0; 16];
        for (to, from) in opening.iter_mut().zip(bytes.iter().chain(b"_")) {
            *to = *from;
        }
        Ok(Self::opening_with(opening, u8::try_from(bytes.len()).unwrap_or(0)))
    }

    const fn opening_with(opening: [u8; 16], len: u8) -> Self {
        Self { opening, mask: u128::MAX >> (8 * (15 - len)), len }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.opening.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Returns the prefix as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Returns the hint for a key, the public part of its text: `pcl_8fK2mQ9xZ1a`.
    pub fn hint(&self, id: KeyId) -> String {
        let digits = id.digits();
        format!("{}_{}", self.as_str(), str::from_utf8(&digits).unwrap_or_default())
    }

    /// Returns the id in the text of a key. The text is not authenticated.
    ///
    /// ```
    /// # use portcullis::{KeyId, Prefix};
    /// let key = "pcl_8fK2mQ9xZ1a_0123456789abcdefghijABCDEFGHIJ01234567";
    /// assert_eq!(Prefix::default().id_within(key), "key_8fK2mQ9xZ1a".parse().ok());
    /// assert_eq!(Prefix::default().id_within("key_8fK2mQ9xZ1a"), None);
    /// ```
    pub fn id_within(&self, key: &str) -> Option<KeyId> {
        let after = key.strip_prefix(self.as_str())?.strip_prefix('_')?;
        KeyId::from_digits(after.split_once('_')?.0.as_bytes())
    }

    /// Whether these bytes have the length and the prefix of a key. Most malformed input fails here,
    /// before anything is hashed. Only secret scanners verify the checksum.
    #[inline]
    pub(crate) fn begins(&self, key: &[u8]) -> bool {
        let Some(first) = key.first_chunk() else { return false };
        let difference = u128::from_le_bytes(*first) ^ u128::from_le_bytes(self.opening);
        key.len() == self.key_len() && difference & self.mask == 0
    }

    /// The length of a key with this prefix.
    #[inline]
    pub(crate) fn key_len(&self) -> usize {
        usize::from(self.len) + TAIL_LEN
    }

    /// The prefix and the underscore after it, with which every key begins.
    pub(crate) fn opening(&self) -> &[u8] {
        self.opening.get(..=usize::from(self.len)).unwrap_or_default()
    }

    /// Whether these bytes have the syntax and the checksum of a key with this prefix.
    pub(crate) fn is_well_formed(&self, key: &[u8]) -> bool {
        if !self.begins(key) {
            return false;
        }
        let (body, check) = key.split_at(key.len() - CHECK_DIGITS);
        let (head, random) = body.split_at(body.len() - SECRET_DIGITS);
        let id = head.get(self.as_bytes().len() + 1..head.len() - 1);
        head.ends_with(b"_")
            && id.is_some_and(|digits| KeyId::from_digits(digits).is_some())
            && base62::is_base62(random)
            && checksum(body) == check
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self::opening_with(*b"pcl_\0\0\0\0\0\0\0\0\0\0\0\0", 3)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not 2 to 12 lower-case letters and digits, a letter first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a prefix is 2 to 12 lower-case letters and digits, a letter first")]
pub struct ParsePrefixError;

/// The secret text of a key, in wiped memory, to be shown once.
///
/// It has no `Clone`, `Display`, `PartialEq` or `Serialize`. Each of them could put a key into a log, a
/// second variable or a response by mistake. [`reveal`](Self::reveal) consumes the secret.
///
/// ```
/// # use portcullis::*;
/// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// let new = NewKey::new("Nightly export", store.scopes(["api.read"])?, Expiry::Never);
/// let issued = store.issue(new)?;
/// issued.secret.reveal(|text| assert!(text.starts_with("pcl_")));
/// # Ok::<(), Error>(())
/// ```
///
/// It can be revealed only once:
///
/// ```compile_fail
/// fn twice(secret: portcullis::Secret) {
///     secret.reveal(|_| ());
///     secret.reveal(|_| ());
/// }
/// ```
/// ```
/// fn once(secret: portcullis::Secret) {
///     secret.reveal(|_| ());
/// }
/// ```
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Generates the text of a new key that no store has yet, with a random id. A store with this prefix takes
    /// it by an import. An error means that the operating system returned no random bytes.
    ///
    /// ```
    /// # use portcullis::{Prefix, Secret};
    /// let secret = Secret::random(Prefix::default())?;
    /// secret.reveal(|text| assert!(Secret::is_well_formed(text) && text.starts_with("pcl_")));
    /// # Ok::<(), portcullis::NoRandomness>(())
    /// ```
    pub fn random(prefix: Prefix) -> Result<Self, NoRandomness> {
        Self::generate(prefix, KeyId::generate()?)
    }

    /// Generates the text of a key for `id`.
    pub(crate) fn generate(prefix: Prefix, id: KeyId) -> Result<Self, NoRandomness> {
        // The capacity is never exceeded, so growing leaves no copy behind.
        let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_LEN));
        text.push_str(prefix.as_str());
        text.push('_');
        for digit in id.digits() {
            text.push(char::from(digit));
        }
        text.push('_');
        let mut pool = Zeroizing::new([0u8; 64]);
        let full = text.len() + SECRET_DIGITS;
        while text.len() < full {
            random::fill(&mut pool[..])?;
            let digits = pool.iter().filter_map(|&byte| base62::digit_of_random(byte));
            for digit in digits.take(full - text.len()) {
                text.push(char::from(digit));
            }
        }
        let mut check = checksum(text.as_bytes());
        for &digit in &check {
            text.push(char::from(digit));
        }
        check.zeroize();
        Ok(Self(text))
    }

    /// Passes the text to `show` and wipes it.
    pub fn reveal<T>(self, show: impl FnOnce(&str) -> T) -> T {
        show(&self.0)
    }

    /// Whether `text` has the syntax and the checksum of a key of any deployment. A secret scanner uses this
    /// to discard false matches.
    ///
    /// ```
    /// assert!(!portcullis::Secret::is_well_formed("pcl_8fK2mQ9xZ1a_0123456789"));
    /// ```
    pub fn is_well_formed(text: &str) -> bool {
        let Some((prefix, _)) = text.split_once('_') else { return false };
        Prefix::new(prefix).is_ok_and(|prefix| prefix.is_well_formed(text.as_bytes()))
    }

    /// Whether `text` contains a key of any deployment, even without a separator around it. Refuse such a
    /// text where it would be stored or repeated.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # let issued = store.issue(NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never))?;
    /// let line = issued.secret.reveal(|key| format!("GET /?key={key}"));
    /// assert!(Secret::occurs_in(&line));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn occurs_in(text: &str) -> bool {
        // The prefix has no fixed length: try each that ends at an underscore.
        text.match_indices('_').any(|(underscore, _)| {
            let end = underscore + TAIL_LEN;
            let starts = underscore.saturating_sub(Prefix::MAX_LEN)..underscore;
            text.as_bytes().get(underscore + 1 + ID_DIGITS) == Some(&b'_') && { starts }
                .any(|start| text.get(start..end).is_some_and(Self::is_well_formed))
        })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(<elided>)")
    }
}

fn checksum(body: &[u8]) -> [u8; CHECK_DIGITS] {
    base62::encode(u64::from(crc32fast::hash(body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        credential::KeyBuffer,
        digest::{Digester, Seals},
        offline::Offline,
        store::{Builder, Issued, KeyHandle},
    };
    use serde::Serialize;
    use std::marker::PhantomData;

    /// Whether a type has a trait: a constant of `Probe` itself hides the one of `Lacks`, where its
    /// bound holds.
    macro_rules! has {
        ($type:ty: $trait:path) => {{
            trait Lacks {
                const HAS: bool = false;
            }
            struct Probe<T>(PhantomData<T>);
            impl<T> Lacks for Probe<T> {}
            impl<T: $trait> Probe<T> {
                const HAS: bool = true;
            }
            <Probe<$type>>::HAS
        }};
    }

    /// The traits through which a value can be leaked by mistake.
    macro_rules! leaking_traits {
        ($type:ty) => {{
            let ways = [
                ("Clone", has!($type: Clone)),
                ("Debug", has!($type: fmt::Debug)),
                ("Display", has!($type: fmt::Display)),
                ("PartialEq", has!($type: PartialEq)),
                ("Serialize", has!($type: Serialize)),
            ];
            let ways = ways.into_iter().filter(|(_, has)| *has).map(|(name, _)| name);
            (stringify!($type), ways.collect::<Vec<_>>())
        }};
    }

    #[test]
    #[expect(dead_code, reason = "of the two constants one is hidden")]
    fn types_with_secrets_implement_no_trait_that_leaks_them() {
        let all = ["Clone", "Debug", "Display", "PartialEq", "Serialize"];
        assert_eq!(leaking_traits!(String), ("String", all.to_vec()));
        let found = [
            // Their `Debug` elides it.
            leaking_traits!(Secret),
            leaking_traits!(Issued),
            leaking_traits!(KeyBuffer),
            leaking_traits!(KeyHandle),
            // The pepper, and what is derived from it.
            leaking_traits!(Builder),
            leaking_traits!(Offline),
            leaking_traits!(Seals),
            leaking_traits!(Digester),
        ];
        let debug = vec!["Debug"];
        let expected = [
            ("Secret", debug.clone()),
            ("Issued", debug.clone()),
            ("KeyBuffer", debug.clone()),
            ("KeyHandle", debug.clone()),
            ("Builder", debug.clone()),
            ("Offline", debug),
            ("Seals", vec![]),
            ("Digester", vec![]),
        ];
        assert_eq!(found, expected);
        let pepper = b"sixteen bytes at least";
        let shown = format!("{:?}", Builder::default().pepper(*pepper));
        assert!(shown.contains("Pepper(<elided>)"), "{shown}");
        assert!(!shown.contains("115, 105") && !shown.contains("sixteen"), "{shown}");
    }

    #[test]
    fn correct_checksum_alone_is_not_a_well_formed_key() {
        let well_formed = |body: &str| {
            let check = checksum(body.as_bytes());
            let text = [body.as_bytes(), &check].concat();
            Secret::is_well_formed(str::from_utf8(&text).unwrap())
        };
        let random = "0123456789ABCDEFabcdef0123456789";
        assert!(well_formed(&format!("pcl_00000000007_{random}")));
        assert!(!well_formed(&format!("pcl_zzzzzzzzzzz_{random}")));
        assert!(!well_formed(&format!("pcl_00000000007-{random}")));
        assert!(!well_formed(&format!("pcl_00000000007_{}", random.replace('A', "-"))));
    }

    #[test]
    fn key_contains_its_id_and_a_checksum() {
        let id = KeyId::generate().unwrap();
        let prefix = Prefix::default();
        assert_eq!(format!("{prefix:?}"), "pcl");
        Secret::generate(prefix, id).unwrap().reveal(|text| {
            assert_eq!(text.len(), 54);
            assert!(text.starts_with(&format!("{}_", prefix.hint(id))));
            assert!(prefix.begins(text.as_bytes()));
            assert!(!prefix.begins(&text.as_bytes()[..53]));
            assert!(!Prefix::new("pcx").unwrap().begins(text.as_bytes()));
            assert!(Secret::is_well_formed(text));
            for at in 0..text.len() {
                let mut wrong = text.as_bytes().to_vec();
                wrong[at] = if wrong[at] == b'q' { b'r' } else { b'q' };
                assert!(!Secret::is_well_formed(std::str::from_utf8(&wrong).unwrap()), "{at}");
            }
            assert!(!Secret::is_well_formed(&text[..53]));
        });
    }

    #[test]
    fn pasted_key_is_found_in_other_text() {
        let secret = Secret::generate(Prefix::default(), KeyId::from_u64(7)).unwrap();
        secret.reveal(|text| {
            for around in [
                "{}",
                "made with {} by hand",
                "key={}",
                "\"{}\",",
                "{}:",
                "ü{}ü",
                "x{}y",
                "_{}_",
                "x_{}0",
            ] {
                assert!(Secret::occurs_in(&around.replace("{}", text)), "{around}");
            }
            assert!(!Secret::occurs_in(&text[..53]));
        });
        assert!(!Secret::occurs_in(&format!("see {}", Prefix::default().hint(KeyId::from_u64(7)))));
    }

    #[test]
    fn key_with_the_longest_prefix_fits_one_compression() {
        let prefix = Prefix::new("abcdefghij12").unwrap();
        Secret::generate(prefix, KeyId::from_u64(u64::MAX)).unwrap().reveal(|text| {
            assert!(text.len() <= MAX_KEY_LEN);
            assert!(Secret::is_well_formed(text));
        });
    }

    #[test]
    fn invalid_prefixes_are_refused() {
        for wrong in ["", "a", "1ab", "aB", "a_b", "abcdefghijklm", "ä0"] {
            assert!(Prefix::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn debug_elides_the_secret() {
        let secret = Secret::generate(Prefix::default(), KeyId::from_u64(1)).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(<elided>)");
    }
}
