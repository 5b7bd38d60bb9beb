//! Adding scopes to a store, and hiding them.
//!
//! A number is never given to another scope, so no scope is removed: keys keep a hidden scope, and other keys cannot
//! get it.

use super::{acting::Acting, caller::Caller, core::Core, handle::Store, planning::Planning};
use crate::{
    audit_entry::{Act, Attempt},
    error::{Error, Field, Forbidden},
    id::KeyId,
    policy::{POLICY_SCOPE, Policy, PolicyState},
    record::{Actor, is_description},
    scope::{MAX_SCOPES, NumberedScope, Offer, Scope, TooManyScopes, catalogue},
    secret::Secret,
    time::Timestamp,
};
use std::sync::PoisonError;

/// A change of one scope.
enum ScopeChange<'d> {
    Add {
        description: &'d str,
    },
    Hide,
    SetPolicy(Policy),
    /// Records that unused keys are deactivated now.
    DeactivateUnused {
        keys: usize,
        now: Timestamp,
        obsolete: &'d [KeyId],
    },
}

impl Store {
    /// Adds a scope, describes it again, or offers it again after it was hidden. The description has 1 to
    /// 200 characters in one line. When this returns, every replica offers the scope.
    ///
    /// A store keeps at most 256 scopes, hidden ones included. A host can also add its own scopes when it
    /// opens the store: see [`Builder::scopes`](crate::Builder::scopes).
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// store.add_scope(&"ledger.close".parse()?, "close a year")?;
    /// assert!(store.scopes(["ledger.close"]).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_scope(&self, scope: &Scope, description: &str) -> Result<(), Error> {
        self.acting_as(Actor::Host).add_scope(scope, description)
    }

    /// Hides a scope: keys keep it, and other keys cannot get it. The scopes for key management cannot be
    /// hidden. When this returns, no replica offers the scope.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// let scope = "ledger.close".parse()?;
    /// store.add_scope(&scope, "close a year")?;
    /// store.hide_scope(&scope)?;
    /// assert!(store.scopes(["ledger.close"]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hide_scope(&self, scope: &Scope) -> Result<(), Error> {
        self.acting_as(Actor::Host).hide_scope(scope)
    }
}

impl Acting<'_> {
    /// [`Store::add_scope`] for this actor: the host, a local operator or a root key.
    pub fn add_scope(&self, scope: &Scope, description: &str) -> Result<(), Error> {
        if !is_description(description) || Secret::occurs_in(description) {
            return Err(Error::invalid(
                Field::Description,
                "must be 1 to 200 characters in one line, without invisible characters and without an API key",
            ));
        }
        self.caller().change_scope(scope, &ScopeChange::Add { description })
    }

    /// [`Store::hide_scope`] for this actor: the host, a local operator or a root key.
    pub fn hide_scope(&self, scope: &Scope) -> Result<(), Error> {
        self.caller().change_scope(scope, &ScopeChange::Hide)
    }
}

impl Caller<'_> {
    /// Sets the policy, which is stored as a hidden scope: so every replica and backup has it.
    pub(super) fn set_policy(self, policy: Policy) -> Result<(), Error> {
        self.change(&POLICY_SCOPE, &ScopeChange::SetPolicy(policy)).map(drop)
    }

    /// Records that this many unused keys are deactivated now, unless that was done already. Deletes the
    /// `obsolete` uses.
    pub(super) fn begin_deactivation(
        self,
        keys: usize,
        now: Timestamp,
        obsolete: &[KeyId],
    ) -> Result<bool, Error> {
        self.change(&POLICY_SCOPE, &ScopeChange::DeactivateUnused { keys, now, obsolete })
    }

    fn change_scope(self, scope: &Scope, change: &ScopeChange<'_>) -> Result<(), Error> {
        if *scope == POLICY_SCOPE {
            let reason = format!("{scope} is reserved for the policy; set the policy instead");
            return Err(Error::invalid(Field::Scopes, reason));
        }
        self.change(scope, change).map(drop)
    }

    /// Returns whether anything changed.
    fn change(self, scope: &Scope, change: &ScopeChange<'_>) -> Result<bool, Error> {
        let core = self.core;
        let (attempt, refused) = match change {
            ScopeChange::SetPolicy(_) | ScopeChange::DeactivateUnused { .. } => {
                (Attempt::SetPolicy, Forbidden::PolicyIsRoots)
            }
            _ => (Attempt::ChangeScopes, Forbidden::ScopesAreRoots),
        };
        let begin = || Planning::begin(self, attempt, None)?.require_root(attempt, refused.clone());
        drop(begin()?);
        // Each plan must see the numbers that the one before assigned.
        let _one_at_a_time = core.scope_changes.lock().unwrap_or_else(PoisonError::into_inner);
        core.number_names()?;
        let has_changed = core.retry(|| {
            let names = core.names().clone();
            let numbered = names.numbered();
            let number = numbered
                .iter()
                .position(|numbered| numbered.scope == *scope)
                .unwrap_or(numbered.len());
            let Some((new, act)) = change.apply(core, scope, numbered.get(number), number)? else {
                return Ok(false);
            };
            begin()?.set_scope(&names, number, &new, act, change.obsolete())?;
            if core.ledger.replicas().is_none() {
                core.names_mut().set(number, new)?;
            }
            Ok(true)
        })?;
        core.wait_for_replicas();
        Ok(has_changed)
    }
}

