//! Backups with invalid blocks under a valid hash. Without a pepper, anyone can compute the hash.

use super::{
    format::{Block, In, Kind, Out, Trailer},
    read::verify,
};
use crate::{
    digest::Seals,
    error::Error,
    record::{Actor, Expiry, NewKey},
    scope::Grant,
    store::Store,
};

/// The parts of a small backup: meta, 14 scope names, 4 entries, 2 records.
fn parts() -> (Vec<(Kind, Vec<u8>)>, Trailer) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::builder()
        .scopes(crate::scope::catalogue::financial_data())
        .open(dir.path().join("keys"))
        .unwrap();
    let ids = ["one", "two"].map(|name| {
        let new = NewKey::new(name, Grant::All, Expiry::Never);
        store.acting_as(Actor::Host).issue(new).unwrap().record.id
    });
    store.revoke(ids[0]).unwrap();
    let mut bytes = Vec::new();
    store.backup(&mut bytes, |_| ()).unwrap();
    let mut input = In::begin(&bytes[..], &seals().backup).unwrap();
    let mut parts = Vec::new();
    loop {
        match input.block().unwrap() {
            Block::Value(kind, payload) => parts.push((kind, payload)),
            Block::Trailer(trailer) => return (parts, trailer),
        }
    }
}

fn seals() -> Seals {
    Seals::derive(None)
}

fn assemble(parts: &[(Kind, Vec<u8>)], trailer: &Trailer) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = Out::begin(&mut bytes, &seals().backup).unwrap();
    for (kind, payload) in parts {
        out.block(*kind, &[payload]).unwrap();
    }
    out.end(trailer).unwrap();
    bytes
}

fn is_refused(parts: &[(Kind, Vec<u8>)], trailer: &Trailer) -> bool {
    let bytes = assemble(parts, trailer);
    matches!(verify(&bytes[..], &seals(), |_| ()), Err(Error::BadBackup(_)))
}

#[test]
fn missing_duplicate_or_moved_block_is_detected_under_a_valid_hash() {
    let (parts, trailer) = parts();
    assert_eq!(parts.len(), 1 + 14 + 4 + 2);
    assert!(!is_refused(&parts, &trailer));
    for at in 0..parts.len() {
        let mut less = parts.clone();
        let part = less.remove(at);
        assert!(is_refused(&less, &trailer), "without part {at}");
        for other in (0..parts.len()).filter(|&other| other != at) {
            let mut moved = less.clone();
            moved.insert(other, part.clone());
            assert!(is_refused(&moved, &trailer), "part {at} at {other}");
        }
        for other in 0..=parts.len() {
            let mut twice = parts.clone();
            twice.insert(other, part.clone());
            assert!(is_refused(&twice, &trailer), "part {at} at {other} too");
        }
    }
}

#[test]
fn blocks_of_another_backup_are_refused() {
    let ((one, trailer), (other, other_trailer)) = (parts(), parts());
    assert!(is_refused(&one, &other_trailer));
    for at in (0..one.len()).filter(|&at| one[at] != other[at]) {
        let mut mixed = one.clone();
        mixed[at] = other[at].clone();
        assert!(is_refused(&mixed, &trailer), "part {at}");
    }
    let mut shorter = one.clone();
    let removed = shorter.split_off(one.len() - 1);
    assert_eq!(removed[0].0, Kind::Record);
    let agreed = Trailer { records: 1, ..trailer };
    assert!(is_refused(&shorter, &agreed));
}

#[test]
fn backup_has_the_documented_bytes() {
    let trailer = Trailer {
        sequence: 0x0102,
        records: 3,
        head: [7; 32],
        taken: crate::time::Timestamp::from_millis(0x0405),
    };
    let bytes = assemble(&[(Kind::Scope, vec![1, 2, 3])], &trailer);
    let (fields, hash) = bytes.split_last_chunk::<32>().unwrap();
    let hex = fields.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let expected = "50434c424b555001 73 03000000 010203 74 58000000 0201000000000000 \
                    0300000000000000 \
                    0707070707070707070707070707070707070707070707070707070707070707 \
                    0504000000000000";
    assert_eq!(hex, expected.replace(' ', ""));
    let mut running = seals().backup.running();
    running.update(fields);
    assert_eq!(*hash, running.hash());
}
