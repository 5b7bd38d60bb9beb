//! Scopes: what a key may do, in two planes, and the numbered names of a store.
//!
//! A store numbers its scope names in a table that only grows: at most 256 names, and a number is
//! never given to another name. A [`ScopeSet`] is a bit set over that table. So a check for a scope
//! is one bit, and new scopes never change the meaning of a stored record.

pub mod catalogue;
mod name;
mod unoffered;

pub use self::name::{ParseScopeError, Plane, Scope};

use std::{borrow::Cow, fmt, sync::Mutex};

/// The most scope names of a store.
pub(crate) const MAX_SCOPES: usize = 256;

/// No scope of this name is offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope {name}; the known ones are {known}")]
#[non_exhaustive]
pub struct UnknownScope {
    /// The requested name, if it is well formed.
    pub name: Box<str>,
    /// All offered names, joined by commas.
    pub known: Box<str>,
}

/// A store numbers at most 256 scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a store numbers at most 256 scopes, hidden ones included; add fewer new ones")]
pub struct TooManyScopes;

/// One scope of a catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name.
    pub scope: Scope,
    /// A description of what it allows; may be empty.
    pub description: Cow<'static, str>,
    /// Whether new keys may have it. Keys keep a scope that is not offered any more, and other keys cannot
    /// get it.
    pub offered: bool,
}

/// A scope as a store keeps it, under a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NumberedScope {
    pub(crate) scope: Scope,
    /// Empty if nobody described it.
    pub(crate) description: String,
    pub(crate) offer: Offer,
}

/// Whether a numbered scope is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// While the host names it, or names no scopes at all.
    ByHost,
    /// Always: it was added to the store itself.
    Always,
    /// Not any more: it was hidden.
    Never,
}

impl From<Scope> for NumberedScope {
    fn from(scope: Scope) -> Self {
        Self { scope, description: String::new(), offer: Offer::ByHost }
    }
}

impl NumberedScope {
    fn entry(self, host: Option<&[(Scope, String)]>) -> Entry {
        let by_host = host.into_iter().flatten().find(|(scope, _)| *scope == self.scope);
        let built_in = catalogue::description(&self.scope);
        let offered = match self.offer {
            // Earlier versions gave every store the preset, without descriptions. Such stores keep it.
            Offer::ByHost => {
                host.is_none()
                    || by_host.is_some()
                    || (self.description.is_empty() && built_in.is_some())
            }
            Offer::Always => true,
            Offer::Never => false,
        };
        let by_host = by_host.map(|(_, about)| about).filter(|about| !about.is_empty());
        let description = match by_host {
            Some(about) if self.offer == Offer::ByHost => Cow::Owned(about.clone()),
            _ if !self.description.is_empty() => Cow::Owned(self.description),
            Some(about) => Cow::Owned(about.clone()),
            None => Cow::Borrowed(built_in.unwrap_or_default()),
        };
        Entry { scope: self.scope, description, offered }
    }
}

/// The numbered scope names of a store.
///
/// A process keeps each distinct catalogue until the process ends. A process opens few stores, and their
/// scopes change rarely. In return a set of scopes is a plain value without a lock or a reference count.
pub struct Catalogue(Vec<Entry>);