impl ScopeChange<'_> {
    /// The values among the last uses that the change deletes.
    fn obsolete(&self) -> &[KeyId] {
        match self {
            Self::DeactivateUnused { obsolete, .. } => obsolete,
            _ => &[],
        }
    }

    /// The new state of a scope and the act to record; `None` if nothing changes.
    fn apply(
        &self,
        core: &Core,
        scope: &Scope,
        before: Option<&NumberedScope>,
        number: usize,
    ) -> Result<Option<(NumberedScope, Act)>, Error> {
        let (after, act) = match self {
            Self::Add { description } => {
                let description = (*description).to_owned();
                let number = u8::try_from(number).ok().filter(|_| number < MAX_SCOPES);
                let act = Act::AddScope {
                    scope: scope.clone(),
                    number: number.ok_or(TooManyScopes)?,
                    description: description.clone(),
                };
                (NumberedScope { scope: scope.clone(), description, offer: Offer::Always }, act)
            }
            Self::SetPolicy(policy) => {
                let number = u8::try_from(number).ok().filter(|_| number < MAX_SCOPES);
                let act = Act::SetPolicy { policy: *policy, number: number.ok_or(TooManyScopes)? };
                let state = before.map_or_else(|| Ok(PolicyState::default()), PolicyState::read);
                // The policy of a newer version is replaced as a whole.
                let state = state.unwrap_or_default();
                (state.with_policy(*policy, core.clock.now()).stored(), act)
            }
            Self::DeactivateUnused { keys, now, .. } => {
                let Some(state) = before.map(PolicyState::read).transpose()? else {
                    return Ok(None);
                };
                if !state.may_deactivate(*now) {
                    return Ok(None);
                }
                let act = Act::DeactivateUnused { keys: *keys as u64 };
                (state.with_deactivation(*now).stored(), act)
            }
            Self::Hide if catalogue::is_key_management(scope) => {
                let reason = format!("{scope} is for key management and cannot be hidden");
                return Err(Error::invalid(Field::Scopes, reason));
            }
            Self::Hide => {
                let Some(before) = before else {
                    // The error lists the known names.
                    return Err(core.catalogue().unknown(scope.as_str()).into());
                };
                let hidden = NumberedScope { offer: Offer::Never, ..before.clone() };
                (hidden, Act::HideScope { scope: scope.clone() })
            }
        };
        Ok((before != Some(&after)).then_some((after, act)))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Actor, Error, Expiry, NewKey, Scope, Store};

    fn scope(name: &str) -> Scope {
        name.parse().unwrap()
    }

    fn offered(store: &Store) -> Vec<&'static str> {
        let own = store.catalogue().entries().iter().filter(|entry| entry.offered);
        own.map(|entry| entry.scope.as_str()).filter(|name| !name.starts_with("admin.")).collect()
    }

    #[test]
    fn added_scope_survives_reopening_and_a_hidden_one_stays_with_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("keys");
        let store = Store::open(&dir).unwrap();
        let (one, two) = (scope("x.one"), scope("x.two"));
        store.add_scope(&one, "the first").unwrap();
        store.add_scope(&two, "the second").unwrap();
        let both = store.scopes(["x.one", "x.two"]).unwrap();
        let issued = store.issue(NewKey::new("a", both, Expiry::Never)).unwrap();
        let key = issued.secret.reveal(ToOwned::to_owned);
        store.hide_scope(&one).unwrap();
        let check = |store: &Store| {
            assert_eq!(offered(store), ["x.two"]);
            assert!(store.scopes(["x.one"]).is_err());
            let principal = store.authenticate_key(key.as_bytes()).unwrap();
            assert!(principal.require(&one).is_ok() && principal.require(&two).is_ok());
        };
        check(&store);
        drop(store);
        check(&Store::open(&dir).unwrap());
    }

    #[test]
    fn hidden_scope_is_offered_again_with_its_new_description() {
        let store = Store::in_memory().unwrap();
        store.add_scope(&scope("x.one"), "the first").unwrap();
        store.hide_scope(&scope("x.one")).unwrap();
        store.add_scope(&scope("x.one"), "the one").unwrap();
        let entries = store.catalogue().entries();
        let found: Vec<_> = entries.iter().filter(|e| e.scope.as_str() == "x.one").collect();
        assert_eq!((found.len(), found[0].offered, &*found[0].description), (1, true, "the one"));
    }

    #[test]
    fn repeated_change_of_a_scope_writes_nothing() {
        let store = Store::in_memory().unwrap();
        store.add_scope(&scope("x.one"), "the first").unwrap();
        let before = store.catalogue();
        store.add_scope(&scope("x.one"), "the first").unwrap();
        assert!(std::ptr::eq(before, store.catalogue()));
    }

    #[test]
    fn scopes_added_at_the_same_time_get_numbers_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("keys");
        let store = Store::open(&dir).unwrap();
        std::thread::scope(|threads| {
            for number in 0..8 {
                let store = &store;
                threads.spawn(move || store.add_scope(&scope(&format!("x.s{number}")), "one of 8"));
            }
        });
        drop(store);
        let mut names = offered(&Store::open(&dir).unwrap());
        names.sort_unstable();
        assert_eq!(names, ["x.s0", "x.s1", "x.s2", "x.s3", "x.s4", "x.s5", "x.s6", "x.s7"]);
    }

    #[test]
    fn only_root_and_local_operators_change_scopes() {
        let store = Store::in_memory().unwrap();
        let all = store.catalogue().entries().iter().map(|entry| entry.scope.as_str());
        let strong = NewKey::new("strong", store.scopes(all).unwrap(), Expiry::Never);
        let strong = Actor::Key(store.issue(strong).unwrap().record.id);
        let root = NewKey::new("root", crate::Grant::All, Expiry::Never);
        let root = Actor::Key(store.issue(root).unwrap().record.id);
        let add = |actor| store.acting_as(actor).add_scope(&scope("x.one"), "the first");
        let hide = |actor| store.acting_as(actor).hide_scope(&scope("x.one"));
        assert!(matches!(add(strong), Err(Error::Forbidden(_))));
        assert!(offered(&store).is_empty());
        add(root).unwrap();
        assert!(matches!(hide(strong), Err(Error::Forbidden(_))));
        assert_eq!(offered(&store), ["x.one"]);
        hide(Actor::Local(7)).unwrap();
        assert!(offered(&store).is_empty());
    }

    #[test]
    fn bad_descriptions_and_names_are_refused_and_change_nothing() {
        let store = Store::in_memory().unwrap();
        let long = "x".repeat(201);
        let root = store.issue(NewKey::new("root", crate::Grant::All, Expiry::Never)).unwrap();
        let key = &*root.secret.reveal(ToOwned::to_owned);
        for bad in ["", "two\nlines", "a\u{202e}b", &long, key] {
            let refused = store.add_scope(&scope("x.one"), bad).unwrap_err();
            assert!(refused.to_string().starts_with("description: "), "{bad}: {refused}");
        }
        let unknown = store.hide_scope(&scope("x.one")).unwrap_err();
        assert!(unknown.to_string().contains("unknown scope x.one"), "{unknown}");
        for kept in store.catalogue().entries() {
            assert!(matches!(store.hide_scope(&kept.scope), Err(Error::Invalid { .. })));
        }
        assert!(offered(&store).is_empty());
    }
}
