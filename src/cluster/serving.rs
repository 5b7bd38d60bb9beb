//! The main loop of a member: apply changes, prove freshness, acknowledge.
//!
//! Three activities run concurrently, each with at most one call in flight.
//!
//! | activity | idle | in flight | then |
//! |---|---|---|---|
//! | watch | lost: a new one opens after a pause | waits for the next transactions | applies them; opens the gate for proofs whose epoch they reach |
//! | proof | until the next proof is due | one `prove`, timed before it is sent | opens the gate, at once or when its epoch is applied |
//! | acknowledgement | until something newer is applied | one `acknowledge` | confirmed: the next may follow at once; failed: after a pause |
//!
//! The loop ends with an [`Interruption`]: the member was fenced, its next changes are compacted, or
//! the history of the consensus store differs from the applied one.

use super::{
    acknowledgements::Acknowledgements,
    bootstrap::decode_audit_start,
    consensus::{
        Committed, ConsensusError, ConsensusStore, Epoch, Key, Proof, Revision, Watch, WatchEvent,
        Write,
    },
    follower::{Follower, KeyState},
    membership::{Context, Interruption, Membership},
    position::Position,
};
use crate::{codec, digest::Digest, error::Error};
use std::{
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
};
use tokio::{select, time::timeout};

/// A call that may be in flight.
type Call<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;
/// When the proof was requested, and the answer.
type ProofAnswer = (u64, Result<Option<Proof>, ConsensusError>);
/// The acknowledged revision, and the answer.
type AcknowledgementAnswer = (Revision, Result<bool, ConsensusError>);

/// One membership at work.
pub(super) struct Serving<'r, C: ConsensusStore, F> {
    context: &'r Context<C, F>,
    membership: Membership,
    acknowledgements: &'r mut Acknowledgements,
    proof: Call<ProofAnswer>,
    next_proof: u64,
    /// The applied revision when the proof in flight was requested.
    applied_at_request: Revision,
    /// The epoch at that revision, and those applied since: the proof may show any of them.
    epochs_since_request: Vec<Epoch>,
    /// Proven epochs that are not applied yet, each with the time until which it opens the gate.
    pending_proofs: Vec<(Revision, u64)>,
    acknowledgement: Call<AcknowledgementAnswer>,
    next_acknowledgement: u64,
}

impl<'r, C: ConsensusStore, F: Follower> Serving<'r, C, F> {
    pub(super) fn new(
        context: &'r Context<C, F>,
        membership: Membership,
        acknowledgements: &'r mut Acknowledgements,
    ) -> Self {
        let now = context.timing.now();
        Self {
            context,
            membership,
            acknowledgements,
            proof: None,
            next_proof: now,
            applied_at_request: Revision::default(),
            epochs_since_request: Vec::new(),
            pending_proofs: Vec::new(),
            acknowledgement: None,
            next_acknowledgement: now,
        }
    }

    /// Runs until an interruption. The branches are polled in order, so many changes do not delay a proof.
    pub(super) async fn run(mut self) -> Interruption {
        let Context { consensus, timing, .. } = self.context;
        let mut watch = Some(consensus.watch(self.applied()));
        let mut next_watch = 0;
        loop {
            let must_acknowledge =
                self.acknowledgement.is_none() && !self.acknowledgements.has(self.applied());
            let step = select! {
                biased;
                answer = answered(&mut self.proof) => self.take_proof(answer),
                answer = answered(&mut self.acknowledgement) => self.take_acknowledgement(answer),
                () = timing.sleep_until(self.next_proof), if self.proof.is_none() => {
                    self.request_proof();
                    Ok(())
                }
                () = timing.sleep_until(self.next_acknowledgement), if must_acknowledge => {
                    self.acknowledge();
                    Ok(())
                }
                () = timing.sleep_until(next_watch), if watch.is_none() => {
                    watch = Some(consensus.watch(self.applied()));
                    Ok(())
                }
                event = next_event(&mut watch) => match event {
                    WatchEvent::Committed(transactions) => self.apply_all(transactions),
                    WatchEvent::Compacted => Err(Interruption::Behind),
                    WatchEvent::Lost => {
                        watch = None;
                        next_watch = timing.now() + timing.retry_delay();
                        Ok(())
                    }
                },
            };
            if let Err(interruption) = step {
                return interruption;
            }
        }
    }