impl Catalogue {
    /// The stored scopes in the order of their numbers, then the scopes for key management and those of
    /// the host, as far as they are new. Without a list from the host every stored scope is offered that
    /// was not hidden.
    pub(crate) fn new(
        stored: Vec<NumberedScope>,
        host: Option<&[(Scope, String)]>,
    ) -> Result<&'static Self, TooManyScopes> {
        let mut entries: Vec<Entry> =
            stored.into_iter().map(|numbered| numbered.entry(host)).collect();
        let key_management = catalogue::KEY_MANAGEMENT.iter().map(|(scope, _)| scope);
        for scope in key_management.chain(host.into_iter().flatten().map(|(scope, _)| scope)) {
            if entries.iter().all(|entry| entry.scope != *scope) {
                entries.push(NumberedScope::from(scope.clone()).entry(host));
            }
        }
        if entries.len() > MAX_SCOPES {
            return Err(TooManyScopes);
        }
        Ok(Self(entries).interned())
    }

    /// The scopes of a store of an earlier version: the preset, then those for key management.
    #[cfg(test)]
    pub(crate) fn with_preset() -> &'static Self {
        let preset = catalogue::FINANCIAL_DATA.iter().chain(catalogue::KEY_MANAGEMENT);
        let stored = preset.map(|(scope, _)| scope.clone().into()).collect();
        Self::new(stored, None).unwrap()
    }

    fn interned(self) -> &'static Self {
        static OPENED: Mutex<Vec<&'static Catalogue>> = Mutex::new(Vec::new());
        let mut opened = OPENED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(same) = opened.iter().find(|catalogue| catalogue.0 == self.0) {
            return same;
        }
        let kept: &'static Self = Box::leak(Box::new(self));
        opened.push(kept);
        kept
    }

    /// Returns the scopes in the order of their numbers.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Returns the scope of this name, hidden or not: a check for a hidden scope still holds.
    pub fn find(&self, name: &str) -> Result<&Entry, UnknownScope> {
        let found = self.0.iter().find(|entry| entry.scope.as_str() == name);
        found.ok_or_else(|| self.unknown(name))
    }

    /// The number of a scope.
    pub(crate) fn number(&self, scope: &Scope) -> Option<usize> {
        self.0.iter().position(|entry| entry.scope == *scope)
    }

    /// The set of these names. The error for a name that is not offered lists the offered names.
    pub(crate) fn set<S: AsRef<str>>(
        &'static self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<ScopeSet, UnknownScope> {
        let mut set = self.empty();
        for name in names {
            let name = name.as_ref();
            match self.0.iter().position(|entry| entry.offered && entry.scope.as_str() == name) {
                Some(number) => set.insert(number),
                None => return Err(self.unknown(name)),
            }
        }
        Ok(set)
    }

    /// The set of these scopes, whether they are offered or not.
    pub(crate) fn set_of<'s>(
        &'static self,
        scopes: impl IntoIterator<Item = &'s Scope>,
    ) -> Result<ScopeSet, UnknownScope> {
        let mut set = self.empty();
        for scope in scopes {
            set.insert(self.number(scope).ok_or_else(|| self.unknown(scope.as_str()))?);
        }
        Ok(set)
    }

    /// The error that refuses a name and lists the offered ones.
    pub(crate) fn unknown(&self, name: &str) -> UnknownScope {
        UnknownScope { name: shown(name), known: self.offered_names().into() }
    }

    /// Converts a set of another catalogue into the set of the same names in this one.
    pub(crate) fn localized(&'static self, set: ScopeSet) -> Result<ScopeSet, UnknownScope> {
        if std::ptr::eq(self, set.catalogue) {
            return Ok(set);
        }
        self.set(set.iter().map(Scope::as_str))
    }

    fn offered_names(&self) -> String {
        let names: Vec<&str> =
            self.0.iter().filter(|e| e.offered).map(|e| e.scope.as_str()).collect();
        names.join(", ")
    }

    pub(crate) fn empty(&'static self) -> ScopeSet {
        ScopeSet { bits: [0; 4], catalogue: self }
    }

    /// The set with these bits; `None` if one of them has no name.
    pub(crate) fn set_of_bits(&'static self, bits: [u64; 4]) -> Option<ScopeSet> {
        let set = ScopeSet { bits, catalogue: self };
        (set.numbers().all(|number| number < self.0.len())).then_some(set)
    }
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|entry| &entry.scope)).finish()
    }
}

/// The text for the error that refuses an unknown scope. A malformed name is not repeated, since a
/// caller may have pasted a key into the wrong field.
fn shown(name: &str) -> Box<str> {
    match name.parse::<Scope>() {
        Ok(scope) => scope.as_str().into(),
        Err(_) => "(not a scope name)".into(),
    }
}

/// A set of scopes of one store, created by [`Store::scopes`](crate::Store::scopes).
///
/// The empty set grants nothing.
#[derive(Clone, Copy)]
pub struct ScopeSet {
    bits: [u64; 4],
    catalogue: &'static Catalogue,
}

impl ScopeSet {
    /// Whether the set has this scope.
    pub fn contains(&self, scope: &Scope) -> bool {
        self.catalogue.number(scope).is_some_and(|number| self.has(number))
    }

