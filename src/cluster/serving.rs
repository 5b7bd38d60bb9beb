//! A member's days: what is committed is applied, then proved, then acknowledged.

use super::{
    bootstrap::{self, Position},
    follower::{Follower, KeyState},
    journal::{Batch, Epoch, Event, Fault, Journal, Proof, Revision, Tail},
    replica::{Halt, Membership, Replica},
    rows::Rows,
};
use crate::{
    codec::{self, Place},
    error::Error,
};
use std::{
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
};
use tokio::{select, time::timeout};

/// A call that was made and not answered yet.
type Call<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;
/// When it was asked for, and the answer.
type Proved = (u64, Result<Option<Proof>, Fault>);
/// What was said, and whether the engine took it.
type Said = (Revision, Result<bool, Fault>);

/// One membership.
pub(super) struct Serving<'r, J: Journal, F> {
    replica: &'r Replica<J, F>,
    member: Membership,
    rows: &'r mut Rows,
    proof: Call<Proved>,
    next_proof: u64,
    /// What was applied when the proof was asked for that is on its way.
    known: Revision,
    /// The epoch at that revision, and those that were applied since: the proof may show any of them.
    passed: Vec<Epoch>,
    /// Epochs that are not applied yet, and until when each opens the gate.
    proved: Vec<(Revision, u64)>,
    said: Call<Said>,
    next_said: u64,
}

impl<'r, J: Journal, F: Follower> Serving<'r, J, F> {
    pub(super) fn new(replica: &'r Replica<J, F>, member: Membership, rows: &'r mut Rows) -> Self {
        let now = replica.timing.now();
        Self {
            replica,
            member,
            rows,
            proof: None,
            next_proof: now,
            known: Revision::default(),
            passed: Vec::new(),
            proved: Vec::new(),
            said: None,
            next_said: now,
        }
    }

    /// Goes on until something ends it. The branches are asked in order, so that no flood of
    /// changes keeps a proof from being asked for.
    pub(super) async fn run(mut self) -> Halt {
        let timing = &self.replica.timing;
        let mut tail = Some(self.replica.journal.tail(self.applied()));
        let mut next_tail = 0;
        loop {
            let must_say = self.said.is_none() && !self.rows.has(self.applied());
            let step = select! {
                biased;
                answer = landed(&mut self.proof) => self.proof_came(answer),
                answer = landed(&mut self.said) => self.said_so(answer),
                () = timing.sleep_until(self.next_proof), if self.proof.is_none() => self.ask(),
                () = timing.sleep_until(self.next_said), if must_say => self.say(),
                () = timing.sleep_until(next_tail), if tail.is_none() => {
                    tail = Some(self.replica.journal.tail(self.applied()));
                    Ok(())
                }
                event = next(&mut tail) => match event {
                    Event::Batches(batches) => self.apply_all(batches),
                    Event::Compacted => Err(Halt::Behind),
                    Event::Lost => {
                        tail = None;
                        next_tail = timing.now() + timing.pause();
                        Ok(())
                    }
                },
            };
            if let Err(halt) = step {
                return halt;
            }
        }
    }

    /// The time is taken before anything is sent: what the engine then says was so after it.
    #[expect(clippy::unnecessary_wraps, reason = "a step like the others")]
    fn ask(&mut self) -> Result<(), Halt> {
        let (journal, timing) = (Arc::clone(&self.replica.journal), self.replica.timing.clone());
        let member = self.member;
        self.rows.asks();
        let position = self.replica.now_at();
        self.known = position.applied;
        self.passed = vec![position.epoch.clone()];
        let asked = timing.now();
        self.next_proof = asked + timing.beat();
        self.proof = Some(Box::pin(async move {
            let proof = timeout(timing.patience(), journal.prove(member.who, member.joined)).await;
            (asked, proof.unwrap_or_else(|_| Err(Fault::Unreachable("no proof came".into()))))
        }));
        Ok(())
    }

    fn proof_came(&mut self, (asked, answer): Proved) -> Result<(), Halt> {
        let proof = match answer {
            Ok(Some(proof)) => proof,
            Ok(None) => return Err(Halt::Fenced),
            // The gate runs down by itself.
            Err(_) => return Ok(()),
        };
        self.replica.position.hear(proof.epoch.revision);
        // More may have been applied since the proof was read, so what counts is what was then.
        let before = self.passed.first().map_or(Revision::default(), |epoch| epoch.revision);
        if proof.revision < self.known || proof.epoch.revision < before {
            return Err(Halt::Foreign("the engine went back to an earlier revision"));
        }
        // Up to what is applied all epochs since then are known. A snapshot is taken at a later
        // revision than its epoch has, and an engine that was put back may since have given the
        // revisions between the two to changes of another history.
        if proof.epoch.revision <= self.applied() && !self.passed.contains(&proof.epoch) {
            return Err(Halt::Foreign("the engine has another epoch than was applied"));
        }
        if !self.rows.recognise(proof.applied) {
            return Err(Halt::Foreign("the engine shows an acknowledgement that was not given"));
        }
        let until = asked.saturating_add(self.replica.timing.freshness());
        self.proved.push((proof.epoch.revision, until));
        self.open()
    }

