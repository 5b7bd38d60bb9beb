//! The policy of a store: how long keys may live.

use crate::{
    error::{Error, Field},
    record::{Expiry, Record},
    scope::{Grant, NumberedScope, Offer, Plane, Scope},
    time::Timestamp,
};
use std::{ops::RangeInclusive, time::Duration};

/// The reserved name that the policy is stored under, as a hidden scope. An earlier version sees a hidden
/// scope, so it keeps the policy and does not enforce it.
pub(crate) const POLICY_SCOPE: Scope = Scope::from_static("portcullis.policy");
/// The lifetimes that a policy may have, in seconds.
const LIFETIMES: RangeInclusive<u64> = 1..=u32::MAX as u64;
/// The first word of the stored text.
const VERSION: &str = "1";

/// How long keys may live. The default policy limits nothing.
///
/// Root keys are exempt, because a store must keep one that never expires.
///
/// ```
/// # use portcullis::*;
/// # use std::time::Duration;
/// let store = Store::in_memory()?;
/// let year = LifetimePolicy { max: Some(Duration::from_hours(365 * 24)), ..Default::default() };
/// store.set_policy(Policy { administrators: year, others: year })?;
/// let lasting = NewKey::new("a", store.scopes(["admin.key.list"])?, Expiry::Never);
/// assert!(store.issue(lasting).is_err());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// For keys with a scope of the Administration plane, except root keys.
    pub administrators: LifetimePolicy,
    /// For all other keys, except root keys.
    pub others: LifetimePolicy,
}

/// How long one kind of keys may live. Lifetimes are whole seconds, rounded down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LifetimePolicy {
    /// The longest lifetime, from the creation or the change. It also requires an expiry.
    pub max: Option<Duration>,
    /// The lifetime of a key whose creator named no expiry.
    pub default: Option<Duration>,
    /// Whether an expiry is required.
    pub required: bool,
}

impl LifetimePolicy {
    /// The same lifetimes in whole seconds. Fails for one of zero, and for a default above the maximum.
    fn checked(self) -> Result<Self, Error> {
        let invalid = |reason: &str| Err(Error::invalid(Field::Policy, reason.to_owned()));
        let whole = |span: Duration| Duration::from_secs(span.as_secs());
        let checked = Self { max: self.max.map(whole), default: self.default.map(whole), ..self };
        let lifetimes = [checked.max, checked.default];
        if lifetimes.into_iter().flatten().any(|span| !LIFETIMES.contains(&span.as_secs())) {
            return invalid("a lifetime must be 1 to 4294967295 seconds");
        }
        match (checked.max, checked.default) {
            (Some(max), Some(default)) if default > max => {
                invalid("the default lifetime must not exceed the longest lifetime")
            }
            _ => Ok(checked),
        }
    }

    fn text(self) -> String {
        let seconds = |span: Option<Duration>| {
            span.map_or_else(|| "-".to_owned(), |span| span.as_secs().to_string())
        };
        let required = if self.required { "required" } else { "optional" };
        format!("{} {} {required}", seconds(self.max), seconds(self.default))
    }

    fn parse<'t>(words: &mut impl Iterator<Item = &'t str>) -> Option<Self> {
        let mut seconds = || match words.next()? {
            "-" => Some(None),
            digits => Some(Some(Duration::from_secs(digits.parse().ok()?))),
        };
        let (max, default) = (seconds()?, seconds()?);
        let required = match words.next()? {
            "required" => true,
            "optional" => false,
            _ => return None,
        };
        Some(Self { max, default, required })
    }

    /// Checks the expiry of a key whose lifetime is counted from `now`.
    fn check(self, expiry: Expiry, now: Timestamp) -> Result<(), Error> {
        let reason = match (expiry, self.max) {
            (Expiry::Never, None) if self.required => {
                "must be set: the policy of the store requires an expiry".to_owned()
            }
            (Expiry::Never, Some(max)) => {
                format!("must be set, at most {} from now, by the policy of the store", words(max))
            }
            (Expiry::At(_), Some(max)) if expiry > Expiry::after_since(now, max) => {
                format!("must be at most {} from now, by the policy of the store", words(max))
            }
            _ => return Ok(()),
        };
        Err(Error::invalid(Field::ExpiresAt, reason))
    }
}

