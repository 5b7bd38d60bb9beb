//! Stores with any number of keys, restored from synthetic backups.
//!
//! Issuing ten million keys takes an hour. So this module takes a backup of an empty store and writes
//! the keys and their audit entries into it, in the format that the design document specifies. A
//! restore verifies the result. Each key is computed from its number, so no key needs to be stored.

use portcullis::{Actor, KeyId, Offline, backup::LaterEvidence};
use serde::Serialize;
use std::{
    io::{BufWriter, Write, pipe},
    path::Path,
    thread,
};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const NAMES: [&str; 4] = ["Nightly export", "Till", "Partner", "Dashboard of branch"];
/// The scope bits of `api.read` and `api.write`.
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
const HEADER_BYTES: usize = 8;
/// Offsets in the frame of the meta record: sequence, number of records, sum, chain head, and time of
/// the newest change.
const SEQUENCE: usize = 33;
const RECORDS: usize = 41;
const SUM: usize = 57;
const HEAD: usize = 89;
const NEWEST: usize = 121;
const TAG: usize = 16;

/// The length of a key.
pub(crate) const KEY: usize = 54;

/// Creates a store with this many keys in a directory that is absent or empty.
pub(crate) fn create(dir: &Path, keys: u32) {
    let (from, to) = pipe().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || write(keys, to));
        Offline::new().restore(from, dir, &LaterEvidence::Unknown, Actor::Host, |_| ()).unwrap();
    });
}

/// Returns the text of a key. Its last six digits are not a checksum, which authentication does not
/// verify.
pub(crate) fn text(number: u32) -> [u8; KEY] {
    let random = random(number);
    let mut text = *b"pcl_-----------_--------------------------------000000";
    text[4..15].copy_from_slice(&id_digits(number));
    for (digit, byte) in text[16..48].iter_mut().zip(random) {
        *digit = DIGITS[usize::from(byte) % 62];
    }
    text
}

pub(crate) fn id(number: u32) -> KeyId {
    format!("key_{}", str::from_utf8(&id_digits(number)).unwrap()).parse().unwrap()
}

/// Returns whether a key is active; one in eight is inactive.
pub(crate) fn is_active(number: u32) -> bool {
    !number.is_multiple_of(8)
}

fn random(number: u32) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn id_number(number: u32) -> u64 {
    u64::from_le_bytes(*blake3::hash(&random(number)).as_bytes().first_chunk().unwrap())
}

fn id_digits(number: u32) -> [u8; 11] {
    let (mut digits, mut rest) = ([0; 11], id_number(number));
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

fn write(keys: u32, to: impl Write) {
    let EmptyBackup { mut meta, scopes, entries } = EmptyBackup::take();
    let frames = Frames::of(&meta, keys);
    let hash_meta = key_of("meta");
    let mut sum = Sum::of(&meta[SUM..HEAD]);
    let mut head: [u8; 32] = meta[HEAD..NEWEST].try_into().unwrap();
    let mut digests = Vec::new();
    for number in 0..keys {
        head = frames.entry(number, &head).1;
        let digest = *blake3::hash(&text(number)).as_bytes();
        sum.add(frames.record(number, &digest).1);
        digests.push((digest, number));
    }
    digests.sort_unstable();
    let sequence = frames.sequence(keys) - 1;
    let (old_head, records) = (meta[HEAD..NEWEST].try_into().unwrap(), u64::from(keys));
    meta[SEQUENCE..][..8].copy_from_slice(&sequence.to_le_bytes());
    meta[RECORDS..][..8].copy_from_slice(&records.to_le_bytes());
    meta[SUM..HEAD].copy_from_slice(&sum.bytes());
    meta[HEAD..NEWEST].copy_from_slice(&head);
    meta.truncate(meta.len() - TAG);
    let tag = hash(&hash_meta, &[b"m", &meta]);
    meta.extend_from_slice(&tag[..TAG]);

    let mut out = BackupWriter::begin(to);
    out.block(b'm', &[&meta]);
    scopes.iter().for_each(|frame| out.block(b's', &[frame]));
    entries.iter().for_each(|frame| out.block(b'a', &[frame]));
    let mut previous = old_head;
    for number in 0..keys {
        let (frame, head) = frames.entry(number, &previous);
        out.block(b'a', &[&frame]);
        previous = head;
    }
    for (digest, number) in digests {
        out.block(b'k', &[&digest, &[0; 4], &frames.record(number, &digest).0]);
    }
    out.end(sequence, records, &head, frames.newest);
}

/// The frames in a backup of a store without keys.
struct EmptyBackup {
    meta: Vec<u8>,
    scopes: Vec<Vec<u8>>,
    entries: Vec<Vec<u8>>,
}

impl EmptyBackup {
    fn take() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        portcullis_testkit::builder().open(dir.path()).unwrap().backup(&mut bytes, |_| ()).unwrap();
        let mut empty = Self { meta: Vec::new(), scopes: Vec::new(), entries: Vec::new() };
        let mut rest = &bytes[HEADER_BYTES..];
        loop {
            let length = u32::from_le_bytes(rest[1..5].try_into().unwrap()) as usize;
            let frame = rest[5..][..length].to_vec();
            match rest[0] {
                b'm' => empty.meta = frame,
                b's' => empty.scopes.push(frame),
                b'a' => empty.entries.push(frame),
                _ => return empty,
            }
            rest = &rest[5 + length..];
        }
    }
}

