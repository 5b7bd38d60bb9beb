//! Counts repeated refusals: the first one is written to the audit log at once, and its repetitions of a
//! minute are written as one entry.
//!
//! Otherwise any valid key could fill the disk with requests that it lacks the scope for. Refused acts
//! are repetitions if actor, act and reason are equal. The key and the source address may differ.
//! Counting uses no disk and waits for no lock of the writer.
//!
//! A group of equal acts has one counter:
//!
//! | state | event | next |
//! |---|---|---|
//! | none | an act | *first act is being written* |
//! | first act is being written | it cannot be written | *unwritten*: it is counted |
//! | first act is being written, or written | a repetition | counted; same state |
//! | unwritten | a repetition | *first act is being written* |
//! | any | a minute has passed, or the store closes | none: the count is written, if it is not 0 |
//!
//! Memory is bounded. An actor has counters for at most [`MAX_REASONS`] acts and reasons. Its other
//! refusals share one counter for each act. At most [`MAX_ACTORS`] actors have counters of their own. All
//! other actors share one counter for each act.

use crate::{
    audit_entry::{Act, Attempt, AuditEntry},
    id::KeyId,
    record::Actor,
    time::Timestamp,
};
use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// How long repetitions are counted before they are written.
const SPAN: Duration = Duration::from_mins(1);
/// The maximum number of actors with counters of their own.
const MAX_ACTORS: usize = 1024;
/// The maximum number of acts and reasons of one actor with counters of their own.
const MAX_REASONS: usize = 16;
/// The reason in an entry about several reasons.
const OTHER_REASONS: &str = "(several other reasons)";
const OTHER_ACTORS: &str = "(acts of several other actors)";

/// A refused act.
#[derive(Clone, Copy)]
pub(super) struct RefusedAct<'r> {
    pub(super) actor: Actor,
    pub(super) source: Option<IpAddr>,
    pub(super) attempt: Attempt,
    pub(super) key: Option<KeyId>,
    pub(super) reason: &'r str,
}

/// The refused acts of the last minute.
#[derive(Default)]
pub(super) struct RefusalCounters {
    counters: HashMap<Group, Counter>,
    /// The number of counters of each actor.
    counters_by_actor: HashMap<Actor, usize>,
    /// The number of counters created so far.
    created: u64,
}

/// Refused acts that share a counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    /// `None` for all actors without counters of their own.
    actor: Option<Actor>,
    attempt: Attempt,
    /// `None` for all reasons without counters of their own.
    reason: Option<Box<str>>,
}

struct Counter {
    /// Counters are written in the order of their creation.
    number: u64,
    since: Instant,
    /// No act of the group is written or being written.
    is_unwritten: bool,
    repeated: Option<Repeated>,
}

/// A count that is not written yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Repeated {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    /// `None` if the acts have different keys.
    key: Option<KeyId>,
    /// `None` if the acts have different sources.
    source: Option<IpAddr>,
}

/// The count of a counter that was removed to be written.
#[derive(Clone)]
pub(super) struct CountedActs {
    group: Group,
    number: u64,
    repeated: Repeated,
}

impl RefusalCounters {
    /// Counts an act if it is a repetition. Otherwise returns `false`, and the caller writes the act.
    pub(super) fn is_repeated(
        &mut self,
        act: &RefusedAct<'_>,
        at: Timestamp,
        now: Instant,
    ) -> bool {
        let counter = self.counter(act, now);
        let is_first = std::mem::take(&mut counter.is_unwritten);
        if !is_first {
            count(&mut counter.repeated, Repeated::once(act, at));
        }
        !is_first
    }

    /// Counts an act that could not be written. Returns whether it is the only counted one.
    pub(super) fn failed(&mut self, act: &RefusedAct<'_>, at: Timestamp, now: Instant) -> bool {
        let counter = self.counter(act, now);
        counter.is_unwritten = true;
        count(&mut counter.repeated, Repeated::once(act, at));
        counter.repeated.is_some_and(|repeated| repeated.count == 1)
    }