    /// Whether every scope of this set is in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        if std::ptr::eq(self.catalogue, other.catalogue) {
            self.bits.iter().zip(other.bits).all(|(mine, theirs)| mine & !theirs == 0)
        } else {
            self.iter().all(|scope| other.contains(scope))
        }
    }

    /// The scopes of both sets, which must be of one store.
    pub(crate) fn intersection(mut self, other: &Self) -> Self {
        self.bits.iter_mut().zip(other.bits).for_each(|(mine, theirs)| *mine &= theirs);
        self
    }

    /// The scopes of this set without these.
    pub(crate) fn without(mut self, removed: &[Scope]) -> Self {
        let numbers: Vec<usize> =
            removed.iter().filter_map(|scope| self.catalogue.number(scope)).collect();
        for number in numbers {
            if let Some(word) = self.bits.get_mut(number / 64) {
                *word &= !(1 << (number % 64));
            }
        }
        self
    }

    /// Returns the scopes in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &'static Scope> + use<> {
        let catalogue = self.catalogue;
        self.numbers().filter_map(move |number| catalogue.0.get(number).map(|entry| &entry.scope))
    }

    /// Returns the number of scopes.
    pub fn len(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set has no scope.
    pub fn is_empty(&self) -> bool {
        self.bits == [0; 4]
    }

    pub(crate) fn bits(&self) -> [u64; 4] {
        self.bits
    }

    fn has(&self, number: usize) -> bool {
        self.bits.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn insert(&mut self, number: usize) {
        if let Some(word) = self.bits.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = usize> + use<> {
        let set = *self;
        (0..MAX_SCOPES).filter(move |&number| set.has(number))
    }
}

impl PartialEq for ScopeSet {
    fn eq(&self, other: &Self) -> bool {
        self.is_subset(other) && other.is_subset(self)
    }
}

impl Eq for ScopeSet {}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The scopes that a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Every scope, including those added later: a root key. Only the local host can create one.
    All,
    /// Only these scopes.
    Scopes(ScopeSet),
}

impl From<ScopeSet> for Grant {
    fn from(scopes: ScopeSet) -> Self {
        Self::Scopes(scopes)
    }
}

impl Grant {
    /// Whether it includes `scope`.
    pub fn allows(&self, scope: &Scope) -> bool {
        match self {
            Self::All => true,
            Self::Scopes(set) => set.contains(scope),
        }
    }

    /// Whether the other includes every scope of this one.
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::All) => true,
            (Self::All, Self::Scopes(_)) => false,
            (Self::Scopes(mine), Self::Scopes(theirs)) => mine.is_subset(theirs),
        }
    }

    /// The scopes that both include.
    pub(crate) fn meet(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, rest) | (rest, Self::All) => rest,
            (Self::Scopes(mine), Self::Scopes(theirs)) => Self::Scopes(mine.intersection(&theirs)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(names: &[&str]) -> Vec<(Scope, String)> {
        names.iter().map(|name| (name.parse().unwrap(), String::new())).collect()
    }

    fn numbered(catalogue: &Catalogue) -> Vec<NumberedScope> {
        catalogue.entries().iter().map(|entry| entry.scope.clone().into()).collect()
    }

    #[test]
    fn debug_of_scopes_sets_and_catalogues_shows_names() {
        let catalogue = Catalogue::with_preset();
        let set = catalogue.set(["api.write", "api.read"]).unwrap();
        assert_eq!(
            format!("{} {:?}", catalogue::API_READ, catalogue::API_READ),
            "api.read api.read"
        );
        assert!(format!("{catalogue:?}").starts_with("[admin.account.create, "));
        assert!(format!("{set:?}").contains("api.read"));
        assert_eq!((set.len(), set.is_empty()), (2, false));
        assert_eq!((catalogue.empty().len(), catalogue.empty().is_empty()), (0, true));
        let beyond = 1 << catalogue.entries().len();
        assert!(catalogue.set_of_bits([beyond >> 1, 0, 0, 0]).is_some());
        assert!(catalogue.set_of_bits([beyond, 0, 0, 0]).is_none());
        let unknown = catalogue.set(["api.raed"]).unwrap_err().to_string();
        assert!(unknown.contains("api.read, api.write"), "{unknown}");
    }

    #[test]
    fn every_built_in_scope_is_well_formed_and_in_its_plane() {
        let (keys, preset) = (catalogue::KEY_MANAGEMENT, catalogue::FINANCIAL_DATA);
        assert_eq!((keys.len(), preset.len()), (6, 8));
        for (scope, about) in keys.iter().chain(preset) {
            assert_eq!(&scope.as_str().parse::<Scope>().unwrap(), scope);
            assert_eq!(scope.plane() == Plane::Data, scope.as_str().starts_with("api."));
            assert_eq!(catalogue::description(scope), Some(*about));
            assert!(!about.is_empty());
        }
        assert_eq!(catalogue::description(&"x.one".parse().unwrap()), None);
    }

    #[test]
    fn new_store_has_the_key_management_scopes_and_those_of_its_host() {
        let names = |catalogue: &Catalogue| -> Vec<String> {
            catalogue.entries().iter().map(|entry| entry.scope.to_string()).collect()
        };
        let alone = Catalogue::new(vec![], None).unwrap();
        assert!(alone.entries().iter().all(|e| e.scope.as_str().starts_with("admin.key.")));
        let own = Catalogue::new(vec![], Some(&host(&["x.one"]))).unwrap();
        assert_eq!(names(own), [names(alone), vec!["x.one".to_owned()]].concat());
    }

    #[test]
    fn scope_number_is_never_reused() {
        let first = Catalogue::new(vec![], Some(&host(&["x.one", "x.two"]))).unwrap();
        let one = first.set(["x.one"]).unwrap();
        let second = Catalogue::new(numbered(first), Some(&host(&["x.three", "x.two"]))).unwrap();
        let kept = second.set_of_bits(one.bits()).unwrap();
        assert_eq!(kept.iter().next().unwrap().as_str(), "x.one");
        assert!(matches!(second.set(["x.one"]), Err(UnknownScope { .. })));
        assert_eq!(one, kept);
        assert_ne!(second.set(["x.three"]).unwrap(), kept);
    }

    #[test]
    fn store_of_an_earlier_version_keeps_offering_the_preset() {
        let stored: Vec<NumberedScope> = catalogue::FINANCIAL_DATA
            .iter()
            .chain(catalogue::KEY_MANAGEMENT)
            .map(|(scope, _)| scope.clone().into())
            .collect();
        for host in [None, Some(host(&["x.one"]))] {
            let opened = Catalogue::new(stored.clone(), host.as_deref()).unwrap();
            let read = opened.entries().iter().find(|e| e.scope == catalogue::API_READ).unwrap();
            assert!(read.offered);
            assert_eq!(read.description, "read everything in the Data API");
        }
    }

    #[test]
    fn hidden_scope_is_not_offered_and_an_added_one_always_is() {
        let scope = |name: &str, offer| NumberedScope {
            description: "as stored".to_owned(),
            offer,
            ..NumberedScope::from(name.parse::<Scope>().unwrap())
        };
        let stored = [
            scope("x.host", Offer::ByHost),
            scope("x.added", Offer::Always),
            scope("x.hidden", Offer::Never),
        ];
        let offered = |host: Option<&[(Scope, String)]>| -> Vec<(&'static str, &'static str)> {
            let catalogue = Catalogue::new(stored.to_vec(), host).unwrap();
            let own =
                catalogue.entries().iter().filter(|entry| entry.scope.as_str().starts_with("x."));
            own.filter(|entry| entry.offered)
                .map(|entry| (entry.scope.as_str(), entry.description.as_ref()))
                .collect()
        };
        assert_eq!(offered(None), [("x.host", "as stored"), ("x.added", "as stored")]);
        assert_eq!(offered(Some(&[])), [("x.added", "as stored")]);
        let named = ["x.host", "x.added", "x.hidden"]
            .map(|name| (name.parse().unwrap(), "by the host".to_owned()));
        assert_eq!(offered(Some(&named)), [("x.host", "by the host"), ("x.added", "as stored")]);
    }

    #[test]
    fn equal_catalogues_are_interned() {
        let again = Catalogue::new(vec![], None).unwrap();
        assert!(std::ptr::eq(again, Catalogue::new(vec![], None).unwrap()));
    }

    #[test]
    fn scope_number_257_is_refused() {
        let host: Vec<(Scope, String)> =
            (0..251).map(|n| (format!("x.s{n}").parse().unwrap(), String::new())).collect();
        assert!(Catalogue::new(vec![], Some(&host[..250])).is_ok());
        assert!(Catalogue::new(vec![], Some(&host)).is_err());
    }

    #[test]
    fn empty_set_grants_nothing_and_root_grants_everything() {
        let catalogue = Catalogue::with_preset();
        let (none, read) =
            (Grant::Scopes(catalogue.empty()), Grant::Scopes(catalogue.set(["api.read"]).unwrap()));
        assert!(!none.allows(&catalogue::API_READ));
        assert!(read.allows(&catalogue::API_READ) && !read.allows(&catalogue::API_WRITE));
        assert!(Grant::All.allows(&"not.known".parse().unwrap()));
        assert!(
            none.is_within(&read) && read.is_within(&Grant::All) && !Grant::All.is_within(&read)
        );
        assert_eq!(Grant::All.meet(read), read);
        assert_eq!(read.meet(none), none);
    }
}
