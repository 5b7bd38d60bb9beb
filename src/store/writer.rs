//! The writer: changes are planned one at a time, made durable in groups, and then applied.
//!
//! Planning holds a mutex and touches no disk. The thread takes all that is queued, commits it as
//! one transaction, applies it to the index, and wakes whoever waits; meanwhile the next group
//! gathers. After a failed commit nothing more is written: its outcome is unknown, so what it
//! denied stays denied and what it allowed stays unseen.

mod life;
mod refusals;
mod room;
mod waiting;

#[cfg(feature = "cluster")]
use super::common::Common;
use super::{
    once::{self, Remembered},
    refused::Refusals,
};
use crate::{
    audit::{Act, AuditEntry, Once},
    clock::Clock,
    codec::{self, Place},
    digest::{Digest, Seals},
    error::Error,
    gate::Gate,
    id::KeyId,
    index::Index,
    ledger::{Commit, Ledger, Put, Tip},
    record::{Actor, Change, Record, Standing},
    scope::Catalogue,
    sync::waiting::{
        Condvar, Mutex, MutexGuard,
        thread::{self, JoinHandle},
    },
};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// The shared state, and the thread that writes.
pub(super) struct Writer {
    core: Arc<Core>,
    thread: Option<JoinHandle<()>>,
}

/// What a store is made of.
pub(super) struct Core {
    pub(super) gate: Gate,
    pub(super) index: Index,
    pub(super) ledger: Ledger,
    pub(super) clock: Clock,
    pub(super) seals: Arc<Seals>,
    catalogue: RwLock<&'static Catalogue>,
    pub(super) plans: Mutex<Plans>,
    /// Refused acts that are counted. Nobody who holds this takes the writers' mutex.
    refusals: Mutex<Refusals>,
    /// There is something to write, or nothing ever again.
    wake: Condvar,
    /// A batch was committed, or failed. The batches take turns, so that nobody is woken whose change
    /// is still queued.
    settled: [Condvar; 2],
    /// All that was cut from the trail is gone, or will not be.
    swept: Condvar,
}

/// What was planned and is not committed yet.
pub(super) struct Plans {
    /// The sequence and chain head after all that is queued.
    pub(super) tip: Tip,
    /// Active root keys without an end after all that is queued.
    pub(super) lasting_roots: usize,
    /// The planned state of keys with a change in the queue or on its way; `None`: deleted.
    pub(super) pending: HashMap<KeyId, (u64, Option<Arc<Record>>, Digest)>,
    pub(super) requests: Remembered,
    /// The last entry that is cut away after all that is queued.
    pub(super) floor: u64,
    /// Whether there may be entries below the floor still.
    pub(super) sweeping: bool,
    pub(super) queue: Vec<Queued>,
    /// How many batches were taken from the queue, and the last change of the last one.
    batches: usize,
    taken: u64,
    /// How many in the queue wake the thread; `None` while it is awake.
    awaited: Option<usize>,
    /// How many were written or waited when the last batch was done.
    crowd: usize,
    pub(super) committed: u64,
    failure: Option<Box<str>>,
    /// Denials that are in the index and not on disk, since the disk's reserve was used up.
    unwritten: Vec<(KeyId, Standing)>,
    closing: bool,
    /// What a ledger that others write to makes of it.
    #[cfg(feature = "cluster")]
    pub(super) common: Common,
}

pub(super) struct Queued {
    pub(super) commit: Commit,
    pub(super) changes: Vec<KeyChange>,
}

/// The new state of one key.
pub(super) struct KeyChange {
    pub(super) id: KeyId,
    pub(super) digest: Digest,
    /// `None` deletes it.
    pub(super) after: Option<Arc<Record>>,
}

/// What goes into the trail about a change.
#[derive(Clone)]
pub(super) struct Note {
    pub(super) actor: Actor,
    pub(super) source: Option<IpAddr>,
    pub(super) act: Act,
    pub(super) key: Option<KeyId>,
    pub(super) before: Change,
    pub(super) after: Change,
    pub(super) once: Option<Once>,
}

