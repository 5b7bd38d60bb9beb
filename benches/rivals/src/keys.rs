//! The keys that every contender authenticates.

use crate::Rival;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use portcullis::{Expiry, NewKey, Principal, Store};
use std::{collections::BTreeMap, sync::Arc, thread};

/// Threads that create keys concurrently, since a store commits in groups.
const MAKERS: usize = 8;

/// Rows of equal length in one buffer.
pub struct Rows {
    bytes: Vec<u8>,
    width: usize,
}

impl Rows {
    pub fn new<'r>(rows: impl IntoIterator<Item = &'r [u8]>) -> Self {
        let (mut bytes, mut width) = (Vec::new(), 0);
        for row in rows {
            assert!(width == 0 || width == row.len(), "rows have one length");
            width = row.len();
            bytes.extend_from_slice(row);
        }
        Self { bytes, width }
    }

    pub fn count(&self) -> usize {
        self.bytes.len() / self.width
    }

    #[inline]
    pub fn row(&self, at: usize) -> &[u8] {
        &self.bytes[at * self.width..][..self.width]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.width)
    }

    /// The `Authorization` headers that carry these keys.
    pub fn headers(&self) -> Self {
        let headers: Vec<_> = self.iter().map(header).collect();
        Self::new(headers.iter().map(Vec::as_slice))
    }
}

fn header(key: &[u8]) -> Vec<u8> {
    format!("Basic {}", BASE64_STANDARD.encode([key, b":"].concat())).into_bytes()
}

/// A Portcullis store with a given number of keys.
pub struct Portcullis {
    pub store: Store,
    pub keys: Rows,
    pub headers: Arc<Rows>,
}

impl Portcullis {
    pub fn with_keys(count: usize) -> Self {
        let store = Store::builder()
            .scopes(portcullis::scope::catalogue::financial_data())
            .in_memory()
            .unwrap();
        let keys = thread::scope(|scope| {
            let share = |maker| count / MAKERS + usize::from(maker < count % MAKERS);
            let makers: Vec<_> = (0..MAKERS)
                .map(|maker| {
                    scope.spawn({
                        let store = &store;
                        move || issue(store, share(maker))
                    })
                })
                .collect();
            let mut keys = Vec::new();
            makers.into_iter().for_each(|maker| keys.extend(maker.join().unwrap()));
            let width = keys.len() / count;
            Rows { bytes: keys, width }
        });
        let headers = Arc::new(keys.headers());
        Self { store, keys, headers }
    }
}

// The fields of a key, in Portcullis and in the databases.

pub const SCOPE: &str = "api.read";

pub fn name(number: u64) -> String {
    format!("Nightly export {number}")
}

pub fn owner(number: u64) -> String {
    format!("shop-{}", number % 1000)
}

pub fn metadata(number: u64) -> BTreeMap<String, String> {
    let till = format!("{}", number % 16);
    [("environment", "production"), ("till", &till)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn issue(store: &Store, count: usize) -> Vec<u8> {
    let scopes = store.scopes([SCOPE]).unwrap();
    let mut keys = Vec::new();
    for number in 0..count as u64 {
        let issued = store.issue(
            NewKey::new(name(number), scopes, Expiry::Never)
                .with_owner(owner(number))
                .with_metadata(metadata(number)),
        );
        issued.unwrap().secret.reveal(|text| keys.extend_from_slice(text.as_bytes()));
    }
    keys
}

impl Rival for Portcullis {
    fn name(&self) -> &'static str {
        "portcullis"
    }

    fn headers(&self) -> &Rows {
        &self.headers
    }

    #[inline]
    fn check(&self, header: &[u8]) -> u64 {
        self.store.authenticate_header(header).as_ref().map_or(0, number)
    }
}

/// A number that depends on the whole answer.
#[inline]
fn number(principal: &Principal) -> u64 {
    struct Bare(u64);
    impl std::hash::Hasher for Bare {
        fn write(&mut self, _: &[u8]) {}
        fn write_u64(&mut self, number: u64) {
            self.0 = number;
        }
        fn finish(&self) -> u64 {
            self.0
        }
    }
    let mut bare = Bare(0);
    std::hash::Hash::hash(&principal.id(), &mut bare);
    std::hash::Hasher::finish(&bare)
}

/// blake3 of the keys alone: the lower bound for every scheme that stores that digest.
pub struct Hash<'k>(pub &'k Rows);

impl Rival for Hash<'_> {
    fn name(&self) -> &'static str {
        "blake3::hash"
    }

    fn headers(&self) -> &Rows {
        self.0
    }

    #[inline]
    fn check(&self, key: &[u8]) -> u64 {
        first(&blake3::hash(key))
    }
}

/// blake3 of the keys, and one memory read at a position that depends on the digest. This is the lower
/// bound for a lookup among this number of keys.
pub struct HashAndMiss<'k> {
    keys: &'k Rows,
    memory: Vec<u64>,
}

impl<'k> HashAndMiss<'k> {
    /// As much memory as a table of `count` keys, 32 bytes a slot, four fifths of them taken.
    pub fn over(keys: &'k Rows, count: usize) -> Self {
        Self { keys, memory: (0..count as u64 * 5).collect() }
    }
}

impl Rival for HashAndMiss<'_> {
    fn name(&self) -> &'static str {
        "blake3::hash and one miss"
    }

    fn headers(&self) -> &Rows {
        self.keys
    }

    #[inline]
    fn check(&self, key: &[u8]) -> u64 {
        let place = (u128::from(first(&blake3::hash(key))) * self.memory.len() as u128) >> 64;
        self.memory[place as usize]
    }
}

#[inline]
pub(crate) fn first(hash: &blake3::Hash) -> u64 {
    u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap())
}

/// The key in a header, decoded on the stack.
#[inline]
pub(crate) fn with_key<T>(header: &[u8], then: impl FnOnce(&[u8]) -> T) -> T {
    let mut buffer = [0; 128];
    let length = BASE64_STANDARD.decode_slice(&header[6..], &mut buffer).unwrap();
    then(buffer[..length].strip_suffix(b":").unwrap())
}