/// Computes the frames of records and audit entries.
struct Frames {
    first: u64,
    newest: u64,
    keys: u32,
    record: [u8; 32],
    audit: [u8; 32],
}

/// Name, scopes, active, expiry, owner and metadata.
type Fields = (String, (u32, [u64; 4]), bool, Option<u64>, Option<String>, Vec<(String, String)>);

impl Frames {
    fn of(meta: &[u8], keys: u32) -> Self {
        let number = |at: usize| u64::from_le_bytes(meta[at..][..8].try_into().unwrap());
        let (first, newest) = (number(SEQUENCE) + 1, number(NEWEST));
        Self { first, newest, keys, record: key_of("frame"), audit: key_of("trail") }
    }

    /// Returns the sequence of the entry that created this key.
    fn sequence(&self, number: u32) -> u64 {
        self.first + u64::from(number)
    }

    /// Returns the creation time; one key in each millisecond.
    fn created_at(&self, number: u32) -> u64 {
        self.newest - u64::from(self.keys - number)
    }

    fn fields(number: u32) -> Fields {
        let scopes = if number.is_multiple_of(3) { READ } else { READ | WRITE };
        let name = format!("{} {number}", NAMES[number as usize % NAMES.len()]);
        let owner = Some(format!("shop-{}", number % 1000));
        (name, (0, [scopes, 0, 0, 0]), is_active(number), None, owner, Vec::new())
    }

    /// Returns the frame, and the hash that is added to the sum.
    fn record(&self, number: u32, digest: &[u8; 32]) -> (Vec<u8>, [u8; 32]) {
        let (created, fields) = (self.created_at(number), Self::fields(number));
        let ended = (!is_active(number)).then_some(created);
        let by = 0u32;
        let none = None::<u64>;
        let times = (created, by, created, by, ended, none, none, self.sequence(number));
        let mut frame = packed(&(id_number(number), fields, times));
        let hash = hash(&self.record, &[&[&b"k"[..], digest].concat(), &frame]);
        frame.extend_from_slice(&hash[..TAG]);
        (frame, hash)
    }

    /// Returns the frame, and the chain head after it.
    fn entry(&self, number: u32, before: &[u8; 32]) -> (Vec<u8>, [u8; 32]) {
        let (by, act, source) = (0u32, 0u32, None::<u64>);
        let who = (self.sequence(number), self.created_at(number), by, source, act);
        let (name, scopes, active, expiry, owner, metadata) = Self::fields(number);
        let after =
            (Some(name), Some(scopes), Some(active), Some(expiry), Some(owner), Some(metadata));
        // Before the creation, all six fields are absent.
        let mut frame = packed(&(who, Some(id_number(number)), [0u8; 6], after));
        let head = hash(&self.audit, &[before, &frame]);
        frame.extend_from_slice(&head);
        (frame, head)
    }
}

fn packed(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![1];
    bincode::serialize_into(&mut bytes, value).unwrap();
    bytes
}

fn key_of(purpose: &str) -> [u8; 32] {
    blake3::derive_key(&format!("portcullis 2026-11 {purpose}"), b"")
}

fn hash(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
}

/// A sum modulo 2²⁵⁶.
struct Sum([u64; 4]);

impl Sum {
    fn of(bytes: &[u8]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        Self([0, 1, 2, 3].map(|at| u64::from_le_bytes(words[at])))
    }

    fn add(&mut self, member: [u8; 32]) {
        let mut carry = false;
        for (mine, other) in self.0.iter_mut().zip(Self::of(&member).0) {
            let sum = u128::from(*mine) + u128::from(other) + u128::from(carry);
            (*mine, carry) = (sum as u64, sum >> 64 != 0);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// A writer of a backup.
struct BackupWriter<W: Write> {
    to: BufWriter<W>,
    hasher: blake3::Hasher,
}

impl<W: Write> BackupWriter<W> {
    fn begin(to: W) -> Self {
        let hasher = blake3::Hasher::new_keyed(&key_of("backup"));
        let mut out = Self { to: BufWriter::with_capacity(1 << 20, to), hasher };
        out.put(b"PCLBKUP\x01");
        out
    }

    fn block(&mut self, kind: u8, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.put(&[kind]);
        self.put(&(length as u32).to_le_bytes());
        parts.iter().for_each(|part| self.put(part));
    }

    fn end(mut self, sequence: u64, records: u64, head: &[u8; 32], taken: u64) {
        let [sequence, records, taken] = [sequence, records, taken].map(u64::to_le_bytes);
        self.put(&[b't', 88, 0, 0, 0]);
        [&sequence[..], &records, head, &taken].iter().for_each(|part| self.put(part));
        let hash = self.hasher.finalize();
        self.to.write_all(hash.as_bytes()).unwrap();
        self.to.flush().unwrap();
    }

    fn put(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.to.write_all(bytes).unwrap();
    }
}