    /// Removes the counters whose minute is over, and returns their counts.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<CountedActs> {
        self.take(|counter| now.saturating_duration_since(counter.since) >= SPAN)
    }

    pub(super) fn take_all(&mut self) -> Vec<CountedActs> {
        self.take(|_| true)
    }

    /// Restores counts that were not written. They are due at once.
    pub(super) fn put_back(&mut self, unwritten: Vec<CountedActs>, now: Instant) {
        for CountedActs { group, repeated, .. } in unwritten {
            let counter = self.counter_of_group(group, now);
            counter.since = now.checked_sub(SPAN).unwrap_or(now);
            count(&mut counter.repeated, repeated);
        }
    }

    fn counter(&mut self, act: &RefusedAct<'_>, now: Instant) -> &mut Counter {
        let RefusedAct { actor, attempt, reason, .. } = *act;
        self.counter_of_group(
            Group { actor: Some(actor), attempt, reason: Some(reason.into()) },
            now,
        )
    }

    /// Returns the counter of this group, or the shared one beyond the maximum.
    fn counter_of_group(&mut self, mut group: Group, now: Instant) -> &mut Counter {
        if let Some(actor) = group.actor
            && !self.counters.contains_key(&group)
        {
            let held = self.counters_by_actor.get(&actor).copied();
            if held.is_some_and(|held| held >= MAX_REASONS) {
                group.reason = None;
            } else if held.is_none() && self.counters_by_actor.len() >= MAX_ACTORS {
                (group.actor, group.reason) = (None, None);
            }
        }
        self.counters.entry(group).or_insert_with_key(|group| {
            if let Some(actor) = group.actor {
                *self.counters_by_actor.entry(actor).or_default() += 1;
            }
            self.created += 1;
            Counter { number: self.created, since: now, is_unwritten: true, repeated: None }
        })
    }

    fn take(&mut self, is_due: impl Fn(&Counter) -> bool) -> Vec<CountedActs> {
        let due = self.counters.extract_if(|_, counter| is_due(counter));
        let mut counted = Vec::new();
        for (group, Counter { number, repeated, .. }) in due {
            if let Some(actor) = group.actor
                && let Some(held) = self.counters_by_actor.get_mut(&actor)
            {
                *held -= 1;
                if *held == 0 {
                    self.counters_by_actor.remove(&actor);
                }
            }
            counted.extend(repeated.map(|repeated| CountedActs { group, number, repeated }));
        }
        counted.sort_unstable_by_key(|counted| counted.number);
        counted
    }
}

impl Repeated {
    fn once(act: &RefusedAct<'_>, at: Timestamp) -> Self {
        Self { count: 1, first: at, last: at, key: act.key, source: act.source }
    }
}

fn count(counted: &mut Option<Repeated>, more: Repeated) {
    *counted = Some(match *counted {
        None => more,
        Some(Repeated { count, first, last, key, source }) => Repeated {
            count: count.saturating_add(more.count),
            first: first.min(more.first),
            last: last.max(more.last),
            key: key.filter(|key| more.key == Some(*key)),
            source: source.filter(|source| more.source == Some(*source)),
        },
    });
}

impl CountedActs {
    /// Returns the number of acts.
    #[cfg(any(feature = "axum", test))]
    pub(super) fn count(&self) -> u64 {
        self.repeated.count
    }

    /// Returns the audit entry about the acts.
    pub(super) fn entry(&self) -> AuditEntry {
        let Group { actor, attempt, reason } = &self.group;
        let Repeated { count, first, last, key, source } = self.repeated;
        let unnamed = if actor.is_some() { OTHER_REASONS } else { OTHER_ACTORS };
        let reason = reason.as_deref().unwrap_or(unnamed).to_owned();
        let act = Act::RefuseRepeated { attempt: *attempt, reason, count, first, last };
        // The entry about actors without counters of their own has the host as its actor.
        AuditEntry { source, key, ..AuditEntry::new(actor.unwrap_or(Actor::Host), act) }
    }
}

