//! Rivals that query an embedded database on each request, and one that caches the answers.
//!
//! They store the same fields of a key as Portcullis: name, scopes, whether it is active, its expiry,
//! its owner, a little metadata, and the times of its creation and last change. On each request they
//! decode the row into a struct, as a program usually does, and check that the key is active and has
//! not expired. No key here expires, so no rival reads a clock. Both databases fit their caches.

use crate::{
    Rival,
    keys::{Portcullis, Rows, SCOPE, metadata, name, owner, with_key},
};
use bincode::Options;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

/// A key as the program uses it, decoded again for each request.
#[derive(Serialize, Deserialize)]
struct Stored {
    number: u64,
    name: String,
    scopes: Vec<String>,
    active: bool,
    /// Seconds since the epoch, as all times here.
    expires: Option<u64>,
    owner: Option<String>,
    metadata: BTreeMap<String, String>,
    created: u64,
    updated: u64,
}

impl Stored {
    fn numbered(number: u64) -> Self {
        Self {
            number,
            name: name(number),
            scopes: vec![SCOPE.into()],
            active: true,
            expires: None,
            owner: Some(owner(number)),
            metadata: metadata(number),
            created: 1_760_000_000 + number,
            updated: 1_760_000_000 + number,
        }
    }

    fn answer(&self) -> u64 {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let has_ended = self.expires.is_some_and(|end| end <= now());
        if self.active && !has_ended { self.number } else { 0 }
    }
}

/// sled, the key decoded with bincode.
pub struct Sled {
    headers: Arc<Rows>,
    db: sled::Db,
}

impl Sled {
    pub fn beside(house: &Portcullis, dir: &Path) -> Self {
        let db = sled::Config::new().path(dir.join("sled")).open().unwrap();
        for (number, key) in (1..).zip(house.keys.iter()) {
            let stored = Stored::numbered(number);
            let value = bincode::DefaultOptions::new().serialize(&stored).unwrap();
            db.insert(blake3::hash(key).as_bytes(), value).unwrap();
        }
        db.flush().unwrap();
        Self { headers: house.headers.clone(), db }
    }
}

impl Rival for Sled {
    fn name(&self) -> &'static str {
        "sled per request"
    }

    fn headers(&self) -> &Rows {
        &self.headers
    }

    fn check(&self, header: &[u8]) -> u64 {
        let digest = with_key(header, blake3::hash);
        let Some(value) = self.db.get(digest.as_bytes()).unwrap() else { return 0 };
        let stored: Stored = bincode::DefaultOptions::new().deserialize(&value).unwrap();
        stored.answer()
    }
}

/// SQLite: one connection, WAL, a prepared statement, a primary key of the digest's bytes. Scopes are
/// words in one column; metadata is JSON that nobody parses for a request.
pub struct Sqlite {
    headers: Arc<Rows>,
    connection: Mutex<Connection>,
}

const CREATE: &str = "CREATE TABLE keys (digest BLOB PRIMARY KEY, number INTEGER NOT NULL,
    name TEXT NOT NULL, scopes TEXT NOT NULL, active INTEGER NOT NULL, expires INTEGER, owner TEXT,
    metadata TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL) WITHOUT ROWID";
const INSERT: &str = "INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const FIND: &str = "SELECT number, name, scopes, active, expires, owner, metadata, created, updated
    FROM keys WHERE digest = ?1";

/// A row as the program knows it.
struct Row {
    key: Stored,
    _metadata: String,
}

impl Sqlite {
    pub fn beside(house: &Portcullis, dir: &Path) -> Self {
        let mut connection = Connection::open(dir.join("keys.sqlite")).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "mmap_size", 1 << 28).unwrap();
        connection.execute_batch(CREATE).unwrap();
        let inserting = connection.transaction().unwrap();
        for (number, key) in (1..).zip(house.keys.iter()) {
            let (digest, key) = (blake3::hash(key), Stored::numbered(number));
            let pairs: Vec<_> =
                key.metadata.iter().map(|(name, value)| format!("{name:?}:{value:?}")).collect();
            let values = params![
                digest.as_bytes(),
                key.number,
                key.name,
                key.scopes.join(" "),
                key.active,
                key.expires,
                key.owner,
                format!("{{{}}}", pairs.join(",")),
                key.created,
                key.updated,
            ];
            inserting.execute(INSERT, values).unwrap();
        }
        inserting.commit().unwrap();
        Self { headers: house.headers.clone(), connection: Mutex::new(connection) }
    }

    fn find(&self, digest: &blake3::Hash) -> u64 {
        let connection = self.connection.lock().unwrap();
        let mut find = connection.prepare_cached(FIND).unwrap();
        let found = find.query_row([digest.as_bytes()], Row::read);
        found.optional().unwrap().map_or(0, |row| row.key.answer())
    }
}

impl Row {
    fn read(row: &rusqlite::Row) -> rusqlite::Result<Self> {
        let scopes = row.get_ref(2)?.as_str()?;
        let key = Stored {
            number: row.get(0)?,
            name: row.get(1)?,
            scopes: scopes.split(' ').map(str::to_owned).collect(),
            active: row.get(3)?,
            expires: row.get(4)?,
            owner: row.get(5)?,
            metadata: BTreeMap::new(),
            created: row.get(7)?,
            updated: row.get(8)?,
        };
        Ok(Self { key, _metadata: row.get(6)? })
    }
}

impl Rival for Sqlite {
    fn name(&self) -> &'static str {
        "SQLite per request"
    }

    fn headers(&self) -> &Rows {
        &self.headers
    }

    fn check(&self, header: &[u8]) -> u64 {
        self.find(&with_key(header, blake3::hash))
    }
}

/// moka in front of SQLite, warm: every answer comes from the cache. It still accepts a revoked
/// key until the entry expires.
pub struct Cached {
    sqlite: Sqlite,
    cache: moka::sync::Cache<blake3::Hash, u64>,
}

impl Cached {
    pub fn beside(house: &Portcullis, dir: &Path) -> Self {
        let sqlite = Sqlite::beside(house, dir);
        let cache = moka::sync::Cache::new(2 * house.keys.count() as u64);
        let cached = Self { sqlite, cache };
        house.headers.iter().for_each(|header| assert_ne!(cached.check(header), 0));
        cached.cache.run_pending_tasks();
        cached
    }
}

impl Rival for Cached {
    fn name(&self) -> &'static str {
        "moka in front of SQLite"
    }

    fn headers(&self) -> &Rows {
        self.sqlite.headers()
    }

    fn check(&self, header: &[u8]) -> u64 {
        let digest = with_key(header, blake3::hash);
        self.cache.get_with(digest, || self.sqlite.find(&digest))
    }
}