impl Writer {
    pub(super) fn start(
        ledger: Ledger,
        index: Index,
        seals: Arc<Seals>,
        catalogue: &'static Catalogue,
        tip: Tip,
        uses_every: Duration,
    ) -> Result<Self, Error> {
        let clock = Clock::new(tip.newest);
        index.tick(clock.now());
        let trail = |after, limit| ledger.trail(after, limit, catalogue);
        let all = (ledger.floor().through, tip.sequence);
        let requests = once::requests_in(trail, all, clock.now(), once::MOST_UNLINKED)?;
        let requests = Remembered::of(&requests);
        let plans = Plans {
            lasting_roots: index.lasting_roots(),
            floor: ledger.floor().through,
            ..Plans::new(tip, requests)
        };
        let core =
            Core::new(Gate::always_open(), (ledger, index), (clock, seals), catalogue, plans);
        Self::begin(Arc::new(core), uses_every)
    }

    /// Starts the thread.
    pub(super) fn begin(core: Arc<Core>, uses_every: Duration) -> Result<Self, Error> {
        let thread = thread::Builder::new().name("portcullis-writer".into()).spawn({
            let core = Arc::clone(&core);
            move || core.run(uses_every)
        });
        Ok(Self {
            core,
            thread: Some(thread.map_err(|e| Error::io("starting the writer thread", e))?),
        })
    }
}

impl std::ops::Deref for Writer {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Drop for Writer {
    /// Everything that is queued is written, and the anchor synced, before the store is closed.
    fn drop(&mut self) {
        self.plan().closing = true;
        self.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in it was contained and reported to whoever waited.
            let _ = thread.join();
        }
        #[cfg(feature = "cluster")]
        if let Some(shared) = self.ledger.shared() {
            shared.leave();
        }
    }
}

impl Plans {
    pub(super) fn new(tip: Tip, requests: Remembered) -> Self {
        Self {
            tip,
            lasting_roots: 0,
            pending: HashMap::new(),
            requests,
            floor: 0,
            sweeping: true,
            queue: Vec::new(),
            batches: 0,
            taken: tip.sequence,
            awaited: None,
            crowd: 0,
            committed: tip.sequence,
            failure: None,
            unwritten: Vec::new(),
            closing: false,
            #[cfg(feature = "cluster")]
            common: Common::default(),
        }
    }

    /// The number that the next change will have.
    pub(super) fn next_sequence(&self) -> u64 {
        self.tip.sequence + 1
    }

    /// Whether a change may still be written.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        self.failure.clone().map_or(Ok(()), |failure| Err(Error::Poisoned(failure)))
    }

    /// The last change on its way for this key, or 0.
    pub(super) fn pending_sequence(&self, id: KeyId) -> u64 {
        self.pending.get(&id).map_or(0, |(sequence, _, _)| *sequence)
    }
}

impl Core {
    pub(super) fn new(
        gate: Gate,
        (ledger, index): (Ledger, Index),
        (clock, seals): (Clock, Arc<Seals>),
        catalogue: &'static Catalogue,
        plans: Plans,
    ) -> Self {
        Self {
            gate,
            index,
            ledger,
            clock,
            seals,
            catalogue: RwLock::new(catalogue),
            plans: Mutex::new(plans),
            refusals: Mutex::default(),
            wake: Condvar::new(),
            settled: [Condvar::new(), Condvar::new()],
            swept: Condvar::new(),
        }
    }

