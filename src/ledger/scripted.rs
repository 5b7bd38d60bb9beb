//! A ledger for tests with scripted outcomes. A commit reports that it has begun, and then waits for the
//! outcome that the test chooses.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]
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

/// A test that chooses no outcome fails instead of hanging.
const TIMEOUT: Duration = Duration::from_secs(20);

type Decide = Box<dyn Fn(&[Commit]) -> CommitOutcome + Send + Sync>;

/// The ledger, which the store owns.
pub(crate) struct Scripted {
    /// Decides the outcome of a commit.
    decide: Decide,
    uses: Sender<Vec<(KeyId, u32)>>,
    uses_fail: Arc<AtomicBool>,
    anchor_syncs: Arc<AtomicUsize>,
    room: Arc<Mutex<Room>>,
}

/// The controls of a store whose commits wait for an outcome.
#[derive(Debug)]
pub struct Script {
    began: Receiver<usize>,
    outcomes: Sender<CommitOutcome>,
    uses: Receiver<Vec<(KeyId, u32)>>,
    uses_fail: Arc<AtomicBool>,
    anchor_syncs: Arc<AtomicUsize>,
    room: Arc<Mutex<Room>>,
}

impl Scripted {
    pub(crate) fn new() -> (Self, Script) {
        let ((begin, batches), (outcomes, chosen), (uses, written)) =
            (channel(), channel(), channel());
        let uses_fail = Arc::new(AtomicBool::new(false));
        let anchor_syncs = Arc::new(AtomicUsize::new(0));
        let room = Arc::new(Mutex::new(Room::Enough));
        let script = Script {
            began: batches,
            outcomes,
            uses: written,
            uses_fail: Arc::clone(&uses_fail),
            anchor_syncs: Arc::clone(&anchor_syncs),
            room: Arc::clone(&room),
        };
        let chosen = Mutex::new(chosen);
        let decide = Box::new(move |batch: &[Commit]| {
            begin.send(batch.len()).unwrap();
            chosen.lock().unwrap().recv_timeout(TIMEOUT).unwrap()
        });
        (Self { decide, uses, uses_fail, anchor_syncs, room }, script)
    }

    /// Creates a ledger whose commits succeed if `is_durable` returns true, for the models.
    #[cfg(shuttle)]
    pub(crate) fn by(is_durable: impl Fn(&[Commit]) -> bool + Send + Sync + 'static) -> Self {
        let decide = Box::new(move |batch: &[Commit]| outcome(is_durable(batch)));
        Self { decide, ..Self::new().0 }
    }
}

impl Ledger for Scripted {
    fn commit(&self, batch: Vec<Commit>) -> CommitOutcome {
        (self.decide)(&batch)
    }

    fn write_uses(&self, uses: &[(KeyId, u32)]) -> Result<(), Error> {
        if self.uses_fail.load(Ordering::SeqCst) {
            return Err(Error::io("writing a change", io::Error::other("scripted")));
        }
        // A test that does not read the uses has dropped the receiver.
        let _ = self.uses.send(uses.to_vec());
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

/// The outcome of a commit to a working or failing disk.
fn outcome(durable: bool) -> CommitOutcome {
    if durable { CommitOutcome::Durable } else { CommitOutcome::Unknown("scripted".into()) }
}

impl Script {
    /// Waits until a commit has begun, and returns the number of its changes.
    ///
    /// # Panics
    /// If no commit begins within twenty seconds.
    pub fn begun(&self) -> usize {
        self.began.recv_timeout(TIMEOUT).unwrap()
    }

    /// Lets the next commit succeed or fail.
    ///
    /// # Panics
    /// If the store is gone.
    pub fn verdict(&self, durable: bool) {
        self.answer(outcome(durable));
    }

    /// Sets the outcome of the next commit.
    pub(crate) fn answer(&self, outcome: CommitOutcome) {
        self.outcomes.send(outcome).unwrap();
    }

    /// Waits for the next batch of last uses, and returns it.
    pub(crate) fn noted(&self) -> Vec<(KeyId, u32)> {
        self.uses.recv_timeout(TIMEOUT).unwrap()
    }

    /// Makes all later writes of last uses fail.
    pub(crate) fn fail_uses(&self) {
        self.uses_fail.store(true, Ordering::SeqCst);
    }

    /// Fills the disk up to the reserve.
    ///
    /// # Panics
    /// If another thread panicked in a call of this script.
    pub fn fill_disk(&self) {
        self.set_room(Room::Reserve);
    }

    /// Sets the state of the disk.
    pub(crate) fn set_room(&self, room: Room) {
        *self.room.lock().unwrap() = room;
    }

    /// Returns how often the anchor was synced.
    pub(crate) fn anchor_syncs(&self) -> usize {
        self.anchor_syncs.load(Ordering::SeqCst)
    }
}