impl Policy {
    /// The lifetimes of keys with this grant; `None` for root keys, which are exempt.
    pub fn of(&self, grant: &Grant) -> Option<LifetimePolicy> {
        match grant {
            Grant::All => None,
            Grant::Scopes(_) if administers(grant) => Some(self.administrators),
            Grant::Scopes(_) => Some(self.others),
        }
    }

    pub(crate) fn checked(self) -> Result<Self, Error> {
        let (administrators, others) = (self.administrators.checked()?, self.others.checked()?);
        Ok(Self { administrators, others })
    }

    /// The expiry of a key that is created now, if its creator named none.
    pub(crate) fn default_expiry(&self, grant: &Grant, now: Timestamp) -> Expiry {
        let span = self.of(grant).and_then(|lifetimes| lifetimes.default);
        span.map_or(Expiry::Never, |span| Expiry::after_since(now, span))
    }

    /// Whether the policy limits a change: one that extends the expiry, reactivates a key or makes it an
    /// administrator key. Every other change of a key that exceeds the policy is allowed, so that it can always
    /// be restricted.
    pub(crate) fn limits(before: &Record, after: &Record) -> bool {
        let is_raised = administers(&after.grant) && !administers(&before.grant);
        let is_unrooted = before.grant == Grant::All && after.grant != Grant::All;
        let extends = after.expiry > before.expiry;
        let reactivates = after.active && !before.active;
        is_raised || is_unrooted || extends || reactivates
    }

    /// Whether a key with this grant and expiry lives longer than the policy lets one that is created now.
    pub(crate) fn is_exceeded_by(&self, grant: &Grant, expiry: Expiry, now: Timestamp) -> bool {
        self.of(grant).is_some_and(|lifetimes| lifetimes.check(expiry, now).is_err())
    }

    /// Checks a key whose lifetime is counted from `now`.
    pub(crate) fn check(&self, record: &Record, now: Timestamp) -> Result<(), Error> {
        self.of(&record.grant).map_or(Ok(()), |lifetimes| lifetimes.check(record.expiry, now))
    }

    /// Whether this is the reserved name that the policy is stored under, as a hidden scope.
    pub fn is_stored_as(scope: &Scope) -> bool {
        *scope == POLICY_SCOPE
    }

    /// The policy among the scopes of a store. Fails if a newer version wrote it.
    pub(crate) fn among(numbered: &[NumberedScope]) -> Result<Self, Error> {
        let stored = numbered
            .iter()
            .find(|numbered| numbered.scope == POLICY_SCOPE && numbered.offer == Offer::Never);
        let Some(stored) = stored else { return Ok(Self::default()) };
        Self::parse(&stored.description).ok_or_else(|| {
            Error::invalid(Field::Policy, "a newer version wrote it; use that version")
        })
    }

    /// The value that keeps the policy.
    pub(crate) fn stored(&self) -> NumberedScope {
        let (administrators, others) = (self.administrators.text(), self.others.text());
        let description = format!("{VERSION} {administrators} {others}");
        NumberedScope { scope: POLICY_SCOPE, description, offer: Offer::Never }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let is_known = words.next() == Some(VERSION);
        let administrators = LifetimePolicy::parse(&mut words)?;
        let others = LifetimePolicy::parse(&mut words)?;
        (is_known && words.next().is_none()).then_some(Self { administrators, others })
    }
}

/// Formats a lifetime, in days if it is whole days.
fn words(span: Duration) -> String {
    match span.as_secs() {
        86_400 => "1 day".to_owned(),
        seconds if seconds % 86_400 == 0 => format!("{} days", seconds / 86_400),
        seconds => format!("{seconds} seconds"),
    }
}

/// Whether a key with this grant is an administrator key or a root key.
fn administers(grant: &Grant) -> bool {
    match grant {
        Grant::All => true,
        Grant::Scopes(set) => set.iter().any(|scope| scope.plane() == Plane::Administration),
    }
}