    /// Opens the gate for as long as was proved of what is applied.
    #[expect(clippy::unnecessary_wraps, reason = "a step like the others")]
    fn open(&mut self) -> Result<(), Halt> {
        let applied = self.applied();
        let gate = self.replica.follower.gate();
        self.proved.retain(|(epoch, until)| {
            let holds = *epoch <= applied;
            if holds {
                gate.extend(*until);
            }
            !holds
        });
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "a step like the others")]
    fn say(&mut self) -> Result<(), Halt> {
        let (journal, timing) = (Arc::clone(&self.replica.journal), self.replica.timing.clone());
        let (member, applied) = (self.member, self.applied());
        self.next_said = timing.now() + timing.pause();
        self.rows.sent(applied);
        self.said = Some(Box::pin(async move {
            let said = journal.acknowledge(member.who, member.joined, applied);
            let said = timeout(timing.patience(), said).await;
            (applied, said.unwrap_or_else(|_| Err(Fault::Unreachable("no answer came".into()))))
        }));
        Ok(())
    }

    fn said_so(&mut self, (applied, answer): Said) -> Result<(), Halt> {
        match answer {
            Ok(true) => {
                self.rows.confirm(applied);
                // The next one need not wait.
                self.next_said = 0;
                Ok(())
            }
            Ok(false) => Err(Halt::Fenced),
            Err(_) => Ok(()),
        }
    }

    fn apply_all(&mut self, batches: Vec<Batch>) -> Result<(), Halt> {
        for batch in batches {
            if batch.revision > self.applied() {
                self.apply(batch)?;
            }
        }
        Ok(())
    }

    /// The index first; then what is applied is said, the gate opened, and the rest told.
    fn apply(&mut self, batch: Batch) -> Result<(), Halt> {
        let known = self.replica.now_at();
        let applied = self.applied_after(&known, batch).map_err(|error| {
            // Half of it may be visible, and the other half is not known.
            self.replica.say(Some(error.to_string().into()));
            Halt::Foreign("a change could not be applied")
        })?;
        let applied =
            applied.ok_or(Halt::Foreign("a change does not continue what was applied"))?;
        if self.proof.is_some() {
            self.passed.push(applied.epoch.clone());
        }
        self.replica.position.move_to(applied);
        self.open()
    }

    /// Applies a batch; `None` where it does not continue the history that is known.
    fn applied_after(&self, known: &Position, batch: Batch) -> Result<Option<Position>, Error> {
        let follower = &*self.replica.follower;
        let seals = follower.seals();
        let mut position = Position { applied: batch.revision, ..known.clone() };
        let Some(frame) = batch.epoch else { return Ok(None) };
        let (meta, before) = codec::decode_epoch(&frame, &seals.meta, seals.pepper_check)?;
        let continues = before == known.meta.mark.head
            && meta.mark.store == known.meta.mark.store
            && meta.mark.sequence > known.meta.mark.sequence;
        if !continues {
            return Ok(None);
        }
        position.epoch = Epoch { revision: batch.revision, frame };
        position.meta = meta;
        let named = position.names.len();
        for (place, frame) in &batch.changes {
            match (place, frame) {
                (Place::Scope(number), Some(frame)) => {
                    position.names.push(bootstrap::name(frame, *number, follower)?);
                }
                (Place::AuditStart, frame) => {
                    position.floor = bootstrap::floor(frame.clone(), seals)?;
                    follower.learn_floor(&position.floor.0);
                }
                _ => {}
            }
        }
        if position.names.len() > named {
            follower.learn(&position.names)?;
        }
        let sequence = position.meta.mark.sequence;
        let states = batch.changes.into_iter().filter_map(|(place, frame)| match place {
            Place::Record(digest) => self.state(digest, frame, sequence).transpose(),
            _ => None,
        });
        follower.apply(&position.meta, states.collect::<Result<_, _>>()?)?;
        Ok(Some(position))
    }

    /// The new state of a key; `None` where one is deleted that is not here.
    fn state(
        &self,
        digest: crate::digest::Digest,
        frame: Option<Vec<u8>>,
        sequence: u64,
    ) -> Result<Option<KeyState>, Error> {
        let follower = &*self.replica.follower;
        let Some(frame) = frame else {
            let found = follower.index().find(&digest);
            return Ok(found.map(|(id, _)| KeyState { sequence, id, digest, record: None }));
        };
        let seal = &follower.seals().frame;
        let (record, _) = codec::decode_record(&frame, digest, seal, follower.catalogue())?;
        let (sequence, id) = (record.revision, record.id);
        Ok(Some(KeyState { sequence, id, digest, record: Some(Arc::new(record)) }))
    }

    fn applied(&self) -> Revision {
        self.replica.now_at().applied
    }
}

/// The answer to a call, once it comes. A dropped wait loses nothing.
async fn landed<T>(call: &mut Call<T>) -> T {
    match call {
        Some(future) => {
            let answer = future.await;
            *call = None;
            answer
        }
        None => pending().await,
    }
}

async fn next<T: Tail>(tail: &mut Option<T>) -> Event {
    match tail {
        Some(tail) => tail.next().await,
        None => pending().await,
    }
}
