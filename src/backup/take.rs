//! Taking a backup of a moment of a ledger, which it checks on the way.

use super::{
    Progress, Summary,
    format::{Kind, Out, Trailer},
};
use crate::{
    codec::{self, Mark, Place},
    digest::Seals,
    error::Error,
    id::KeyId,
    ledger::Snapshot,
    time::Timestamp,
};
use std::io::Write;

/// Writes the snapshot. What its meta record does not vouch for ends it: a backup that cannot be
/// restored is worse than none. When a key was last used, in minutes, is asked as its record comes:
/// it decides nothing, and so it need not be of that one moment.
pub(crate) fn take(
    mut snapshot: Box<dyn Snapshot + '_>,
    seals: &Seals,
    now: Timestamp,
    last_use: impl Fn(KeyId) -> Option<u32>,
    to: impl Write,
    mut progress: impl FnMut(Progress),
) -> Result<Summary, Error> {
    let expected = snapshot.meta().mark;
    let (floor, floor_frame) = snapshot.audit_start();
    let (sequence, head) = (floor.through, floor.head);
    let mut found = Mark { sequence, head, records: 0, scopes: 0, sum: [0; 32], ..expected };
    let mut done =
        Progress { done: 0, all: expected.sequence.saturating_sub(sequence) + expected.records };
    let mut out = Out::begin(to, &seals.backup)?;
    out.block(Kind::Meta, &[&codec::encode_meta(snapshot.meta(), &seals.meta)?])?;
    if let Some(frame) = floor_frame {
        out.block(Kind::AuditStart, &[frame])?;
    }
    for (number, frame) in (0..=u8::MAX).zip(snapshot.scopes()) {
        found.add(codec::frame_hash(frame, Place::Scope(number), &seals.frame)?);
        found.scopes += 1;
        out.block(Kind::Scope, &[frame])?;
    }
    while let Some(values) = snapshot.next_values()? {
        for (place, frame) in values {
            match place {
                Place::Entry(sequence) if sequence == found.sequence + 1 => {
                    let head = codec::follow(&frame, sequence, &found.head, &seals.trail)?;
                    (found.sequence, found.head) = (sequence, head);
                    out.block(Kind::Entry, &[&frame])?;
                }
                Place::Record(digest) => {
                    found.add(codec::frame_hash(&frame, place, &seals.frame)?);
                    found.records += 1;
                    let minute = codec::probable_id(&frame).and_then(&last_use).unwrap_or(0);
                    let minute = minute.to_le_bytes();
                    out.block(Kind::Record, &[digest.as_bytes(), &minute, &frame])?;
                }
                _ => return Err(Error::damaged("its audit trail has a gap")),
            }
            done.done += 1;
        }
        progress(done);
    }
    if found != expected {
        return Err(Error::damaged("it does not hold what its meta record says"));
    }
    let Mark { sequence, records, head, .. } = found;
    let bytes = out.end(&Trailer { sequence, records, head, taken: now })?;
    Ok(Summary { taken: now, sequence, records, bytes })
}
