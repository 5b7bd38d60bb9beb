//! The store in the engine at one moment: what vouches for it, and all that it holds, in strides.

use super::{
    bootstrap,
    consensus::{ConsensusError, ConsensusStore, Latest, RecordPage, Revision},
    handle::Handle,
};
use crate::{
    codec::{self, AuditStart, Mark, Meta, Place},
    digest::{Digest, Seals},
    error::Error,
    ledger::{Reading, Stretch, Stride},
};
use std::path::Path;

/// Entries of the trail that are read at once.
pub(super) const ENTRIES: usize = 1000;

/// A moment.
pub(crate) struct Moment {
    pub(super) at: Revision,
    pub(super) meta: Meta,
    pub(super) floor: (AuditStart, Option<Vec<u8>>),
}

/// The newest one, as the engine has it.
pub(super) async fn moment<C: ConsensusStore>(
    consensus: &C,
) -> Result<(Latest, Option<Vec<u8>>), ConsensusError> {
    let newest = consensus.latest().await?;
    let floor = consensus.audit_start(newest.revision).await?;
    Ok((newest, floor))
}

impl Moment {
    /// What was found, if it is intact.
    pub(super) fn of(
        (newest, floor): (Latest, Option<Vec<u8>>),
        seals: &Seals,
    ) -> Result<Self, Error> {
        let Latest { revision: at, epoch } = newest;
        let epoch = epoch.ok_or_else(|| Error::NotFound(Path::new("etcd").into()))?;
        let (meta, _) = codec::decode_epoch(&epoch.value, &seals.meta, seals.pepper_check)?;
        Ok(Self { at, meta, floor: bootstrap::decode_audit_start(floor, seals)? })
    }

    /// What it holds before anything of it was read.
    pub(super) fn nothing(&self) -> Mark {
        let AuditStart { through, head, .. } = self.floor.0;
        Mark { sequence: through, records: 0, scopes: 0, sum: [0; 32], head, ..self.meta.mark }
    }
}

impl Handle {
    /// The newest moment.
    pub(super) fn moment(&self) -> Result<Moment, Error> {
        Moment::of(self.read_moment()?, &self.seals)
    }

    /// A stretch of the trail after `after`.
    pub(super) fn stretch_of(
        &self,
        Moment { at, meta, floor: (floor, _) }: Moment,
        after: u64,
        limit: usize,
    ) -> Result<Stretch, Error> {
        let mark = meta.mark;
        let after = after.max(floor.through).min(mark.sequence);
        // The entry before comes along for its head, unless it was cut away.
        let before = usize::from(after > floor.through);
        let most = limit.saturating_add(before);
        let frames = self.read_trail(at, after - before as u64, most)?;
        let mut frames = frames.into_iter();
        let previous = match (before, frames.as_slice()) {
            (0, _) => floor.head,
            (_, [(sequence, frame), ..]) if *sequence == after => {
                let head = codec::entry_head(frame, *sequence)?;
                frames.next();
                head
            }
            _ => return Err(missing(after)),
        };
        let frames = frames.filter(|(sequence, _)| *sequence <= mark.sequence).collect();
        Ok(Stretch { after, previous, frames, mark })
    }

    /// All of a moment.
    pub(super) fn reading(&self) -> Result<Whole<'_>, Error> {
        // What tells of last uses is asked of the index.
        self.learn_uses()?;
        let moment = self.moment()?;
        let scopes = self.read_names(moment.at)?;
        let entries = moment.floor.0.through;
        Ok(Whole { handle: self, moment, scopes, entries, record: None, is_over: false })
    }
}

pub(super) fn missing(sequence: u64) -> Error {
    Error::damaged(format!("entry {sequence} of the audit trail is missing"))
}

/// A moment that is being read. The engine keeps it: what is changed or cut away meanwhile is still
/// there at its revision.
pub(super) struct Whole<'h> {
    handle: &'h Handle,
    moment: Moment,
    scopes: Vec<Vec<u8>>,
    /// The trail was read up to here, and the records up to there.
    entries: u64,
    record: Option<[u8; 32]>,
    is_over: bool,
}

impl Reading for Whole<'_> {
    fn meta(&self) -> &Meta {
        &self.moment.meta
    }

    fn floor(&self) -> (AuditStart, Option<&[u8]>) {
        let (floor, frame) = &self.moment.floor;
        (*floor, frame.as_deref())
    }

    fn scopes(&self) -> &[Vec<u8>] {
        &self.scopes
    }

    fn stride(&mut self) -> Result<Option<Stride>, Error> {
        let (at, last) = (self.moment.at, self.moment.meta.mark.sequence);
        let left = last.saturating_sub(self.entries);
        if left > 0 {
            let most = usize::try_from(left).unwrap_or(ENTRIES).min(ENTRIES);
            let entries = self.handle.read_trail(at, self.entries, most)?;
            if entries.is_empty() {
                return Err(missing(self.entries + 1));
            }
            self.entries = entries.last().map_or(last, |(sequence, _)| *sequence);
            let placed = entries.into_iter().map(|(n, frame)| (Place::Entry(n), frame));
            return Ok(Some(placed.collect()));
        }
        if self.is_over {
            return Ok(None);
        }
        let RecordPage { records, is_last } = self.handle.read_records(at, self.record)?;
        self.record = records.last().map(|(digest, _)| *digest).or(self.record);
        self.is_over = is_last;
        let placed = records
            .into_iter()
            .map(|(digest, frame)| (Place::Record(Digest::from_bytes(digest)), frame));
        Ok(Some(placed.collect()))
    }
}
