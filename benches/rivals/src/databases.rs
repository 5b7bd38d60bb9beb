//! Rivals that ask an embedded database on each request, and one that remembers its answers.

use crate::{
    Rival,
    keys::{Portcullis, Rows, with_key},
};
use bincode::Options;
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};

/// What a database keeps of a key, decoded on each request.
#[derive(Serialize, Deserialize)]
struct Stored {
    number: u64,
    active: bool,
    end: u64,
    name: String,
    scopes: Vec<String>,
}

/// sled, the record decoded with bincode.
pub struct Sled {
    headers: Arc<Rows>,
    db: sled::Db,
}

impl Sled {
    pub fn beside(house: &Portcullis, dir: &Path) -> Self {
        let db = sled::Config::new().path(dir.join("sled")).open().unwrap();
        for (number, key) in (1..).zip(house.keys.iter()) {
            let stored = Stored {
                number,
                active: true,
                end: u64::MAX,
                name: format!("key {number}"),
                scopes: vec!["api.read".into()],
            };
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
        if stored.active { stored.number } else { 0 }
    }
}

/// SQLite: one connection, WAL, a prepared statement, a primary key of the digest's bytes.
pub struct Sqlite {
    headers: Arc<Rows>,
    connection: Mutex<Connection>,
}

const FIND: &str = "SELECT number, active, expires FROM keys WHERE digest = ?1";

impl Sqlite {
    pub fn beside(house: &Portcullis, dir: &Path) -> Self {
        let mut connection = Connection::open(dir.join("keys.sqlite")).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "mmap_size", 1 << 28).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE keys (digest BLOB PRIMARY KEY, number INTEGER NOT NULL,
                 active INTEGER NOT NULL, expires INTEGER NOT NULL, name TEXT NOT NULL) WITHOUT ROWID",
            )
            .unwrap();
        let inserting = connection.transaction().unwrap();
        for (number, key) in (1i64..).zip(house.keys.iter()) {
            let (digest, name) = (blake3::hash(key), format!("key {number}"));
            let values = (digest.as_bytes(), number, true, i64::MAX, name);
            inserting.execute("INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5)", values).unwrap();
        }
        inserting.commit().unwrap();
        Self { headers: house.headers.clone(), connection: Mutex::new(connection) }
    }

    fn find(&self, digest: &blake3::Hash) -> u64 {
        let connection = self.connection.lock().unwrap();
        let mut find = connection.prepare_cached(FIND).unwrap();
        let found = find.query_row([digest.as_bytes()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, row.get::<_, i64>(2)?))
        });
        match found.optional().unwrap() {
            Some((number, true, _)) => number.unsigned_abs(),
            _ => 0,
        }
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

/// moka in front of SQLite, warm: every answer comes from the cache. It goes on letting a key in
/// for as long as an entry lives.
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
