//! The policy of a store: how long keys may live, and what happens to unused keys.

mod stored;

pub(crate) use self::stored::PolicyState;

use crate::{
    error::{Error, Field},
    record::{Expiry, Record},
    scope::{Grant, Plane, Scope},
    time::Timestamp,
};
use std::{ops::RangeInclusive, time::Duration};

/// The reserved name that the policy is stored under, as a hidden scope. An earlier version sees a hidden
/// scope, so it keeps the policy and does not enforce it.
pub(crate) const POLICY_SCOPE: Scope = Scope::from_static("portcullis.policy");
/// The spans that a policy may have, in seconds.
const SPANS: RangeInclusive<u64> = 1..=u32::MAX as u64;
/// The shortest time after which a key is unused.
const MIN_UNUSED: Duration = Duration::from_hours(24);

/// How long keys may live, and what happens to unused keys. The default policy limits nothing.
///
/// Root keys are exempt, because a store must keep one that never expires.
///
/// ```
/// # use portcullis::*;
/// # use std::time::Duration;
/// let store = Store::in_memory()?;
/// let year = LifetimePolicy { max: Some(Duration::from_hours(365 * 24)), ..Default::default() };
/// store.set_policy(Policy { administrators: year, others: year, unused: None })?;
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
    /// When a key is unused, and what happens then; `None`: no key is.
    pub unused: Option<UnusedPolicy>,
}

/// When a key is unused, and what happens then. See [`Store::unused_keys`](crate::Store::unused_keys).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnusedPolicy {
    /// The time without a use after which an active key is unused: at least a day, in whole seconds, rounded
    /// down.
    pub after: Duration,
    /// Whether unused keys are deactivated; else they are only listed.
    pub deactivate: bool,
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
        if lifetimes.into_iter().flatten().any(|span| !SPANS.contains(&span.as_secs())) {
            return invalid("a lifetime must be 1 to 4294967295 seconds");
        }
        match (checked.max, checked.default) {
            (Some(max), Some(default)) if default > max => {
                invalid("the default lifetime must not exceed the longest lifetime")
            }
            _ => Ok(checked),
        }
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

impl UnusedPolicy {
    fn checked(self) -> Result<Self, Error> {
        let after = Duration::from_secs(self.after.as_secs());
        if after < MIN_UNUSED || !SPANS.contains(&after.as_secs()) {
            let reason = "the time after which a key is unused must be 1 day to 4294967295 seconds";
            return Err(Error::invalid(Field::Policy, reason));
        }
        Ok(Self { after, ..self })
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
        let unused = self.unused.map(UnusedPolicy::checked).transpose()?;
        Ok(Self { administrators, others, unused })
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
