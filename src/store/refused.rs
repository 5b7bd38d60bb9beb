//! Counts refused acts that repeat: the audit log gets the first one at once, and the repetitions of a
//! minute as one entry.
//!
//! Otherwise any valid key could fill the disk with requests that it lacks the scope for. Two
//! refused acts are the same if actor, act and reason are; the key that they were about may differ,
//! and so may the source address. Counting takes no disk and waits for nobody.
//!
//! Memory is bounded. An actor has an account for each of [`MOST_REASONS`] acts and reasons; what
//! goes beyond shares one account for each act. Beyond [`MOST_ACTORS`] actors, all others share one
//! account for each act.

use crate::{
    audit::{Act, Attempt, AuditEntry},
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
/// Actors that are counted at once, each by itself.
const MOST_ACTORS: usize = 1024;
/// Acts and reasons that are counted at once for one actor, each by itself.
const MOST_REASONS: usize = 16;
/// The reason that an entry gives that is about several.
const OTHER_REASONS: &str = "(several other reasons)";
const OTHER_ACTORS: &str = "(acts of several other actors)";

/// A refused act.
#[derive(Clone, Copy)]
pub(super) struct Refused<'r> {
    pub(super) actor: Actor,
    pub(super) source: Option<IpAddr>,
    pub(super) attempt: Attempt,
    pub(super) key: Option<KeyId>,
    pub(super) reason: &'r str,
}

/// The refused acts of the last minute.
#[derive(Default)]
pub(super) struct Refusals {
    accounts: HashMap<Name, Account>,
    /// How many accounts each actor has.
    by_actor: HashMap<Actor, usize>,
    /// How many were opened so far.
    opened: u64,
}

/// Acts of one name count as the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    /// `None` for all actors that have no account.
    actor: Option<Actor>,
    attempt: Attempt,
    /// `None` for all reasons that have no account.
    reason: Option<Box<str>>,
}

struct Account {
    /// Accounts are written in the order in which they were opened.
    number: u64,
    opened: Instant,
    /// No act of it is written yet, nor being written.
    is_unwritten: bool,
    repeated: Option<Repeated>,
}

/// Acts that are counted and not written yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Repeated {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    /// If it was the same each time.
    key: Option<KeyId>,
    source: Option<IpAddr>,
}

/// The repetitions of an account that was closed.
#[derive(Clone)]
pub(super) struct Closed {
    name: Name,
    number: u64,
    repeated: Repeated,
}

impl Refusals {
    /// Counts an act if it repeats another one; otherwise it is to be written.
    pub(super) fn is_repeated(&mut self, act: &Refused<'_>, at: Timestamp, now: Instant) -> bool {
        let account = self.account(act, now);
        let is_first = std::mem::take(&mut account.is_unwritten);
        if !is_first {
            count(&mut account.repeated, Repeated::once(act, at));
        }
        !is_first
    }

    /// Counts an act that could not be written; and whether it is the only one that is counted.
    pub(super) fn failed(&mut self, act: &Refused<'_>, at: Timestamp, now: Instant) -> bool {
        let account = self.account(act, now);
        account.is_unwritten = true;
        count(&mut account.repeated, Repeated::once(act, at));
        account.repeated.is_some_and(|repeated| repeated.count == 1)
    }

    /// Closes the accounts whose minute is over.
    pub(super) fn close_due(&mut self, now: Instant) -> Vec<Closed> {
        self.close(|account| now.saturating_duration_since(account.opened) >= SPAN)
    }

    pub(super) fn close_all(&mut self) -> Vec<Closed> {
        self.close(|_| true)
    }

    /// Opens accounts again whose repetitions were not written. They are due at once.
    pub(super) fn put_back(&mut self, closed: Vec<Closed>, now: Instant) {
        for Closed { name, repeated, .. } in closed {
            let account = self.open(name, now);
            account.opened = now.checked_sub(SPAN).unwrap_or(now);
            count(&mut account.repeated, repeated);
        }
    }

    fn account(&mut self, act: &Refused<'_>, now: Instant) -> &mut Account {
        let Refused { actor, attempt, reason, .. } = *act;
        self.open(Name { actor: Some(actor), attempt, reason: Some(reason.into()) }, now)
    }