    /// The time is taken before the request is sent, so the answer describes a later state.
    fn request_proof(&mut self) {
        let consensus = Arc::clone(&self.context.consensus);
        let (timing, Membership { id, joined }) = (self.context.timing.clone(), self.membership);
        self.acknowledgements.requesting_proof();
        let position = self.context.current();
        self.applied_at_request = position.applied;
        self.epochs_since_request = vec![position.epoch.clone()];
        let requested = timing.now();
        self.next_proof = requested + timing.proof_interval();
        self.proof = Some(Box::pin(async move {
            let proof = timeout(timing.call_timeout(), consensus.prove(id, joined)).await;
            (requested, proof.unwrap_or_else(|_| Err(no_answer())))
        }));
    }

    fn take_proof(&mut self, (requested, answer): ProofAnswer) -> Result<(), Interruption> {
        let proof = match answer {
            Ok(Some(proof)) => proof,
            Ok(None) => return Err(Interruption::Fenced),
            // The gate shuts when the last proof expires.
            Err(_) => return Ok(()),
        };
        let Proof { revision, epoch, applied } = proof;
        self.context.position.note_epoch(epoch.revision);
        // More may have been applied since the proof was read, so it is compared with the state at its
        // request.
        let earliest =
            self.epochs_since_request.first().map_or_else(Revision::default, |e| e.revision);
        if revision < self.applied_at_request || epoch.revision < earliest {
            return Err(Interruption::Diverged(
                "the consensus store went back to an earlier revision",
            ));
        }
        // All epochs up to the applied one are known. A bootstrap reads at a later revision than that of its
        // epoch. A restored consensus store may assign the revisions between the two to changes of another
        // history.
        if epoch.revision <= self.applied() && !self.epochs_since_request.contains(&epoch) {
            return Err(Interruption::Diverged(
                "the consensus store has another epoch than was applied",
            ));
        }
        if !self.acknowledgements.recognise(applied) {
            let reason = "the consensus store has an acknowledgement that this member did not send";
            return Err(Interruption::Diverged(reason));
        }
        let until = requested.saturating_add(self.context.timing.freshness());
        self.pending_proofs.push((epoch.revision, until));
        self.open_gate();
        Ok(())
    }

    /// Opens the gate for the proofs whose epoch is applied.
    fn open_gate(&mut self) {
        let applied = self.applied();
        let gate = self.context.follower.gate();
        self.pending_proofs.retain(|(epoch, until)| {
            let is_applied = *epoch <= applied;
            if is_applied {
                gate.extend(*until);
            }
            !is_applied
        });
    }

    fn acknowledge(&mut self) {
        let consensus = Arc::clone(&self.context.consensus);
        let (timing, Membership { id, joined }) = (self.context.timing.clone(), self.membership);
        let applied = self.applied();
        self.next_acknowledgement = timing.now() + timing.retry_delay();
        self.acknowledgements.sending(applied);
        self.acknowledgement = Some(Box::pin(async move {
            let written = consensus.acknowledge(id, joined, applied);
            let written = timeout(timing.call_timeout(), written).await;
            (applied, written.unwrap_or_else(|_| Err(no_answer())))
        }));
    }

    fn take_acknowledgement(
        &mut self,
        (applied, answer): AcknowledgementAnswer,
    ) -> Result<(), Interruption> {
        match answer {
            Ok(true) => {
                self.acknowledgements.confirm(applied);
                self.next_acknowledgement = 0;
                Ok(())
            }
            Ok(false) => Err(Interruption::Fenced),
            Err(_) => Ok(()),
        }
    }

