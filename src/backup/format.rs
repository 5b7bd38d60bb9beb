//! The bytes of a backup: a stream of blocks, and a hash over all of them at its end.
//!
//! A block is its kind, its length as a little-endian u32, and its payload. The trailer ends in a
//! keyed hash of every byte before that hash. So nothing in the stream can be altered, removed, added
//! or moved unnoticed, and a stream without a trailer is not a backup.

use crate::{
    codec::MAX_VALUE,
    digest::{Running, Seal},
    error::Error,
    time::Timestamp,
};
use std::io::{self, BufReader, BufWriter, Read, Write};

pub(super) const MAGIC: &[u8; 7] = b"PCLBKUP";
/// The format that this version writes, and the newest that it reads.
const VERSION: u8 = 1;
/// The longest payload: a record with its digest and last use.
const LONGEST_PAYLOAD: usize = 32 + 4 + MAX_VALUE;
const BUFFER: usize = 64 << 10;

/// The length of the last block.
pub(super) const END: usize = 1 + 4 + Trailer::LEN;

/// The content of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The meta record; the first block.
    Meta,
    /// The audit start; only if the audit log was pruned.
    AuditStart,
    /// A scope name, in the order of their numbers.
    Scope,
    /// An entry of the audit log, oldest first.
    Entry,
    /// A digest, the minute of the key's last use and the record; digests ascend.
    Record,
    /// The trailer; the last block.
    Trailer,
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Self::Meta => b'm',
            Self::AuditStart => b'f',
            Self::Scope => b's',
            Self::Entry => b'a',
            Self::Record => b'k',
            Self::Trailer => b't',
        }
    }

    fn of(letter: u8) -> Option<Self> {
        [Self::Meta, Self::AuditStart, Self::Scope, Self::Entry, Self::Record, Self::Trailer]
            .into_iter()
            .find(|kind| kind.letter() == letter)
    }
}

const _: () = assert!(Trailer::LEN == Trailer::LEN_U32 as usize);

/// The content of the last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) sequence: u64,
    pub(super) records: u64,
    pub(super) head: [u8; 32],
    pub(super) taken: Timestamp,
}

impl Trailer {
    const FIELDS: usize = 8 + 8 + 32 + 8;
    const LEN: usize = Self::FIELDS + 32;
    const LEN_U32: u32 = 88;

    fn encode(&self) -> Vec<u8> {
        [
            &self.sequence.to_le_bytes()[..],
            &self.records.to_le_bytes(),
            &self.head,
            &self.taken.as_millis().to_le_bytes(),
        ]
        .concat()
    }

    /// Reads the trailer at the end of a backup without verifying its hash.
    pub(super) fn at_end(end: &[u8]) -> Option<Self> {
        let (head, rest) = end.split_first_chunk::<5>()?;
        let is_one = head == b"t\x58\0\0\0" && rest.len() == Self::LEN;
        if is_one { Self::decode(rest) } else { None }
    }

    fn decode(fields: &[u8]) -> Option<Self> {
        let (sequence, rest) = fields.split_first_chunk()?;
        let (records, rest) = rest.split_first_chunk()?;
        let (head, rest) = rest.split_first_chunk()?;
        Some(Self {
            sequence: u64::from_le_bytes(*sequence),
            records: u64::from_le_bytes(*records),
            head: *head,
            taken: Timestamp::from_millis(u64::from_le_bytes(*rest.first_chunk()?)),
        })
    }
}

/// Writes the blocks of a backup.
pub(super) struct Out<W: Write> {
    to: BufWriter<W>,
    hash: Running,
    pub(super) bytes: u64,
}

impl<W: Write> Out<W> {
    pub(super) fn begin(to: W, seal: &Seal) -> Result<Self, Error> {
        let to = BufWriter::with_capacity(BUFFER, to);
        let mut out = Self { to, hash: seal.running(), bytes: 0 };
        out.write(MAGIC)?;
        out.write(&[VERSION])?;
        Ok(out)
    }

    pub(super) fn block(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<(), Error> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length =
            u32::try_from(length).ok().filter(|length| *length as usize <= LONGEST_PAYLOAD);
        let length = length.ok_or_else(|| Error::damaged("a value is too long"))?;
        self.begin_block(kind, length)?;
        parts.iter().try_for_each(|part| self.write(part))
    }

    pub(super) fn end(mut self, trailer: &Trailer) -> Result<u64, Error> {
        self.begin_block(Kind::Trailer, Trailer::LEN_U32)?;
        self.write(&trailer.encode())?;
        let hash = self.hash.hash();
        self.write(&hash)?;
        self.to.flush().map_err(|e| Error::io(WRITING, e))?;
        Ok(self.bytes)
    }

    fn begin_block(&mut self, kind: Kind, length: u32) -> Result<(), Error> {
        self.write(&[kind.letter()])?;
        self.write(&length.to_le_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.to.write_all(bytes).map_err(|e| Error::io(WRITING, e))
    }
}

const WRITING: &str = "writing the backup";

/// Reads the blocks of a backup.
pub(super) struct In<R: Read> {
    from: BufReader<R>,
    hash: Running,
    pub(super) bytes: u64,
}

impl<R: Read> In<R> {
    pub(super) fn begin(from: R, seal: &Seal) -> Result<Self, Error> {
        let from = BufReader::with_capacity(BUFFER, from);
        let mut input = Self { from, hash: seal.running(), bytes: 0 };
        let mut magic = [0; MAGIC.len() + 1];
        input.read(&mut magic)?;
        match magic.split_last() {
            Some((&VERSION, name)) if name == MAGIC => Ok(input),
            Some((&found, name)) if name == MAGIC && found > VERSION => {
                Err(Error::NewerFormat { found: found.into(), known: VERSION.into() })
            }
            _ => Err(Error::bad_backup("it does not begin as a backup does")),
        }
    }

    /// Returns the next block. The trailer is returned only if its hash matches and nothing follows.
    pub(super) fn block(&mut self) -> Result<Block, Error> {
        let mut head = [0; 5];
        self.read(&mut head)?;
        let [letter, length @ ..] = head;
        let kind = Kind::of(letter).ok_or_else(|| Error::bad_backup("it has an unknown part"))?;
        let length = u32::from_le_bytes(length) as usize;
        if kind == Kind::Trailer {
            return self.trailer(length).map(Block::Trailer);
        }
        if length > LONGEST_PAYLOAD {
            return Err(Error::bad_backup("a part is longer than any that was written"));
        }
        let mut payload = vec![0; length];
        self.read(&mut payload)?;
        Ok(Block::Value(kind, payload))
    }

    fn trailer(&mut self, length: usize) -> Result<Trailer, Error> {
        let wrong = || Error::bad_backup("it is not as it was written");
        if length != Trailer::LEN {
            return Err(wrong());
        }
        let (mut fields, mut hash) = ([0; Trailer::FIELDS], [0; 32]);
        self.read(&mut fields)?;
        let expected = self.hash.hash();
        self.read(&mut hash)?;
        if hash != expected {
            return Err(wrong());
        }
        match self.from.read(&mut [0]).map_err(|e| Error::io(READING, e))? {
            0 => Trailer::decode(&fields).ok_or_else(wrong),
            _ => Err(Error::bad_backup("something follows its end")),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.from.read_exact(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Error::bad_backup("its end is missing"),
            _ => Error::io(READING, e),
        })?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

const READING: &str = "reading the backup";

/// A block of a backup.
pub(super) enum Block {
    Value(Kind, Vec<u8>),
    Trailer(Trailer),
}