    /// The account of this name, or the shared one where there is no room for it.
    fn open(&mut self, mut name: Name, now: Instant) -> &mut Account {
        if let Some(actor) = name.actor
            && !self.accounts.contains_key(&name)
        {
            let held = self.by_actor.get(&actor).copied();
            if held.is_some_and(|held| held >= MOST_REASONS) {
                name.reason = None;
            } else if held.is_none() && self.by_actor.len() >= MOST_ACTORS {
                (name.actor, name.reason) = (None, None);
            }
        }
        self.accounts.entry(name).or_insert_with_key(|name| {
            if let Some(actor) = name.actor {
                *self.by_actor.entry(actor).or_default() += 1;
            }
            self.opened += 1;
            Account { number: self.opened, opened: now, is_unwritten: true, repeated: None }
        })
    }

    fn close(&mut self, is_due: impl Fn(&Account) -> bool) -> Vec<Closed> {
        let due = self.accounts.extract_if(|_, account| is_due(account));
        let mut closed = Vec::new();
        for (name, Account { number, repeated, .. }) in due {
            if let Some(actor) = name.actor
                && let Some(held) = self.by_actor.get_mut(&actor)
            {
                *held -= 1;
                if *held == 0 {
                    self.by_actor.remove(&actor);
                }
            }
            closed.extend(repeated.map(|repeated| Closed { name, number, repeated }));
        }
        closed.sort_unstable_by_key(|closed| closed.number);
        closed
    }
}

