//! The query of a list: filters, order and page.

use crate::{
    index::{Sort, SortBy},
    record::Actor,
    scope::Scope,
    time::Timestamp,
};
use std::time::Duration;

/// Which keys to list, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListQuery {
    /// Only active or only inactive ones.
    pub active: Option<bool>,
    /// Only those that are entitled to this scope.
    pub scope: Option<Scope>,
    /// Only those of this owner; `Some(None)`: only those without an owner.
    pub owner: Option<Option<String>>,
    /// Only those that this actor created.
    pub creator: Option<Actor>,
    /// Only those whose expiry has come, or only the others.
    pub expired: Option<bool>,
    /// Only those that another key replaced, or only the others.
    pub replaced: Option<bool>,
    /// Only keys of other systems, whose strength is unknown, or only the others.
    pub imported: Option<bool>,
    /// Only those that live longer than the [policy](crate::Policy) of the store lets a key that is created now, or
    /// only the others. Root keys are exempt.
    pub exceeds_policy: Option<bool>,
    /// Only active keys that expire within this time from now. Keys that another key replaced are not among
    /// them.
    pub expiring_within: Option<Duration>,
    /// Only those that were created before this time and not used since, to the minute.
    pub unused_since: Option<Timestamp>,
    /// Only those that were used, or only those that never were.
    pub used: Option<bool>,
    /// Only those that were created at this time or later.
    pub created_from: Option<Timestamp>,
    /// Only those that were created before this time.
    pub created_until: Option<Timestamp>,
    /// Only those whose name or id contains this text. The comparison ignores letter case and uses
    /// Unicode compatibility equivalence: `strasse` finds `Straße`. A whole id, the beginning `pcl_…` of a
    /// key's text and a whole key select the key with that id; of a whole key, only its id is used.
    pub text: Option<String>,
    /// The order.
    pub sort: Sort,
    /// Whether to count all keys that the filters select, which reads every key.
    pub count_all: bool,
    /// The page size: 1 to 200; the default is 50.
    pub page_size: Option<usize>,
    /// The token of the page before. Filters and order must be those of that page; the size may differ.
    pub page_token: Option<String>,
}

impl ListQuery {
    /// Selects only active or only inactive keys.
    #[must_use]
    pub fn with_active(self, active: bool) -> Self {
        Self { active: Some(active), ..self }
    }

    /// Selects keys that are entitled to this scope.
    #[must_use]
    pub fn with_scope(self, scope: Scope) -> Self {
        Self { scope: Some(scope), ..self }
    }

    /// Selects the keys of this owner.
    #[must_use]
    pub fn with_owner(self, owner: impl Into<String>) -> Self {
        Self { owner: Some(Some(owner.into())), ..self }
    }

    /// Selects the keys without an owner.
    #[must_use]
    pub fn without_owner(self) -> Self {
        Self { owner: Some(None), ..self }
    }

    /// Selects the keys that this actor created.
    #[must_use]
    pub fn with_creator(self, creator: Actor) -> Self {
        Self { creator: Some(creator), ..self }
    }

    /// Selects keys whose expiry has come, or only the others.
    #[must_use]
    pub fn with_expired(self, expired: bool) -> Self {
        Self { expired: Some(expired), ..self }
    }

    /// Selects keys that another key replaced, or only the others.
    #[must_use]
    pub fn with_replaced(self, replaced: bool) -> Self {
        Self { replaced: Some(replaced), ..self }
    }

    /// Selects keys of other systems, or only the others.
    #[must_use]
    pub fn with_imported(self, imported: bool) -> Self {
        Self { imported: Some(imported), ..self }
    }

    /// Selects keys that live longer than the policy allows, or only the others.
    #[must_use]
    pub fn with_exceeds_policy(self, exceeds: bool) -> Self {
        Self { exceeds_policy: Some(exceeds), ..self }
    }

    /// Selects active keys that expire within this time and were not replaced.
    #[must_use]
    pub fn expiring_within(self, span: Duration) -> Self {
        Self { expiring_within: Some(span), ..self }
    }

    /// Selects keys that were created before this time and not used since.
    #[must_use]
    pub fn unused_since(self, since: Timestamp) -> Self {
        Self { unused_since: Some(since), ..self }
    }

    /// Selects keys that were used, or only those that never were.
    #[must_use]
    pub fn with_used(self, used: bool) -> Self {
        Self { used: Some(used), ..self }
    }

    /// Selects keys that were created at this time or later.
    #[must_use]
    pub fn created_from(self, from: Timestamp) -> Self {
        Self { created_from: Some(from), ..self }
    }

    /// Selects keys that were created before this time.
    #[must_use]
    pub fn created_until(self, until: Timestamp) -> Self {
        Self { created_until: Some(until), ..self }
    }

    /// Selects keys whose name or id contains this text.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..self }
    }

    /// Sets the order.
    #[must_use]
    pub fn sorted_by(self, by: SortBy, descending: bool) -> Self {
        Self { sort: Sort { by, descending }, ..self }
    }

    /// Counts all keys that the filters select.
    #[must_use]
    pub fn with_total(self) -> Self {
        Self { count_all: true, ..self }
    }

    /// Sets the page size.
    #[must_use]
    pub fn with_page_size(self, size: usize) -> Self {
        Self { page_size: Some(size), ..self }
    }

    /// Continues after the page that returned this token.
    #[must_use]
    pub fn with_page_token(self, token: impl Into<String>) -> Self {
        Self { page_token: Some(token.into()), ..self }
    }
}
