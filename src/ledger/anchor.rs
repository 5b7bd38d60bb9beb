//! The anchor: a small file beside the database that records its newest state.
//!
//! A storage engine cannot detect that its files were replaced by an older copy; the anchor can.
//! The anchor has two slots, each within one sector of a separate block:
//!
//! | slot | content |
//! |---|---|
//! | synced | the newest mark at the last successful sync; not written until the next sync |
//! | spare | overwritten by every commit |
//!
//! A sync swaps the roles. So a power cut tears at most the spare slot.

use crate::{
    codec::Mark,
    digest::Seal,
    error::Error,
    files::{self, Dir},
};
use rustix::fs::OFlags;
use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

const MAGIC: &[u8; 8] = b"PCLANCH1";
const BLOCK: u64 = 4096;
const BODY: usize = 8 + 16 + 8 + 8 + 8 + 32 + 32;
const SLOT: usize = BODY + 16;

const _: () = assert!(SLOT <= 512);

/// The open anchor of a store.
pub(super) struct Anchor {
    file: File,
    seal: Seal,
    /// The slot that the next commit overwrites.
    spare: u64,
    /// Whether the spare slot was written since the last sync.
    dirty: bool,
    /// The last change that was written, and the last one that was synced.
    written: u64,
    synced: u64,
}

impl Anchor {
    /// Creates the file with both slots at `mark` and syncs it; the caller syncs its directory. The file
    /// is renamed to its final name when it is complete: after a power cut, half an anchor would look like
    /// a damaged one. An existing file with that name is replaced.
    pub(super) fn create(path: &Path, mark: &Mark, seal: &Seal) -> io::Result<()> {
        let (dir, name) = Dir::above(path)?;
        let mut unfinished = name.clone();
        unfinished.push(".new");
        // From an earlier attempt. If it cannot be removed, the next line fails.
        let _ = dir.remove_file(&unfinished);
        let file = dir.create_file(&unfinished)?;
        let slot = encode(mark, seal);
        file.write_all_at(&slot, 0)?;
        file.write_all_at(&slot, BLOCK)?;
        file.sync_all()?;
        dir.rename(&unfinished, &name)
    }

    /// Opens the file. Returns it and the newest mark in it.
    pub(super) fn open(path: &Path, seal: &Seal) -> Result<(Self, Mark), Error> {
        let opening = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => Error::damaged(format!(
                "its anchor {} is missing; put that file back",
                path.display()
            )),
            _ => Error::io("opening the anchor", e),
        };
        let file = Dir::above(path).and_then(|(dir, name)| dir.open_file(&name, OFlags::RDWR));
        let file = file.map_err(opening)?;
        let (newest, mark) = [0, 1]
            .into_iter()
            .filter_map(|slot| read(&file, slot, seal).map(|mark| (slot, mark)))
            .max_by_key(|(_, mark)| mark.sequence)
            .ok_or_else(|| Error::damaged("its anchor is not as it was written"))?;
        // The mark that was read may be in the page cache only.
        file.sync_data().map_err(|e| Error::io("syncing the anchor", e))?;
        let anchor = Self {
            file,
            seal: seal.clone(),
            spare: 1 - newest,
            dirty: false,
            written: mark.sequence,
            synced: mark.sequence,
        };
        Ok((anchor, mark))
    }

    /// Reads the two slots; `None` for a damaged slot. Writes nothing.
    pub(super) fn read_slots(path: &Path, seal: &Seal) -> io::Result<[Option<Mark>; 2]> {
        let file = files::open_to_look(path)?;
        Ok([0, 1].map(|slot| read(&file, slot, seal)))
    }

    /// Records that the database is durable at `mark`.
    pub(super) fn write(&mut self, mark: &Mark) -> io::Result<()> {
        self.file.write_all_at(&encode(mark, &self.seal), self.spare * BLOCK)?;
        self.dirty = true;
        self.written = mark.sequence;
        Ok(())
    }

    /// Syncs the last written slot, and swaps the roles of the slots.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.spare = 1 - self.spare;
            self.dirty = false;
            self.synced = self.written;
        }
        Ok(())
    }

    /// The newest change that the anchor is certain to record after a power cut.
    pub(super) fn synced_sequence(&self) -> u64 {
        self.synced
    }
}