impl Repeated {
    fn once(act: &Refused<'_>, at: Timestamp) -> Self {
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

impl Closed {
    /// How many acts it is about.
    #[cfg(any(feature = "axum", test))]
    pub(super) fn count(&self) -> u64 {
        self.repeated.count
    }

    /// The audit entry that reports them.
    pub(super) fn entry(&self) -> AuditEntry {
        let Name { actor, attempt, reason } = &self.name;
        let Repeated { count, first, last, key, source } = self.repeated;
        let unnamed = if actor.is_some() { OTHER_REASONS } else { OTHER_ACTORS };
        let reason = reason.as_deref().unwrap_or(unnamed).to_owned();
        let act = Act::RefuseRepeated { attempt: *attempt, reason, count, first, last };
        // The store itself has the entry about actors that it could not count one by one.
        AuditEntry { source, key, ..AuditEntry::new(actor.unwrap_or(Actor::Host), act) }
    }
}

#[cfg(test)]
impl Refusals {
    /// Makes every account a minute older.
    pub(super) fn age(&mut self) {
        for account in self.accounts.values_mut() {
            account.opened = account.opened.checked_sub(SPAN).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(actor: u64, attempt: Attempt, reason: &str) -> Refused<'_> {
        let actor = Actor::Key(KeyId::from_u64(actor));
        Refused { actor, source: None, attempt, key: None, reason }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// Count, first and last of each entry.
    fn told(closed: &[Closed]) -> Vec<(u64, u64, u64)> {
        closed
            .iter()
            .map(|closed| closed.repeated)
            .map(|told| (told.count, told.first.as_secs(), told.last.as_secs()))
            .collect()
    }

    #[test]
    fn repetitions_within_a_minute_become_one_entry_with_count_and_span() {
        let (mut refusals, begun) = (Refusals::default(), Instant::now());
        let list = act(1, Attempt::List, "no");
        assert!(!refusals.is_repeated(&list, at(100), begun));
        for second in 0..50 {
            let now = begun + Duration::from_secs(second);
            assert!(refusals.is_repeated(&list, at(101 + second), now));
        }
        assert!(refusals.close_due(begun + Duration::from_secs(59)).is_empty());
        let over = begun + SPAN;
        assert_eq!(told(&refusals.close_due(over)), [(50, 101, 150)]);
        assert!(refusals.accounts.is_empty() && refusals.by_actor.is_empty());
        assert!(!refusals.is_repeated(&list, at(160), over));
    }

    #[test]
    fn another_actor_act_or_reason_is_not_a_repetition() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        for first in [
            act(1, Attempt::List, "no"),
            act(2, Attempt::List, "no"),
            act(1, Attempt::Create, "no"),
            act(1, Attempt::List, "never"),
        ] {
            assert!(!refusals.is_repeated(&first, at(1), now));
        }
        let elsewhere = Refused { key: Some(KeyId::from_u64(9)), ..act(1, Attempt::List, "no") };
        assert!(refusals.is_repeated(&elsewhere, at(1), now));
        // What was refused once has its entry already.
        assert_eq!(told(&refusals.close_all()), [(1, 1, 1)]);
    }

    #[test]
    fn key_and_source_are_told_only_if_they_were_the_same_each_time() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let source = |last| Some(IpAddr::from([192, 0, 2, last]));
        let of = |key, last| Refused {
            key: Some(KeyId::from_u64(key)),
            source: source(last),
            ..act(1, Attempt::Update, "no")
        };
        for (acts, told) in [
            ([of(1, 1), of(7, 2), of(7, 2)], (Some(KeyId::from_u64(7)), source(2))),
            ([of(1, 1), of(7, 2), of(7, 3)], (Some(KeyId::from_u64(7)), None)),
            ([of(7, 2), of(8, 2), of(7, 2)], (None, source(2))),
        ] {
            for act in acts {
                refusals.is_repeated(&act, at(1), now);
            }
            let entry = refusals.close_all()[0].entry();
            assert_eq!((entry.key, entry.source), told);
        }
    }

    #[test]
    fn act_that_could_not_be_written_is_counted_and_the_next_one_is_to_be_written() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let list = act(1, Attempt::List, "no");
        assert!(!refusals.is_repeated(&list, at(1), now));
        assert!(refusals.failed(&list, at(1), now), "this one is logged");
        assert!(!refusals.is_repeated(&list, at(2), now));
        assert!(!refusals.failed(&list, at(2), now), "one line a minute is enough");
        assert!(!refusals.is_repeated(&list, at(3), now));
        assert!(refusals.is_repeated(&list, at(4), now));
        assert_eq!(told(&refusals.close_all()), [(3, 1, 4)]);
    }

    #[test]
    fn repetitions_that_were_not_written_are_put_back() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let (list, verify) = (act(1, Attempt::List, "no"), act(1, Attempt::Verify, "no"));
        for second in 1..4 {
            refusals.is_repeated(&list, at(second), now);
            refusals.is_repeated(&verify, at(second), now);
        }
        let closed = refusals.close_all();
        assert!(!refusals.is_repeated(&list, at(5), now));
        assert!(refusals.is_repeated(&list, at(6), now));
        refusals.put_back(closed, now);
        assert_eq!(told(&refusals.close_due(now)), [(3, 2, 6), (2, 2, 3)]);
        assert!(refusals.accounts.is_empty() && refusals.by_actor.is_empty());
    }

    #[test]
    fn reasons_and_actors_beyond_the_bounds_share_accounts() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let mut firsts = 0;
        for actor in 0..2 * MOST_ACTORS as u64 {
            for reason in 0..2 * MOST_REASONS {
                for attempt in [Attempt::List, Attempt::Rotate] {
                    let reason = reason.to_string();
                    let act = act(actor, attempt, &reason);
                    firsts += u64::from(!refusals.is_repeated(&act, at(1), now));
                }
            }
        }
        let all = 2 * MOST_ACTORS as u64 * 2 * MOST_REASONS as u64 * 2;
        let most = MOST_ACTORS * (MOST_REASONS + 2) + 2;
        assert_eq!((refusals.accounts.len(), refusals.by_actor.len()), (most, MOST_ACTORS));
        assert_eq!(firsts, most as u64, "the first act of an account is written");
        let closed = refusals.close_all();
        assert_eq!(firsts + closed.iter().map(Closed::count).sum::<u64>(), all);
        assert_eq!(closed.len(), 2 * MOST_ACTORS + 2, "only shared accounts have repetitions");
        let reasons: std::collections::HashSet<_> = closed
            .iter()
            .map(|closed| match closed.entry().act {
                Act::RefuseRepeated { reason, .. } => reason,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(reasons, [OTHER_REASONS, OTHER_ACTORS].map(str::to_owned).into());
    }
}
