//! The store's handle to its replica: what it asks, and waits for.

pub(crate) use super::seat::Handle;
use super::{
    consensus::{Latest, RecordPage, Revision},
    moment::missing,
    seat::{Ask, Frames, To, stopped},
};
use crate::{
    audit::AuditEntry,
    codec::{self, AuditStart},
    error::Error,
    id::KeyId,
    ledger::{
        Commit, Reading, Stretch,
        shared::{Following, Member, Onlooker, Settled, Shared, Verdict},
    },
    scope::Catalogue,
    time::Timestamp,
};
use std::{
    sync::{
        PoisonError,
        atomic::Ordering::Relaxed,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Instant,
};

impl Handle {
    fn ask<T>(&self, ask: impl FnOnce(SyncSender<T>) -> Ask) -> Option<T> {
        let (to, from) = sync_channel(1);
        self.asks.send(ask(to)).ok()?;
        from.recv().ok()
    }

    fn try_ask<T>(&self, ask: impl FnOnce(To<T>) -> Ask) -> Result<T, Error> {
        self.ask(ask).unwrap_or_else(|| Err(stopped()))
    }

    pub(super) fn read_moment(&self) -> Result<(Latest, Option<Vec<u8>>), Error> {
        self.try_ask(Ask::Moment)
    }

    pub(super) fn read_names(&self, at: Revision) -> Result<Vec<Vec<u8>>, Error> {
        self.try_ask(|to| Ask::Names(at, to))
    }

    pub(super) fn read_trail(
        &self,
        at: Revision,
        after: u64,
        limit: usize,
    ) -> Result<Frames, Error> {
        self.try_ask(|to| Ask::Trail(at, after, limit, to))
    }

    pub(super) fn read_records(
        &self,
        at: Revision,
        after: Option<[u8; 32]>,
    ) -> Result<RecordPage, Error> {
        self.try_ask(|to| Ask::Records(at, after, to))
    }

    pub(super) fn learn_uses(&self) -> Result<(), Error> {
        self.try_ask(Ask::LearnUses)
    }

    /// Where the trail begins by what is applied here, and the frame of that.
    fn applied_floor(&self) -> (AuditStart, Option<Vec<u8>>) {
        let position = self.shared.position.get();
        position.map(|position| position.current().floor.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
thread_local! {
    /// What a test does just before this thread next asks whether there is anything newer.
    pub(crate) static BEFORE_WITNESS: std::cell::Cell<Option<Box<dyn FnOnce()>>> = const { std::cell::Cell::new(None) };
}

impl Shared for Handle {
    fn commit(&self, batch: Vec<Commit>) -> Verdict {
        let verdict = self.ask(|to| Ask::Commit(batch, to));
        verdict.unwrap_or_else(|| Verdict::Unknown(stopped().to_string().into()))
    }

    fn settle(&self) -> Settled {
        let start = Instant::now();
        let settled = self.ask(Ask::Settle).unwrap_or_default();
        if let Some(onlooker) = self.shared.onlooker.get() {
            onlooker(start.elapsed(), settled);
        }
        settled
    }

    fn witness(&self) -> Verdict {
        #[cfg(test)]
        if let Some(first) = BEFORE_WITNESS.take() {
            first();
        }
        let verdict = self.ask(Ask::Witness);
        verdict.unwrap_or_else(|| Verdict::Unknown(stopped().to_string().into()))
    }

    fn trail(
        &self,
        after: u64,
        limit: usize,
        catalogue: &'static Catalogue,
    ) -> Result<Vec<AuditEntry>, Error> {
        let moment = self.moment()?;
        if after > moment.meta.mark.sequence {
            return Ok(Vec::new());
        }
        let Stretch { after, mut previous, frames, .. } = self.stretch_of(moment, after, limit)?;
        let mut entries = Vec::new();
        for ((sequence, frame), expected) in frames.into_iter().zip(after + 1..) {
            if sequence != expected {
                return Err(missing(expected));
            }
            let seal = &self.seals.trail;
            let entry = codec::decode_entry(&frame, sequence, &previous, seal, catalogue)?;
            entries.push(entry.0);
            previous = entry.1;
        }
        Ok(entries)
    }

    fn stretch(&self, after: u64, limit: usize) -> Result<Stretch, Error> {
        self.stretch_of(self.moment()?, after, limit)
    }

    fn snapshot(&self) -> Result<Box<dyn Reading + '_>, Error> {
        Ok(Box::new(self.reading()?))
    }

    fn floor(&self) -> AuditStart {
        self.applied_floor().0
    }

    fn place_of_cut(
        &self,
        before: Timestamp,
        catalogue: &'static Catalogue,
    ) -> Result<Option<(u64, [u8; 32])>, Error> {
        let moment = self.moment()?;
        let floor = moment.floor.0.through;
        let (mut start, mut end) = (floor, moment.meta.mark.sequence);
        let entry = |number: u64| {
            let found = self.read_trail(moment.at, number - 1, 1)?;
            found.into_iter().find(|(n, _)| *n == number).ok_or_else(|| missing(number))
        };
        // Times never fall along the trail.
        while start < end {
            let middle = start + (end - start).div_ceil(2);
            let decoded = codec::decode_entry_unchecked(&entry(middle)?.1, middle, catalogue);
            let what = || format!("entry {middle} of the audit trail is not as it was written");
            if decoded.ok_or_else(|| Error::damaged(what()))?.at < before {
                start = middle;
            } else {
                end = middle - 1;
            }
        }
        if start == floor {
            return Ok(None);
        }
        Ok(Some((start, codec::entry_head(&entry(start)?.1, start)?)))
    }

    fn sweep(&self) -> bool {
        let (AuditStart { through, .. }, Some(frame)) = self.applied_floor() else { return false };
        if through <= self.shared.swept.load(Relaxed) {
            return false;
        }
        match self.try_ask(|to| Ask::Sweep(through, frame, to)) {
            Ok(true) => true,
            Ok(false) => {
                self.shared.swept.store(through, Relaxed);
                false
            }
            Err(_) => false,
        }
    }

    fn note_uses(&self, uses: Vec<(KeyId, u32)>) -> Result<(), Error> {
        self.try_ask(|to| Ask::Uses(uses, to))
    }

    fn members(&self) -> Result<Vec<Member>, Error> {
        self.try_ask(Ask::Members)
    }

    fn following(&self) -> Following {
        self.shared.position.get().map(|position| position.following()).unwrap_or_default()
    }

    fn tell_waits(&self, onlooker: Onlooker) {
        let _ = self.shared.onlooker.set(onlooker);
    }

    fn trouble(&self) -> Option<Box<str>> {
        let trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leave(&self) {
        self.leave.send_replace(true);
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}
