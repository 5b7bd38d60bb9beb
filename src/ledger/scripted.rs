//! A ledger for tests, which does as it is told: as a rule each commit says that it began, and
//! waits for its verdict.

#![expect(clippy::unwrap_used, reason = "for tests: a script that breaks fails one")]
#![cfg_attr(not(test), expect(dead_code, reason = "the library's own tests use all of it"))]

use super::{Commit, CommitOutcome, DiskSpace, Ledger, Room};
use crate::{error::Error, id::KeyId};
use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

/// A test that forgets a verdict fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

type Verdict = Box<dyn Fn(&[Commit]) -> CommitOutcome + Send + Sync>;

/// The ledger's side.
pub(crate) struct Scripted {
    /// Decides what becomes of a commit.
    verdict: Verdict,
    noted: Sender<Vec<(KeyId, u32)>>,
    is_out_of_order: Arc<AtomicBool>,
    anchor_syncs: Arc<AtomicUsize>,
    room: Arc<Mutex<Room>>,
}

/// The test's side of a store whose commits wait for a verdict.
pub struct Script {
    began: Receiver<usize>,
    verdicts: Sender<CommitOutcome>,
    noted: Receiver<Vec<(KeyId, u32)>>,
    is_out_of_order: Arc<AtomicBool>,
    anchor_syncs: Arc<AtomicUsize>,
    room: Arc<Mutex<Room>>,
}

impl Scripted {
    pub(crate) fn new() -> (Self, Script) {
        let ((began, seen), (verdicts, asked), (noted, told)) = (channel(), channel(), channel());
        let is_out_of_order = Arc::new(AtomicBool::new(false));
        let anchor_syncs = Arc::new(AtomicUsize::new(0));
        let room = Arc::new(Mutex::new(Room::Enough));
        let script = Script {
            began: seen,
            verdicts,
            noted: told,
            is_out_of_order: Arc::clone(&is_out_of_order),
            anchor_syncs: Arc::clone(&anchor_syncs),
            room: Arc::clone(&room),
        };
        let asked = Mutex::new(asked);
        let verdict = Box::new(move |batch: &[Commit]| {
            began.send(batch.len()).unwrap();
            asked.lock().unwrap().recv_timeout(PATIENCE).unwrap()
        });
        (Self { verdict, noted, is_out_of_order, anchor_syncs, room }, script)
    }

    /// One whose verdicts are given here, for the models.
    #[cfg(shuttle)]
    pub(crate) fn by(verdict: impl Fn(&[Commit]) -> bool + Send + Sync + 'static) -> Self {
        let verdict = Box::new(move |batch: &[Commit]| outcome(verdict(batch)));
        Self { verdict, ..Self::new().0 }
    }
}

impl Ledger for Scripted {
    fn commit(&self, batch: Vec<Commit>) -> CommitOutcome {
        (self.verdict)(&batch)
    }

    fn write_uses(&self, uses: &[(KeyId, u32)]) -> Result<(), Error> {
        if self.is_out_of_order.load(Ordering::SeqCst) {
            return Err(Error::io("writing a change", io::Error::other("scripted")));
        }
        // A test that does not read the uses has dropped its end.
        let _ = self.noted.send(uses.to_vec());
        Ok(())
    }

    fn room(&self) -> Room {
        *self.room.lock().unwrap()
    }

    fn disk_space(&self) -> Option<DiskSpace> {
        let is_full = self.room() != Room::Enough;
        Some(DiskSpace {
            free: if is_full { 300 << 10 } else { 1 << 30 },
            reserve_held: 8 << 20,
            reserve_wanted: 9 << 20,
            can_reserve: true,
            is_low: is_full,
            is_reserve_in_use: is_full,
        })
    }

    fn sync_anchor(&self) -> Result<(), Error> {
        self.anchor_syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// The outcome of a commit to a disk that works or fails.
fn outcome(durable: bool) -> CommitOutcome {
    if durable { CommitOutcome::Durable } else { CommitOutcome::Unknown("scripted".into()) }
}

impl Script {
    /// Waits until a commit has begun; gives the number of its changes.
    ///
    /// # Panics
    /// After twenty seconds without one.
    pub fn begun(&self) -> usize {
        self.began.recv_timeout(PATIENCE).unwrap()
    }

    /// Lets the next commit succeed or fail.
    ///
    /// # Panics
    /// If the store is gone.
    pub fn verdict(&self, durable: bool) {
        self.answer(outcome(durable));
    }

    /// Answers the next commit.
    pub(crate) fn answer(&self, outcome: CommitOutcome) {
        self.verdicts.send(outcome).unwrap();
    }

    /// Waits for the next part of a round of uses.
    pub(crate) fn noted(&self) -> Vec<(KeyId, u32)> {
        self.noted.recv_timeout(PATIENCE).unwrap()
    }

    /// From now on no use can be written.
    pub(crate) fn fail_uses(&self) {
        self.is_out_of_order.store(true, Ordering::SeqCst);
    }

    /// From now on the disk has no room but the reserve.
    ///
    /// # Panics
    /// If a test panicked within a call of this script.
    pub fn fill_disk(&self) {
        self.set_room(Room::Reserve);
    }

    /// From now on there is so much room.
    pub(crate) fn set_room(&self, room: Room) {
        *self.room.lock().unwrap() = room;
    }

    /// How often the anchor was synced.
    pub(crate) fn anchor_syncs(&self) -> usize {
        self.anchor_syncs.load(Ordering::SeqCst)
    }
}
