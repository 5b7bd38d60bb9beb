//! Writes a backup from a snapshot of a ledger, and verifies the snapshot at the same time.

use super::{
    format::{Kind, Out, Trailer},
    summary::{Progress, Summary},
};
use crate::{
    codec::{self, DbKey, Mark},
    digest::Seals,
    error::Error,
    id::KeyId,
    ledger::Snapshot,
    time::Timestamp,
};
use std::io::Write;

/// Writes the snapshot. Fails if the snapshot does not match its meta record: such a backup could not
/// be restored. `last_use` returns the minute of a key's last use. It is called for each record and
/// may be newer than the snapshot, since it decides nothing.
pub(crate) fn take(
    mut snapshot: Box<dyn Snapshot + '_>,
    seals: &Seals,
    now: Timestamp,
    last_use: impl Fn(KeyId) -> Option<u32>,
    to: impl Write,
    mut report: impl FnMut(Progress),
) -> Result<Summary, Error> {
    let expected = snapshot.meta().mark;
    let (audit_start, audit_start_frame) = snapshot.audit_start();
    let mut found = expected.before(&audit_start);
    let entries = expected.sequence.saturating_sub(audit_start.through);
    let mut progress = Progress::of(entries + expected.records);
    let mut out = Out::begin(to, &seals.backup)?;
    out.block(Kind::Meta, &[&codec::encode_meta(snapshot.meta(), &seals.meta)?])?;
    if let Some(frame) = audit_start_frame {
        out.block(Kind::AuditStart, &[frame])?;
    }
    for (number, frame) in (0..=u8::MAX).zip(snapshot.scopes()) {
        found.add(codec::frame_hash(frame, DbKey::Scope(number), &seals.frame)?);
        found.scopes += 1;
        out.block(Kind::Scope, &[frame])?;
    }
    while let Some(values) = snapshot.next_values()? {
        for (key, frame) in values {
            match key {
                DbKey::Entry(sequence) if sequence == found.sequence + 1 => {
                    let head = codec::verify_entry(&frame, sequence, &found.head, &seals.audit)?;
                    (found.sequence, found.head) = (sequence, head);
                    out.block(Kind::Entry, &[&frame])?;
                }
                DbKey::Record(digest) => {
                    found.add(codec::frame_hash(&frame, key, &seals.frame)?);
                    found.records += 1;
                    let minute = codec::probable_id(&frame).and_then(&last_use).unwrap_or(0);
                    let minute = minute.to_le_bytes();
                    out.block(Kind::Record, &[digest.as_bytes(), &minute, &frame])?;
                }
                _ => return Err(Error::damaged("its audit log has a gap")),
            }
            progress.done += 1;
        }
        report(progress);
    }
    if found != expected {
        return Err(Error::damaged("it does not hold what its meta record says"));
    }
    let Mark { sequence, records, head, .. } = found;
    let bytes = out.end(&Trailer { sequence, records, head, taken: now })?;
    Ok(Summary { taken: now, sequence, records, bytes })
}