#[cfg(test)]
impl RefusalCounters {
    /// Makes every counter a minute older.
    pub(super) fn age(&mut self) {
        for counter in self.counters.values_mut() {
            counter.since = counter.since.checked_sub(SPAN).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(actor: u64, attempt: Attempt, reason: &str) -> RefusedAct<'_> {
        let actor = Actor::Key(KeyId::from_u64(actor));
        RefusedAct { actor, source: None, attempt, key: None, reason }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// Count, first and last of each entry.
    fn summary(counted: &[CountedActs]) -> Vec<(u64, u64, u64)> {
        counted
            .iter()
            .map(|counted| counted.repeated)
            .map(|summary| (summary.count, summary.first.as_secs(), summary.last.as_secs()))
            .collect()
    }

    #[test]
    fn repetitions_within_a_minute_become_one_entry_with_count_and_span() {
        let (mut refusals, begun) = (RefusalCounters::default(), Instant::now());
        let list = act(1, Attempt::List, "no");
        assert!(!refusals.is_repeated(&list, at(100), begun));
        for second in 0..50 {
            let now = begun + Duration::from_secs(second);
            assert!(refusals.is_repeated(&list, at(101 + second), now));
        }
        assert!(refusals.take_due(begun + Duration::from_secs(59)).is_empty());
        let over = begun + SPAN;
        assert_eq!(summary(&refusals.take_due(over)), [(50, 101, 150)]);
        assert!(refusals.counters.is_empty() && refusals.counters_by_actor.is_empty());
        assert!(!refusals.is_repeated(&list, at(160), over));
    }

    #[test]
    fn different_actor_act_or_reason_is_not_a_repetition() {
        let (mut refusals, now) = (RefusalCounters::default(), Instant::now());
        for first in [
            act(1, Attempt::List, "no"),
            act(2, Attempt::List, "no"),
            act(1, Attempt::Create, "no"),
            act(1, Attempt::List, "never"),
        ] {
            assert!(!refusals.is_repeated(&first, at(1), now));
        }
        let elsewhere = RefusedAct { key: Some(KeyId::from_u64(9)), ..act(1, Attempt::List, "no") };
        assert!(refusals.is_repeated(&elsewhere, at(1), now));
        // The first act of each group is written already.
        assert_eq!(summary(&refusals.take_all()), [(1, 1, 1)]);
    }

    #[test]
    fn key_and_source_are_reported_only_if_all_repetitions_share_them() {
        let (mut refusals, now) = (RefusalCounters::default(), Instant::now());
        let source = |last| Some(IpAddr::from([192, 0, 2, last]));
        let of = |key, last| RefusedAct {
            key: Some(KeyId::from_u64(key)),
            source: source(last),
            ..act(1, Attempt::Update, "no")
        };
        for (acts, summary) in [
            ([of(1, 1), of(7, 2), of(7, 2)], (Some(KeyId::from_u64(7)), source(2))),
            ([of(1, 1), of(7, 2), of(7, 3)], (Some(KeyId::from_u64(7)), None)),
            ([of(7, 2), of(8, 2), of(7, 2)], (None, source(2))),
        ] {
            for act in acts {
                refusals.is_repeated(&act, at(1), now);
            }
            let entry = refusals.take_all()[0].entry();
            assert_eq!((entry.key, entry.source), summary);
        }
    }

    #[test]
    fn unwritten_act_is_counted_and_the_next_one_is_written() {
        let (mut refusals, now) = (RefusalCounters::default(), Instant::now());
        let list = act(1, Attempt::List, "no");
        assert!(!refusals.is_repeated(&list, at(1), now));
        assert!(refusals.failed(&list, at(1), now), "this one is logged");
        assert!(!refusals.is_repeated(&list, at(2), now));
        assert!(!refusals.failed(&list, at(2), now), "one line a minute is enough");
        assert!(!refusals.is_repeated(&list, at(3), now));
        assert!(refusals.is_repeated(&list, at(4), now));
        assert_eq!(summary(&refusals.take_all()), [(3, 1, 4)]);
    }

    #[test]
    fn unwritten_repetitions_are_put_back() {
        let (mut refusals, now) = (RefusalCounters::default(), Instant::now());
        let (list, verify) = (act(1, Attempt::List, "no"), act(1, Attempt::Verify, "no"));
        for second in 1..4 {
            refusals.is_repeated(&list, at(second), now);
            refusals.is_repeated(&verify, at(second), now);
        }
        let counted = refusals.take_all();
        assert!(!refusals.is_repeated(&list, at(5), now));
        assert!(refusals.is_repeated(&list, at(6), now));
        refusals.put_back(counted, now);
        assert_eq!(summary(&refusals.take_due(now)), [(3, 2, 6), (2, 2, 3)]);
        assert!(refusals.counters.is_empty() && refusals.counters_by_actor.is_empty());
    }

    #[test]
    fn reasons_and_actors_beyond_the_limits_share_counters() {
        let (mut refusals, now) = (RefusalCounters::default(), Instant::now());
        let mut firsts = 0;
        for actor in 0..2 * MAX_ACTORS as u64 {
            for reason in 0..2 * MAX_REASONS {
                for attempt in [Attempt::List, Attempt::Rotate] {
                    let reason = reason.to_string();
                    let act = act(actor, attempt, &reason);
                    firsts += u64::from(!refusals.is_repeated(&act, at(1), now));
                }
            }
        }
        let all = 2 * MAX_ACTORS as u64 * 2 * MAX_REASONS as u64 * 2;
        let most = MAX_ACTORS * (MAX_REASONS + 2) + 2;
        assert_eq!((refusals.counters.len(), refusals.counters_by_actor.len()), (most, MAX_ACTORS));
        assert_eq!(firsts, most as u64, "the first act of an counter is written");
        let counted = refusals.take_all();
        assert_eq!(firsts + counted.iter().map(CountedActs::count).sum::<u64>(), all);
        assert_eq!(counted.len(), 2 * MAX_ACTORS + 2, "only shared counters have repetitions");
        let reasons: std::collections::HashSet<_> = counted
            .iter()
            .map(|counted| match counted.entry().act {
                Act::RefuseRepeated { reason, .. } => reason,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(reasons, [OTHER_REASONS, OTHER_ACTORS].map(str::to_owned).into());
    }
}
