//! The idempotent requests of the last 24 hours. Each is executed once, however often it is sent.
//!
//! A request is stored in the audit entry of its change. For 24 hours, every audit entry links to the
//! last entry with a request. After a restart, the store finds the requests by following these links.
//!
//! | state of a request | the same request again | next |
//! |---|---|---|
//! | unknown | is executed | *queued* |
//! | queued | waits for the first one, and returns its key | *executed*, once it is durable; *unknown*, if it is discarded |
//! | executed | returns the key of the first one | *expired*, after 24 hours |
//! | expired | is executed | *queued* |
//!
//! A request with the same name and another payload is an error until the first one has expired.

mod read;

pub(super) use self::read::{NO_LIMIT, UNLINKED_LIMIT, read};

use crate::{
    audit_entry::{Act, AuditEntry, Once},
    error::Error,
    id::KeyId,
    record::Actor,
    time::Timestamp,
};
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// How long a request is remembered.
pub(super) const RETENTION: Duration = Duration::from_hours(24);
/// The maximum number of remembered requests of one actor.
const MAX_PER_ACTOR: usize = 10_000;
/// The maximum number of remembered requests of all actors: about 16 MB.
const MAX_TOTAL: usize = 100_000;

/// A request that was executed, or is queued.
#[derive(Clone, Copy)]
pub(super) struct ExecutedRequest {
    payload: [u8; 16],
    at: Timestamp,
    pub(super) sequence: u64,
    pub(super) id: KeyId,
}

/// The requests of the last 24 hours.
#[derive(Default)]
pub(super) struct Requests {
    executed: HashMap<[u8; 16], ExecutedRequest>,
    by_age: VecDeque<(Timestamp, Actor, [u8; 16])>,
    /// When each actor sent its requests, oldest first.
    times_by_actor: HashMap<Actor, VecDeque<Timestamp>>,
}

impl Requests {
    /// Remembers the requests among entries, oldest first.
    pub(super) fn of(entries: &[AuditEntry]) -> Self {
        let mut requests = Self::default();
        for entry in entries {
            requests.note(entry);
        }
        requests
    }

    /// Remembers the request of this entry, if it has one.
    pub(super) fn note(&mut self, entry: &AuditEntry) {
        let id = match entry.act {
            Act::Rotate { into } => Some(into),
            _ => entry.key,
        };
        let (Some(once), Some(id)) = (entry.once, id) else { return };
        let (at, sequence) = (entry.at, entry.sequence);
        self.forget_until(at);
        let done = ExecutedRequest { payload: once.payload, at, sequence, id };
        let known = self.executed.insert(once.request, done);
        if known.is_none_or(|known| known.sequence != sequence) {
            self.by_age.push_back((at, entry.actor, once.request));
            self.times_by_actor.entry(entry.actor).or_default().push_back(at);
        }
    }

    /// Forgets the expired requests.
    fn forget_until(&mut self, now: Timestamp) {
        while let Some((at, actor, request)) = self.by_age.front().copied()
            && has_expired(at, now)
        {
            self.by_age.pop_front();
            if let Some(times) = self.times_by_actor.get_mut(&actor) {
                times.pop_front();
                if times.is_empty() {
                    self.times_by_actor.remove(&actor);
                }
            }
            // A request that was executed again since then has a later time.
            if self.executed.get(&request).is_some_and(|done| done.at == at) {
                self.executed.remove(&request);
            }
        }
    }

    /// Forgets the requests of the discarded changes after this one.
    pub(super) fn forget_after(&mut self, sequence: u64) {
        let Self { executed, by_age, times_by_actor } = self;
        executed.retain(|_, done| done.sequence <= sequence);
        by_age.retain(|(at, _, request)| executed.get(request).is_some_and(|done| done.at == *at));
        times_by_actor.clear();
        for (at, actor, _) in by_age {
            times_by_actor.entry(*actor).or_default().push_back(*at);
        }
    }

    /// Returns the same request, if it was executed. A different request with the same name is an error.
    pub(super) fn find(
        &self,
        once: Once,
        now: Timestamp,
    ) -> Result<Option<ExecutedRequest>, Error> {
        match self.executed.get(&once.request).filter(|done| !has_expired(done.at, now)) {
            None => Ok(None),
            Some(done) if done.payload == once.payload => Ok(Some(*done)),
            Some(_) => Err(Error::IdempotencyKeyReused),
        }
    }

    /// Fails if one more request of this actor could not be remembered for 24 hours.
    pub(super) fn check_limits(&mut self, actor: Actor, now: Timestamp) -> Result<(), Error> {
        self.forget_until(now);
        let times = self.times_by_actor.get(&actor);
        let (who, oldest) = if times.is_some_and(|times| times.len() >= MAX_PER_ACTOR) {
            ("this actor", times.and_then(VecDeque::front).copied())
        } else if self.by_age.len() >= MAX_TOTAL {
            ("all actors together", self.by_age.front().map(|(at, ..)| *at))
        } else {
            return Ok(());
        };
        let age = oldest.map_or(0, |at| now.as_millis().saturating_sub(at.as_millis()));
        let retry_after = RETENTION.saturating_sub(Duration::from_millis(age));
        Err(Error::TooManyRequests { who, retry_after })
    }

    /// Returns the number of the last entry with a remembered request, or 0.
    pub(super) fn newest(&self, now: Timestamp) -> u64 {
        let newest = self.by_age.back().and_then(|(_, _, request)| self.executed.get(request));
        newest.filter(|done| !has_expired(done.at, now)).map_or(0, |done| done.sequence)
    }
}

fn has_expired(at: Timestamp, now: Timestamp) -> bool {
    u128::from(now.as_millis().saturating_sub(at.as_millis())) >= RETENTION.as_millis()
}

#[cfg(test)]
mod tests;
