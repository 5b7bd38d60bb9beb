//! The idempotent requests of the last 24 hours, which are done once however often they are sent.
//!
//! Each is an entry of the audit log, written with its change, and remembered for 24 hours. Every
//! entry written within that time names the last such entry before it, so that after a restart the
//! requests are found by following these links, however many other entries lie between them.

mod read;

pub(super) use self::read::{NO_LIMIT, UNLINKED_LIMIT, read};

use crate::{
    audit::{Act, AuditEntry, Once},
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
pub(super) const KEPT: Duration = Duration::from_hours(24);
/// The most requests of one actor that are remembered at a time.
const MOST_OF_ONE: usize = 10_000;
/// The most requests of all actors: about 16 MB.
const MOST_OF_ALL: usize = 100_000;

/// A request that was done, or is queued.
#[derive(Clone, Copy)]
pub(super) struct Done {
    payload: [u8; 16],
    at: Timestamp,
    pub(super) sequence: u64,
    pub(super) id: KeyId,
}

/// The requests of the last 24 hours.
#[derive(Default)]
pub(super) struct Requests {
    done: HashMap<[u8; 16], Done>,
    by_age: VecDeque<(Timestamp, Actor, [u8; 16])>,
    /// When each actor sent its requests, oldest first.
    of_one: HashMap<Actor, VecDeque<Timestamp>>,
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
        let done = Done { payload: once.payload, at, sequence, id };
        let known = self.done.insert(once.request, done);
        if known.is_none_or(|known| known.sequence != sequence) {
            self.by_age.push_back((at, entry.actor, once.request));
            self.of_one.entry(entry.actor).or_default().push_back(at);
        }
    }

    /// Forgets the requests whose time is over.
    fn forget_until(&mut self, now: Timestamp) {
        while let Some((at, actor, request)) = self.by_age.front().copied()
            && is_over(at, now)
        {
            self.by_age.pop_front();
            if let Some(times) = self.of_one.get_mut(&actor) {
                times.pop_front();
                if times.is_empty() {
                    self.of_one.remove(&actor);
                }
            }
            // One that was done again since is younger than this.
            if self.done.get(&request).is_some_and(|done| done.at == at) {
                self.done.remove(&request);
            }
        }
    }

    /// Forgets the requests of changes after this one, which were not made.
    pub(super) fn forget_after(&mut self, sequence: u64) {
        let Self { done, by_age, of_one } = self;
        done.retain(|_, done| done.sequence <= sequence);
        by_age.retain(|(at, _, request)| done.get(request).is_some_and(|done| done.at == *at));
        of_one.clear();
        for (at, actor, _) in by_age {
            of_one.entry(*actor).or_default().push_back(*at);
        }
    }

    /// The same request, if it was done; it is an error if it was another of that name.
    pub(super) fn find(&self, once: Once, now: Timestamp) -> Result<Option<Done>, Error> {
        match self.done.get(&once.request).filter(|done| !is_over(done.at, now)) {
            None => Ok(None),
            Some(done) if done.payload == once.payload => Ok(Some(*done)),
            Some(_) => Err(Error::IdempotencyKeyReused),
        }
    }

    /// Fails where another request of this actor could not be remembered for as long as promised.
    pub(super) fn check_room(&mut self, actor: Actor, now: Timestamp) -> Result<(), Error> {
        self.forget_until(now);
        let times = self.of_one.get(&actor);
        let (who, oldest) = if times.is_some_and(|times| times.len() >= MOST_OF_ONE) {
            ("this actor", times.and_then(VecDeque::front).copied())
        } else if self.by_age.len() >= MOST_OF_ALL {
            ("all actors together", self.by_age.front().map(|(at, ..)| *at))
        } else {
            return Ok(());
        };
        let age = oldest.map_or(0, |at| now.as_millis().saturating_sub(at.as_millis()));
        let retry_after = KEPT.saturating_sub(Duration::from_millis(age));
        Err(Error::TooManyRequests { who, retry_after })
    }

    /// The number of the last entry with a request that is remembered at this time, 0 where there is
    /// none.
    pub(super) fn newest(&self, now: Timestamp) -> u64 {
        let newest = self.by_age.back().and_then(|(_, _, request)| self.done.get(request));
        newest.filter(|done| !is_over(done.at, now)).map_or(0, |done| done.sequence)
    }
}

fn is_over(at: Timestamp, now: Timestamp) -> bool {
    u128::from(now.as_millis().saturating_sub(at.as_millis())) >= KEPT.as_millis()
}

#[cfg(test)]
mod tests;
