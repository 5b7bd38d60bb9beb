//! Rivals that keep all keys in this process's memory.

use crate::{
    Rival,
    keys::{Portcullis, Rows, with_key},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use dashmap::DashMap;
use prefixed_api_key::{PrefixedApiKey, PrefixedApiKeyController};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

/// Uses a digest as its own hash.
#[derive(Default)]
pub struct Bare(u64);

impl Hasher for Bare {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Build = BuildHasherDefault<Bare>;

/// The stored fields of a key.
#[derive(Clone, Copy)]
pub struct Entry {
    pub number: u64,
    pub active: bool,
    /// Seconds since the epoch.
    pub end: u64,
}

impl Entry {
    fn answer(self) -> u64 {
        if self.active { self.number } else { 0 }
    }
}

fn entries(house: &Portcullis) -> impl Iterator<Item = ([u8; 32], Entry)> {
    (1..).zip(house.keys.iter()).map(|(number, key)| {
        (*blake3::hash(key).as_bytes(), Entry { number, active: true, end: u64::MAX })
    })
}

/// Implements [`Rival`] for a map from digests to entries.
macro_rules! map {
    ($(#[$about:meta])* $name:ident, $text:literal, $map:ty, $get:expr) => {
        $(#[$about])*
        pub struct $name {
            headers: Arc<Rows>,
            map: $map,
        }

        impl Rival for $name {
            fn name(&self) -> &'static str {
                $text
            }

            fn headers(&self) -> &Rows {
                &self.headers
            }

            #[inline]
            fn check(&self, header: &[u8]) -> u64 {
                let digest = with_key(header, |key| *blake3::hash(key).as_bytes());
                let get: fn(&$map, &[u8; 32]) -> Option<Entry> = $get;
                get(&self.map, &digest).map_or(0, Entry::answer)
            }
        }
    };
}

map!(
    /// A map under one lock, without allocations and without a second hash.
    Locked, "RwLock<HashMap>", RwLock<HashMap<[u8; 32], Entry, Build>>,
    |map, digest| map.read().unwrap().get(digest).copied()
);
map!(
    /// A map in shards, each with its own lock.
    Sharded, "dashmap", DashMap<[u8; 32], Entry, Build>,
    |map, digest| map.get(digest).map(|entry| *entry)
);
map!(
    /// A map whose readers take no lock.
    LockFree, "papaya", papaya::HashMap<[u8; 32], Entry, Build>,
    |map, digest| map.pin().get(digest).copied()
);

impl Locked {
    pub fn beside(house: &Portcullis) -> Self {
        Self { headers: house.headers.clone(), map: RwLock::new(entries(house).collect()) }
    }
}

impl Sharded {
    pub fn beside(house: &Portcullis) -> Self {
        Self { headers: house.headers.clone(), map: entries(house).collect() }
    }
}

impl LockFree {
    pub fn beside(house: &Portcullis) -> Self {
        Self { headers: house.headers.clone(), map: entries(house).collect() }
    }
}

/// A first implementation: allocations, the default hasher, an `Arc` to the record, the exact time.
pub struct Naive {
    headers: Arc<Rows>,
    map: RwLock<HashMap<String, Arc<Entry>>>,
}

impl Naive {
    pub fn beside(house: &Portcullis) -> Self {
        let map = entries(house)
            .map(|(digest, entry)| (blake3::Hash::from_bytes(digest).to_string(), Arc::new(entry)));
        Self { headers: house.headers.clone(), map: RwLock::new(map.collect()) }
    }
}

impl Rival for Naive {
    fn name(&self) -> &'static str {
        "naive"
    }

    fn headers(&self) -> &Rows {
        &self.headers
    }

    fn check(&self, header: &[u8]) -> u64 {
        let text = String::from_utf8(header.to_vec()).unwrap();
        let decoded = BASE64_STANDARD.decode(text.strip_prefix("Basic ").unwrap()).unwrap();
        let user = String::from_utf8(decoded).unwrap();
        let key = user.split(':').next().unwrap();
        let digest = blake3::hash(key.as_bytes()).to_string();
        let entry = self.map.read().unwrap().get(&digest).cloned();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        entry.filter(|entry| now < entry.end).map_or(0, |entry| entry.answer())
    }
}

type Check = Box<dyn Fn(&PrefixedApiKey, &str) -> bool + Send + Sync>;

/// The crate `prefixed-api-key` with its defaults, and a map from its short tokens.
pub struct Prefixed {
    headers: Rows,
    check: Check,
    map: RwLock<HashMap<String, (String, Entry)>>,
}

impl Prefixed {
    pub fn with_keys(count: usize) -> Self {
        let controller = PrefixedApiKeyController::configure()
            .prefix("pcl".into())
            .seam_defaults()
            .finalize()
            .unwrap();
        let (mut keys, mut map, mut width) = (Vec::new(), HashMap::new(), 0);
        while keys.len() < count {
            let (key, hash) = controller.generate_key_and_hash();
            let text = key.to_string().into_bytes();
            // Its keys have several lengths; the most common one is that of the first key.
            width = if width == 0 { text.len() } else { width };
            if text.len() == width {
                let entry = Entry { number: keys.len() as u64 + 1, active: true, end: u64::MAX };
                map.insert(key.short_token().to_owned(), (hash, entry));
                keys.push(text);
            }
        }
        Self {
            headers: Rows::new(keys.iter().map(Vec::as_slice)).headers(),
            check: Box::new(move |key, hash| controller.check_hash(key, hash)),
            map: RwLock::new(map),
        }
    }
}

impl Rival for Prefixed {
    fn name(&self) -> &'static str {
        "prefixed-api-key"
    }

    fn headers(&self) -> &Rows {
        &self.headers
    }

    fn check(&self, header: &[u8]) -> u64 {
        let key = with_key(header, |key| {
            PrefixedApiKey::from_string(std::str::from_utf8(key).unwrap()).unwrap()
        });
        let map = self.map.read().unwrap();
        let Some((hash, entry)) = map.get(key.short_token()) else { return 0 };
        if (self.check)(&key, hash) { entry.answer() } else { 0 }
    }
}
