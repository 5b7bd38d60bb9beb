//! Raw edits of a closed store's database, as by an attacker who can write to the directory and knows
//! the format. Without a pepper all tags can be computed, as here.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Opens the database with sled, runs `work` on it and closes it.
pub fn operate<T>(home: &Path, work: impl FnOnce(&sled::Db) -> T) -> T {
    let dir = home.join("ledger/sled");
    let deadline = Instant::now() + Duration::from_secs(20);
    // The threads of sled hold its lock for a while after the last handle is dropped.
    let closed = || File::open(dir.join("db")).unwrap().try_lock().is_ok();
    let db = loop {
        match sled::Config::new().path(&dir).flush_every_ms(None).open() {
            Ok(db) => break db,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(10));
    };
    let done = work(&db);
    db.flush().unwrap();
    drop(db);
    while !closed() {
        assert!(Instant::now() < deadline, "the database stays locked");
        thread::sleep(Duration::from_millis(10));
    }
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        let mode = if entry.file_type().unwrap().is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(entry.path(), Permissions::from_mode(mode)).unwrap();
    }
    done
}

/// Returns the database key of an audit entry.
pub fn entry(sequence: u64) -> Vec<u8> {
    [b"a", &sequence.to_be_bytes()[..]].concat()
}

/// Returns the database key and the frame of the record of an API key.
pub fn record(db: &sled::Db, id: portcullis::KeyId) -> (Vec<u8>, Vec<u8>) {
    let number = number(id).to_le_bytes();
    let mut all = db.scan_prefix(b"k").map(Result::unwrap);
    let (place, frame) = all.find(|(_, frame)| frame[1..9] == number).unwrap();
    (place.to_vec(), frame.to_vec())
}

/// Decodes the number of a key id from base62.
fn number(id: portcullis::KeyId) -> u64 {
    const DIGITS: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let text = id.to_string();
    let digits = text.trim_start_matches("key_").chars();
    digits.fold(0, |number, digit| number * 62 + DIGITS.find(digit).unwrap() as u64)
}

/// Flips a bit of a value.
pub fn flip(db: &sled::Db, place: &[u8], at: usize) {
    let mut value = db.get(place).unwrap().unwrap().to_vec();
    value[at] ^= 1;
    db.insert(place, value).unwrap();
}

/// Computes H of the design document, without a pepper.
pub fn seal(purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
    let key = blake3::derive_key(&format!("portcullis 2026-11 {purpose}"), b"");
    let mut hasher = blake3::Hasher::new_keyed(&key);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Writes a value with its authentication tag.
pub fn put_sealed(db: &sled::Db, place: &[u8], purpose: &str, mut body: Vec<u8>) {
    let tag = seal(purpose, &[place, &body]);
    body.extend(&tag[..16]);
    db.insert(place, body).unwrap();
}

const HEAD_IN_META: usize = 1 + 16 + 16 + 24 + 32;

/// Makes everything in the store older by this many hours.
pub fn age(home: &Path, hours: u64) {
    shift(home, -i64::try_from(hours).unwrap());
}

/// Shifts every time in the store except those in records by this many hours, as a forger would. Computes
/// the whole chain, the meta record and the anchor again.
pub fn shift(home: &Path, hours: i64) {
    let millis = hours * 3_600_000;
    let shifted = |bytes: &mut [u8]| {
        let at = u64::from_le_bytes(bytes.try_into().unwrap());
        bytes.copy_from_slice(&at.checked_add_signed(millis).unwrap().to_le_bytes());
    };
    let (sequence, head) = operate(home, |db| {
        // In a pruned log the chain starts with the head of the last pruned entry.
        let log_start = db.get(b"f").unwrap();
        let mut head = log_start.map_or([0; 32], |frame| frame[9..41].try_into().unwrap());
        let mut last = 0;
        for value in db.scan_prefix(b"a") {
            let (place, frame) = value.unwrap();
            let mut body = frame[..frame.len() - 32].to_vec();
            shifted(&mut body[9..17]);
            head = seal("trail", &[&head, &body]);
            body.extend(head);
            db.insert(&place, body).unwrap();
            last = u64::from_be_bytes(place[1..].try_into().unwrap());
        }
        let meta = db.get(b"m").unwrap().unwrap();
        let mut body = meta[..meta.len() - 16].to_vec();
        body[HEAD_IN_META..HEAD_IN_META + 32].copy_from_slice(&head);
        shifted(&mut body[HEAD_IN_META + 32..HEAD_IN_META + 40]);
        put_sealed(db, b"m", "meta", body);
        (last, head)
    });
    let anchor = home.join("ledger/anchor");
    let mut bytes = fs::read(&anchor).unwrap();
    for slot in [0, 4096] {
        let slot_sequence = u64::from_le_bytes(bytes[slot + 24..slot + 32].try_into().unwrap());
        if slot_sequence == sequence {
            bytes[slot + 80..slot + 112].copy_from_slice(&head);
            let tag = seal("anchor", &[&bytes[slot..slot + 112]]);
            bytes[slot + 112..slot + 128].copy_from_slice(&tag[..16]);
        } else {
            // Simulates a slot that was torn by a power cut.
            bytes[slot + 112] ^= 1;
        }
    }
    fs::write(&anchor, bytes).unwrap();
}