fn read(file: &File, slot: u64, seal: &Seal) -> Option<Mark> {
    let mut bytes = [0; SLOT];
    file.read_exact_at(&mut bytes, slot * BLOCK).ok().and_then(|()| decode(&bytes, seal))
}

fn encode(mark: &Mark, seal: &Seal) -> [u8; SLOT] {
    let numbers = [mark.sequence, mark.records, mark.scopes].map(u64::to_le_bytes);
    let body = [MAGIC, &mark.store[..], numbers.as_flattened(), &mark.sum, &mark.head].concat();
    let tag = seal.tag(&[&body]);
    let mut slot = [0; SLOT];
    slot.iter_mut().zip(body.iter().chain(&tag)).for_each(|(to, from)| *to = *from);
    slot
}

fn decode(slot: &[u8; SLOT], seal: &Seal) -> Option<Mark> {
    let (body, tag) = slot.split_last_chunk::<16>()?;
    if seal.tag(&[body]) != *tag {
        return None;
    }
    let rest = body.strip_prefix(MAGIC)?;
    let (store, rest) = rest.split_first_chunk()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let (records, rest) = rest.split_first_chunk()?;
    let (scopes, rest) = rest.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    Some(Mark {
        store: *store,
        sequence: u64::from_le_bytes(*sequence),
        records: u64::from_le_bytes(*records),
        scopes: u64::from_le_bytes(*scopes),
        sum: *sum,
        head: rest.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Seals;

    fn mark(sequence: u64) -> Mark {
        Mark { store: [7; 16], sequence, records: 3, scopes: 13, sum: [1; 32], head: [2; 32] }
    }

    fn fresh() -> (tempfile::TempDir, std::path::PathBuf, Seal) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor");
        let seal = Seals::derive(None).anchor;
        Anchor::create(&path, &mark(0), &seal).unwrap();
        (dir, path, seal)
    }

    #[test]
    fn slot_has_the_documented_bytes() {
        let seal = Seals::derive(None).anchor;
        let slot: String = encode(&mark(0x0102), &seal)
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(
            slot,
            "50434c414e434831 07070707070707070707070707070707 0201000000000000 \
         0300000000000000 0d00000000000000 \
         0101010101010101010101010101010101010101010101010101010101010101 \
         0202020202020202020202020202020202020202020202020202020202020202 \
         b64a08483476c04adbcf6bb8ccb97d8b"
                .replace(' ', "")
        );
    }

    #[test]
    fn newest_mark_is_read_after_reopen() {
        let (_dir, path, seal) = fresh();
        for sequence in 1..=5 {
            let (mut anchor, seen) = Anchor::open(&path, &seal).unwrap();
            assert_eq!(seen, mark(sequence - 1));
            anchor.write(&mark(sequence)).unwrap();
            if sequence % 2 == 0 {
                anchor.sync().unwrap();
            }
        }
    }

    #[test]
    fn torn_write_leaves_the_synced_slot_intact() {
        let (_dir, path, seal) = fresh();
        let (mut anchor, _) = Anchor::open(&path, &seal).unwrap();
        for sequence in 1..=4 {
            anchor.write(&mark(sequence)).unwrap();
            anchor.sync().unwrap();
            // The next write may be torn at any byte.
            let torn = anchor.spare * BLOCK;
            anchor.file.write_all_at(&[0xee; SLOT], torn).unwrap();
            assert_eq!(Anchor::open(&path, &seal).unwrap().1, mark(sequence));
        }
    }

    #[test]
    fn any_flipped_bit_is_detected() {
        let seal = Seals::derive(None).anchor;
        let slot = encode(&mark(9), &seal);
        assert_eq!(decode(&slot, &seal), Some(mark(9)));
        for bit in 0..SLOT * 8 {
            let mut flipped = slot;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped, &seal), None, "{bit}");
        }
    }

    #[test]
    fn anchor_of_another_pepper_is_refused() {
        let (_dir, path, _) = fresh();
        let other = Seals::derive(Some(b"other")).anchor;
        assert!(matches!(Anchor::open(&path, &other), Err(Error::Damaged(_))));
    }
}
