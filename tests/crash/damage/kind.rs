//! The kinds of damage that the campaign tries.

use super::{
    Chance, anchor, copy, db, pairs, remove_snapshots, replace, sled_dir, snapshots, tamper,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DamageKind {
    FlippedBit,
    ZeroedBlock,
    Noise,
    SwappedBlocks,
    TruncatedFile,
    EmptiedFile,
    MissingFile,
    /// One file is replaced by an earlier state.
    OlderFile,
    /// A record is stored under the digest of another.
    MovedRecord,
    /// A record is replaced by an earlier state, through the engine.
    OlderRecord,
    /// A record is removed through the engine.
    RemovedRecord,
    /// The whole directory is replaced by an earlier state; its anchor is elsewhere.
    OlderDirectory,
}

impl DamageKind {
    /// The frequency of each kind: half of all damages are within a file.
    pub(crate) const ROUND: [Self; 24] = [
        Self::FlippedBit,
        Self::ZeroedBlock,
        Self::MovedRecord,
        Self::FlippedBit,
        Self::OlderDirectory,
        Self::FlippedBit,
        Self::Noise,
        Self::OlderFile,
        Self::SwappedBlocks,
        Self::TruncatedFile,
        Self::OlderRecord,
        Self::FlippedBit,
        Self::EmptiedFile,
        Self::FlippedBit,
        Self::ZeroedBlock,
        Self::RemovedRecord,
        Self::MissingFile,
        Self::FlippedBit,
        Self::OlderDirectory,
        Self::TruncatedFile,
        Self::Noise,
        Self::OlderFile,
        Self::SwappedBlocks,
        Self::FlippedBit,
    ];

    /// Whether opening must fail with this damage.
    pub(crate) fn is_always_detected(self) -> bool {
        matches!(
            self,
            Self::MovedRecord | Self::OlderRecord | Self::RemovedRecord | Self::OlderDirectory
        )
    }

    /// Damages a copy of a store, and describes the damage.
    pub(crate) fn apply(self, home: &Path, older: &[PathBuf], chance: &mut Chance) -> String {
        match self {
            Self::OlderDirectory => {
                let older = &older[chance.below(older.len())];
                replace(older, home);
                return format!("{} was put back", older.display());
            }
            Self::MovedRecord | Self::OlderRecord | Self::RemovedRecord => {
                return self.tamper(home, older, chance);
            }
            _ => {}
        }
        // Without a snapshot the engine reads the whole log, and treats damage as its end.
        if chance.below(3) == 0 {
            remove_snapshots(home);
        }
        let file = any_file(home, chance);
        let description = match self {
            Self::MissingFile => {
                fs::remove_file(&file).unwrap();
                "removed".to_owned()
            }
            Self::EmptiedFile => {
                fs::write(&file, []).unwrap();
                "emptied".to_owned()
            }
            Self::OlderFile => {
                let older = &older[chance.below(older.len())];
                let from = older.join(file.strip_prefix(home).unwrap());
                // Each snapshot has another name. There is exactly one.
                let from = if from.is_file() { from } else { snapshots(older).swap_remove(0) };
                let to = file.with_file_name(from.file_name().unwrap());
                fs::remove_file(&file).unwrap();
                fs::copy(&from, to).unwrap();
                format!("put back as {}", from.display())
            }
            _ => self.within(&file, chance),
        };
        format!("{}: {description}", file.display())
    }

    /// Damages a part of a file.
    fn within(self, file: &Path, chance: &mut Chance) -> String {
        let mut bytes = fs::read(file).unwrap();
        let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let place = |chance: &mut Chance| {
            if chance.below(4) == 0 || written.is_empty() {
                chance.below(bytes.len().max(1))
            } else {
                written[chance.below(written.len())]
            }
        };
        let (at, other) = (place(chance), place(chance));
        let end = |len: usize| (at + len).min(bytes.len());
        let description = match self {
            Self::FlippedBit => {
                let bit = chance.below(8);
                bytes[at] ^= 1 << bit;
                format!("bit {bit} of byte {at} flipped")
            }
            Self::ZeroedBlock => {
                let end = end(1 << chance.below(13));
                bytes[at..end].fill(0);
                format!("bytes {at}..{end} zeroed")
            }
            Self::Noise => {
                let end = end(1 << chance.below(10));
                bytes[at..end].fill_with(|| chance.word().to_le_bytes()[0]);
                format!("bytes {at}..{end} overwritten with noise")
            }
            Self::SwappedBlocks => {
                let len = (1 << chance.below(13)).min(bytes.len() - at.max(other));
                let block = bytes[at..at + len].to_vec();
                bytes.copy_within(other..other + len, at);
                bytes[other..other + len].copy_from_slice(&block);
                format!("{len} bytes at {at} and {other} swapped")
            }
            _ => {
                bytes.truncate(at);
                format!("truncated to {at} bytes")
            }
        };
        fs::write(file, bytes).unwrap();
        description
    }

    fn tamper(self, home: &Path, older: &[PathBuf], chance: &mut Chance) -> String {
        // The engine keeps a closed database locked for a while, so it opens a copy.
        let scratch = home.with_extension("scratch");
        fs::rename(home, &scratch).unwrap();
        let mut old = Vec::new();
        if self == Self::OlderRecord {
            let place = home.with_extension("older");
            copy(&older[chance.below(older.len())], &place);
            tamper(&place, |db| old = pairs(db, "k"));
            fs::remove_dir_all(place).unwrap();
        }
        let mut description = String::new();
        tamper(&scratch, |db| {
            let now = pairs(db, "k");
            let one = chance.below(now.len());
            match self {
                Self::MovedRecord => {
                    let other = (one + 1 + chance.below(now.len() - 1)) % now.len();
                    db.insert(&now[other].0, &now[one].1).unwrap();
                    description = format!("record {one} stored under the digest of record {other}");
                }
                Self::RemovedRecord => {
                    db.remove(&now[one].0).unwrap();
                    description = format!("record {one} removed");
                }
                _ => {
                    old.retain(|pair| !now.contains(pair));
                    let one = chance.below(old.len());
                    db.insert(&old[one].0, &old[one].1).unwrap();
                    description = format!("earlier record {one} put back");
                }
            }
        });
        copy(&scratch, home);
        fs::remove_dir_all(scratch).unwrap();
        description
    }
}

fn any_file(home: &Path, chance: &mut Chance) -> PathBuf {
    let mut files = vec![db(home), db(home), db(home), sled_dir(home).join("conf")];
    files.extend(snapshots(home));
    files.extend(Some(anchor(home)).filter(|file| file.is_file()));
    files.swap_remove(chance.below(files.len()))
}