    /// Gives numbers to the names of the catalogue after the first `stored`, `most` of them.
    pub(super) fn extend_catalogue(&self, stored: usize, most: usize) -> Result<(), Error> {
        let catalogue = self.catalogue();
        let new = catalogue.entries().iter().enumerate().skip(stored).take(most);
        let puts = new
            .map(|(number, entry)| {
                let number = u8::try_from(number).map_err(|_| crate::scope::TooManyScopes)?;
                let frame = codec::encode_scope(entry.scope.as_str(), number, &self.seals.frame)?;
                Ok(Put { place: Place::Scope(number), frame: Some(frame) })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        if puts.is_empty() {
            return Ok(());
        }
        let note = Note {
            actor: Actor::Host,
            source: None,
            act: Act::ExtendCatalogue,
            key: None,
            before: Change::default(),
            after: Change::default(),
            once: None,
        };
        let mut plans = self.plan();
        self.check_room()?;
        #[cfg(feature = "cluster")]
        self.check_numbering(&plans, stored, catalogue)?;
        let sequence = self.queue(&mut plans, note, puts, Vec::new())?;
        self.wait(plans, sequence)
    }

    /// Takes the writers' mutex.
    pub(super) fn plan(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The scope names. Replicas learn those that others bring.
    pub(super) fn catalogue(&self) -> &'static Catalogue {
        *self.catalogue.read().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "cluster")]
    pub(super) fn set_catalogue(&self, catalogue: &'static Catalogue) {
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = catalogue;
    }

    /// The number of the newest committed change.
    pub(super) fn committed(&self) -> u64 {
        self.plan().committed
    }

    pub(super) fn failure(&self) -> Option<Box<str>> {
        self.plan().failure.clone()
    }

    /// The state of a key after all that is queued.
    pub(super) fn planned(&self, plans: &Plans, id: KeyId) -> Option<(Arc<Record>, Digest)> {
        match plans.pending.get(&id) {
            Some((_, record, digest)) => record.clone().map(|record| (record, *digest)),
            None => self.index.get(id),
        }
    }

    /// Queues the new states of keys and their note as one change, and denies at once what it
    /// denies.
    pub(super) fn queue_changes(
        &self,
        plans: &mut Plans,
        note: Note,
        changes: Vec<KeyChange>,
    ) -> Result<u64, Error> {
        let mut puts = Vec::with_capacity(changes.len());
        let (mut gained, mut lost) = (0, 0);
        for KeyChange { id, digest, after } in &changes {
            let frame = after
                .as_ref()
                .map(|record| codec::encode_record(record, *digest, &self.seals.frame))
                .transpose()?;
            if frame.is_none() {
                puts.push(Put { place: Place::Use(*id), frame: None });
            }
            puts.push(Put { place: Place::Record(*digest), frame });
            let before = self.planned(plans, *id);
            lost += usize::from(before.is_some_and(|(record, _)| record.is_lasting_root()));
            gained += usize::from(after.as_ref().is_some_and(|record| record.is_lasting_root()));
        }
        let planned: Vec<_> =
            changes.iter().map(|change| (change.id, change.after.clone(), change.digest)).collect();
        let sequence = self.queue(plans, note, puts, changes)?;
        plans.lasting_roots = plans.lasting_roots + gained - lost;
        for (id, after, digest) in planned {
            // Refuse first: if the disk fails, this process must still turn the key away.
            if let Some(record) = &after {
                self.index.deny(sequence, id, record.standing());
                self.write_denials(plans, id, record.standing());
            }
            plans.pending.insert(id, (sequence, after, digest));
        }
        Ok(sequence)
    }

    /// Queues a note alone or with its values.
    pub(super) fn queue(
        &self,
        plans: &mut Plans,
        note: Note,
        puts: Vec<Put>,
        changes: Vec<KeyChange>,
    ) -> Result<u64, Error> {
        // A record and the entry that tells of it have one time, and times never fall along the trail.
        let records = changes.iter().filter_map(|change| change.after.as_ref());
        let at = records.map(|record| record.updated_at).max();
        let at = at.unwrap_or_else(|| self.clock.now()).max(plans.tip.newest);
        let last_once = self.knows_requests(plans).then(|| plans.requests.newest(at));
        let entry = AuditEntry {
            sequence: plans.next_sequence(),
            at,
            actor: note.actor,
            source: note.source,
            act: note.act,
            key: note.key,
            before: note.before,
            after: note.after,
            once: note.once,
            last_once: last_once.filter(|last| *last > 0 || note.once.is_some()),
        };
        let (frame, head) = codec::encode_entry(&entry, &plans.tip.head, &self.seals.trail)?;
        let commit = Commit { sequence: entry.sequence, at: entry.at, entry: frame, head, puts };
        plans.requests.note(&entry);
        plans.tip = Tip { sequence: entry.sequence, head, newest: entry.at };
        plans.queue.push(Queued { commit, changes });
        if plans.awaited.is_some_and(|awaited| plans.queue.len() >= awaited) {
            self.wake.notify_one();
        }
        Ok(entry.sequence)
    }
}