    fn apply_all(&mut self, transactions: Vec<Committed>) -> Result<(), Interruption> {
        for committed in transactions {
            if committed.revision > self.applied() {
                self.apply(committed)?;
            }
        }
        Ok(())
    }

    /// The index first, then the position, then the gate. The acknowledgement follows in the loop.
    fn apply(&mut self, committed: Committed) -> Result<(), Interruption> {
        let known = self.context.current();
        let next = self.apply_to_index(&known, committed).map_err(|error| {
            // Part of the transaction may be visible, and the rest is not known.
            self.context.report(Some(error.to_string().into()));
            Interruption::Diverged("a change could not be applied")
        })?;
        let next =
            next.ok_or(Interruption::Diverged("a change does not continue what was applied"))?;
        if self.proof.is_some() {
            self.epochs_since_request.push(next.epoch.clone());
        }
        self.context.position.advance_to(next);
        self.open_gate();
        Ok(())
    }

    /// Applies a transaction; `None` if it does not continue the known history.
    fn apply_to_index(
        &self,
        known: &Position,
        committed: Committed,
    ) -> Result<Option<Position>, Error> {
        let Committed { revision, epoch, writes } = committed;
        let follower = &*self.context.follower;
        let seals = follower.seals();
        let mut position = Position { applied: revision, ..known.clone() };
        let Some(epoch) = epoch else { return Ok(None) };
        let (meta, before) = codec::decode_epoch(&epoch, &seals.meta, seals.pepper_check)?;
        let continues = before == known.meta.mark.head
            && meta.mark.store == known.meta.mark.store
            && meta.mark.sequence > known.meta.mark.sequence;
        if !continues {
            return Ok(None);
        }
        position.epoch = Epoch { revision, value: epoch };
        position.meta = meta;
        let mut has_scopes = false;
        for Write { key, value } in &writes {
            match (key, value) {
                (Key::ScopeName(number), Some(frame)) => {
                    let scope = codec::decode_scope(frame, *number, &seals.frame)?;
                    let (number, length) = (usize::from(*number), position.scopes.len());
                    match position.scopes.get_mut(number) {
                        Some(before) => *before = scope,
                        None if number == length => position.scopes.push(scope),
                        None => return Err(Error::damaged("a scope name is missing")),
                    }
                    has_scopes = true;
                }
                (Key::AuditStart, frame) => {
                    position.audit_start = decode_audit_start(frame.clone(), seals)?;
                    follower.set_audit_start(&position.audit_start.0);
                }
                _ => {}
            }
        }
        if has_scopes {
            follower.set_scopes(&position.scopes)?;
        }
        let sequence = position.meta.mark.sequence;
        let states = writes.into_iter().filter_map(|Write { key, value }| match key {
            Key::Record(digest) => {
                self.key_state(Digest::from_bytes(digest), value, sequence).transpose()
            }
            _ => None,
        });
        follower.apply(&position.meta, states.collect::<Result<_, _>>()?)?;
        Ok(Some(position))
    }

    /// The new state of a key; `None` for the deletion of a key that is not in the index.
    fn key_state(
        &self,
        digest: Digest,
        frame: Option<Vec<u8>>,
        sequence: u64,
    ) -> Result<Option<KeyState>, Error> {
        let follower = &*self.context.follower;
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
        self.context.current().applied
    }
}

fn no_answer() -> ConsensusError {
    ConsensusError::Unavailable("no answer came".into())
}

/// Waits for the answer to a call. If the wait is dropped, the call continues.
async fn answered<T>(call: &mut Call<T>) -> T {
    match call {
        Some(future) => {
            let answer = future.await;
            *call = None;
            answer
        }
        None => pending().await,
    }
}

async fn next_event<W: Watch>(watch: &mut Option<W>) -> WatchEvent {
    match watch {
        Some(watch) => watch.next().await,
        None => pending().await,
    }
}
