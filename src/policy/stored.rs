//! The stored form of the policy: a text, kept as the description of a hidden scope.
//!
//! | words | meaning |
//! |---|---|
//! | `1` | the version of the text |
//! | three for administrator keys, three for others | the longest and the default lifetime in seconds, or `-`; `required` or `optional` |
//! | seconds or `-`, then `list` or `deactivate` | after which time a key is unused, and what happens then |
//! | seconds since the epoch | when that time was set |
//! | seconds since the epoch, or 0 | when unused keys were last deactivated |

use super::{LifetimePolicy, POLICY_SCOPE, Policy, UnusedPolicy};
use crate::{
    error::{Error, Field},
    scope::{NumberedScope, Offer},
    time::Timestamp,
};
use std::time::Duration;

/// The time between two deactivations.
const INTERVAL_MILLIS: u64 = 24 * 3_600_000;
/// The first word of the text.
const VERSION: &str = "1";

/// The policy, and what the store remembers beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PolicyState {
    pub(crate) policy: Policy,
    /// When the time after which a key is unused was set, in whole seconds.
    pub(crate) unused_set_at: Timestamp,
    /// When unused keys were last deactivated, in whole seconds; 0 if never.
    pub(crate) deactivated_at: Timestamp,
}

impl PolicyState {
    /// The state among the scopes of a store. Fails if a newer version wrote it.
    pub(crate) fn among(numbered: &[NumberedScope]) -> Result<Self, Error> {
        let is_policy = |numbered: &&NumberedScope| {
            numbered.scope == POLICY_SCOPE && numbered.offer == Offer::Never
        };
        numbered.iter().find(is_policy).map_or_else(|| Ok(Self::default()), Self::read)
    }

    /// The state in a stored value. Fails if a newer version wrote it.
    pub(crate) fn read(stored: &NumberedScope) -> Result<Self, Error> {
        Self::parse(&stored.description).ok_or_else(|| {
            Error::invalid(Field::Policy, "a newer version wrote it; use that version")
        })
    }

    /// The state after the policy is set.
    pub(crate) fn with_policy(self, policy: Policy, now: Timestamp) -> Self {
        let span = |policy: Policy| policy.unused.map(|unused| unused.after);
        let is_kept = span(policy) == span(self.policy);
        let unused_set_at = if is_kept { self.unused_set_at } else { whole_seconds(now) };
        Self { policy, unused_set_at, ..self }
    }

    /// Whether unused keys may be deactivated now: by the policy, and at most once a day.
    pub(crate) fn may_deactivate(&self, now: Timestamp) -> bool {
        let next = self.deactivated_at.as_millis() + INTERVAL_MILLIS;
        let is_in_policy = self.policy.unused.is_some_and(|unused| unused.deactivate);
        is_in_policy && now.as_millis() >= next
    }

    /// The state after unused keys were deactivated.
    pub(crate) fn with_deactivation(self, now: Timestamp) -> Self {
        Self { deactivated_at: whole_seconds(now), ..self }
    }

    /// The value that keeps the state.
    pub(crate) fn stored(&self) -> NumberedScope {
        NumberedScope { scope: POLICY_SCOPE, description: self.text(), offer: Offer::Never }
    }

    pub(crate) fn text(&self) -> String {
        let Self { policy: Policy { administrators, others, unused }, .. } = self;
        let after = seconds(unused.map(|unused| unused.after));
        let deactivates = unused.is_some_and(|unused| unused.deactivate);
        let act = if deactivates { "deactivate" } else { "list" };
        let (set_at, last) = (self.unused_set_at.as_secs(), self.deactivated_at.as_secs());
        let (administrators, others) = (lifetimes(administrators), lifetimes(others));
        format!("{VERSION} {administrators} {others} {after} {act} {set_at} {last}")
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let words = &mut text.split(' ');
        let is_known = words.next() == Some(VERSION);
        let administrators = parse_lifetimes(words)?;
        let others = parse_lifetimes(words)?;
        let after = parse_seconds(words)?;
        let deactivate = match words.next()? {
            "deactivate" => true,
            "list" => false,
            _ => return None,
        };
        let unused = after.map(|after| UnusedPolicy { after, deactivate });
        let mut time = || Some(Timestamp::from_secs(words.next()?.parse().ok()?));
        let (unused_set_at, deactivated_at) = (time()?, time()?);
        let policy = Policy { administrators, others, unused };
        let state = Self { policy, unused_set_at, deactivated_at };
        // Each state has one text.
        (is_known && state.text() == text).then_some(state)
    }
}

impl From<Policy> for PolicyState {
    fn from(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_secs(time.as_secs())
}

fn seconds(span: Option<Duration>) -> String {
    span.map_or_else(|| "-".to_owned(), |span| span.as_secs().to_string())
}

fn lifetimes(lifetimes: &LifetimePolicy) -> String {
    let required = if lifetimes.required { "required" } else { "optional" };
    format!("{} {} {required}", seconds(lifetimes.max), seconds(lifetimes.default))
}

fn parse_seconds<'t>(words: &mut impl Iterator<Item = &'t str>) -> Option<Option<Duration>> {
    match words.next()? {
        "-" => Some(None),
        digits => Some(Some(Duration::from_secs(digits.parse().ok()?))),
    }
}

fn parse_lifetimes<'t>(words: &mut impl Iterator<Item = &'t str>) -> Option<LifetimePolicy> {
    let (max, default) = (parse_seconds(words)?, parse_seconds(words)?);
    let required = match words.next()? {
        "required" => true,
        "optional" => false,
        _ => return None,
    };
    Some(LifetimePolicy { max, default, required })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unused(days: u64, deactivate: bool) -> Policy {
        let after = Duration::from_secs(days * 86_400);
        Policy { unused: Some(UnusedPolicy { after, deactivate }), ..Policy::default() }
    }

    #[test]
    fn text_of_a_state_is_fixed_and_reads_back() {
        let max = Some(Duration::from_secs(90));
        let administrators = LifetimePolicy { max, default: max, required: true };
        let policy = Policy { administrators, ..unused(30, true) };
        let state = PolicyState::from(policy)
            .with_policy(policy, Timestamp::from_millis(5_999))
            .with_deactivation(Timestamp::from_millis(7_001));
        assert_eq!(state.text(), "1 90 90 required - - optional 2592000 deactivate 0 7");
        assert_eq!(PolicyState::parse(&state.text()), Some(state));
        assert_eq!(PolicyState::default().text(), "1 - - optional - - optional - list 0 0");
        for wrong in ["", "2 - - optional - - optional - list 0 0", "1 - - optional"] {
            assert_eq!(PolicyState::parse(wrong), None, "{wrong:?}");
        }
        for more in [" 1", " ", "0"] {
            assert_eq!(PolicyState::parse(&(state.text() + more)).is_some(), more == "0");
        }
    }

    #[test]
    fn time_of_the_setting_changes_only_with_the_span() {
        let at = Timestamp::from_secs;
        let set = PolicyState::default().with_policy(unused(30, false), at(10));
        assert_eq!(set.unused_set_at, at(10));
        assert_eq!(set.with_policy(unused(30, true), at(20)).unused_set_at, at(10));
        assert_eq!(set.with_policy(unused(20, true), at(30)).unused_set_at, at(30));
        assert_eq!(set.with_policy(Policy::default(), at(40)).unused_set_at, at(40));
    }
}
