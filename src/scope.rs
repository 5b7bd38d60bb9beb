//! What a key may do: scopes, the two planes, the catalogue.
//!
//! A store numbers its scope names in a table that only grows (at most 256; a number once given is
//! never given again). A [`ScopeSet`] is a bit set over that table, so that the question "may it?"
//! is a bit, and so that adding scopes never changes what a stored record means.

pub mod catalogue;
mod unoffered;

use std::{borrow::Cow, fmt, str::FromStr, sync::Mutex};

/// The most scope names a store can number.
pub(crate) const MAX_SCOPES: usize = 256;
const MAX_SCOPE_LEN: usize = 64;

/// The API that a scope belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plane {
    /// Scopes that start with `admin.`: used only within the Administration API.
    Administration,
    /// All others.
    Data,
}

/// The name of one thing that a key may do, such as `api.read`:
/// `[a-z][a-z0-9]*(\.[a-z][a-z0-9_-]*)+`, at most 64 bytes.
///
/// ```
/// use portcullis::{Plane, Scope};
/// let scope: Scope = "ledger.close-year".parse().unwrap();
/// assert_eq!(scope.plane(), Plane::Data);
/// assert!("Ledger".parse::<Scope>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(Cow<'static, str>);

impl Scope {
    /// A name of the program's own. In a constant, a name that is not well formed does not compile.
    ///
    /// ```
    /// use portcullis::Scope;
    /// const CLOSE_YEAR: Scope = Scope::from_static("ledger.close-year");
    /// ```
    ///
    /// ```compile_fail
    /// use portcullis::Scope;
    /// const CLOSE_YEAR: Scope = Scope::from_static("Ledger.close-year");
    /// ```
    ///
    /// # Panics
    /// Outside a constant, where the name is not well formed.
    pub const fn from_static(name: &'static str) -> Self {
        assert!(is_well_formed(name), "a scope is small words joined by dots, such as api.read");
        Self(Cow::Borrowed(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The API it belongs to.
    pub fn plane(&self) -> Plane {
        Plane::of(&self.0)
    }
}

impl Plane {
    /// The API that a scope of this name belongs to.
    pub const fn of(name: &str) -> Self {
        match name.as_bytes() {
            [b'a', b'd', b'm', b'i', b'n', b'.', ..] => Self::Administration,
            _ => Self::Data,
        }
    }
}

/// Words of small letters and digits joined by dots; from the second on with `_` and `-` as well.
const fn is_well_formed(name: &str) -> bool {
    let mut rest = name.as_bytes();
    if rest.len() > MAX_SCOPE_LEN {
        return false;
    }
    let (mut dots, mut begins) = (0, true);
    while let [byte, after @ ..] = rest {
        match *byte {
            b'a'..=b'z' => begins = false,
            b'0'..=b'9' if !begins => {}
            b'_' | b'-' if !begins && dots > 0 => {}
            b'.' if !begins => {
                dots += 1;
                begins = true;
            }
            _ => return false,
        }
        rest = after;
    }
    dots > 0 && !begins
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(name: &str) -> Result<Self, ParseScopeError> {
        if is_well_formed(name) {
            Ok(Self(Cow::Owned(name.to_owned())))
        } else {
            Err(ParseScopeError)
        }
    }
}

/// The text is not a scope name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scope is words of small letters and digits joined by dots, such as api.read, at most 64 bytes"
)]
pub struct ParseScopeError;

/// No scope of this name is offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope {name}; the known ones are {known}")]
pub struct UnknownScope {
    /// The name that was asked for, where it is one.
    pub name: Box<str>,
    /// All names that are offered, joined by commas.
    pub known: Box<str>,
}

/// A store numbers at most 256 scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a store numbers at most 256 scopes, those of earlier catalogues included; bring fewer new ones"
)]
pub struct TooManyScopes;

/// One scope of a catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub scope: Scope,
    /// What it allows; empty where nobody said.
    pub description: Cow<'static, str>,
    /// Whether new keys may have it. A scope that the host no longer names is kept by the keys
    /// that have it and granted to no other.
    pub offered: bool,
}

/// The numbered scope names of a store.
///
/// A process keeps each distinct catalogue that it has opened until it ends. There is one for a
/// store, so a handful in all; in return a set of scopes is a plain value that needs no lock and no
/// reference count.
pub struct Catalogue(Vec<Entry>);

impl Catalogue {
    /// The stored names in the order of their numbers, then what the host brings that is new.
    /// Without a list from the host every stored name is offered.
    pub(crate) fn new(
        stored: Vec<Scope>,
        host: Option<&[(Scope, String)]>,
    ) -> Result<&'static Self, TooManyScopes> {
        let wanted: Vec<(&Scope, Cow<'static, str>)> = catalogue::built_in()
            .map(|(scope, about)| (scope, Cow::Borrowed(*about)))
            .chain(
                host.into_iter().flatten().map(|(scope, about)| (scope, Cow::Owned(about.clone()))),
            )
            .collect();
        let mut entries: Vec<Entry> = stored
            .into_iter()
            .map(|scope| Entry { scope, description: Cow::Borrowed(""), offered: host.is_none() })
            .collect();
        for (scope, description) in wanted {
            match entries.iter_mut().find(|entry| entry.scope == *scope) {
                Some(entry) => {
                    entry.offered = true;
                    if entry.description.is_empty() {
                        entry.description = description;
                    }
                }
                None => entries.push(Entry { scope: scope.clone(), description, offered: true }),
            }
        }
        if entries.len() > MAX_SCOPES {
            return Err(TooManyScopes);
        }
        Ok(Self(entries).interned())
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

    /// Its scopes, in the order of their numbers.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The number of a scope.
    pub(crate) fn number(&self, scope: &Scope) -> Option<usize> {
        self.0.iter().position(|entry| entry.scope == *scope)
    }

    /// The set of these names. A name that is not offered is an error that lists those that are.
    pub(crate) fn set<S: AsRef<str>>(
        &'static self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<ScopeSet, UnknownScope> {
        let mut set = self.empty();
        for name in names {
            let name = name.as_ref();
            match self.0.iter().position(|entry| entry.offered && entry.scope.as_str() == name) {
                Some(number) => set.insert(number),
                None => {
                    return Err(UnknownScope {
                        name: shown(name),
                        known: self.offered_names().into(),
                    });
                }
            }
        }
        Ok(set)
    }

    /// The set of the same names here, where it was made of another catalogue.
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

    /// The set with these bits, if each of them has a name.
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

/// What was sent in place of a scope, for the error that refuses it: only if it looks like a name,
/// since a key may have been pasted into the wrong field.
fn shown(name: &str) -> Box<str> {
    match name.parse::<Scope>() {
        Ok(scope) => scope.as_str().into(),
        Err(_) => "(not a scope name)".into(),
    }
}

/// A set of scopes of one store; made by [`Store::scopes`](crate::Store::scopes).
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

    /// The scopes that both have. Both sets must be of one store; the store sees to it.
    pub(crate) fn intersection(mut self, other: &Self) -> Self {
        self.bits.iter_mut().zip(other.bits).for_each(|(mine, theirs)| *mine &= theirs);
        self
    }

    /// The scopes in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &'static Scope> + use<> {
        let catalogue = self.catalogue;
        self.numbers().filter_map(move |number| catalogue.0.get(number).map(|entry| &entry.scope))
    }

    /// How many scopes it has.
    pub fn len(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it grants nothing.
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

/// What a key is entitled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Every scope, those added later included: a root key. It is made on the machine only.
    All,
    /// These scopes and no other.
    Scopes(ScopeSet),
}

impl Grant {
    /// Whether it entitles to `scope`.
    pub fn allows(&self, scope: &Scope) -> bool {
        match self {
            Self::All => true,
            Self::Scopes(set) => set.contains(scope),
        }
    }

    /// Whether everything that this entitles to, the other does too.
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::All) => true,
            (Self::All, Self::Scopes(_)) => false,
            (Self::Scopes(mine), Self::Scopes(theirs)) => mine.is_subset(theirs),
        }
    }

    /// What both entitle to.
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

    #[test]
    fn a_scope_a_set_and_a_catalogue_show_their_names() {
        let catalogue = Catalogue::new(vec![], None).unwrap();
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
        assert_eq!(catalogue::built_in().count(), 13);
        for (scope, about) in catalogue::built_in() {
            assert_eq!(&scope.as_str().parse::<Scope>().unwrap(), scope);
            assert_eq!(scope.plane() == Plane::Data, scope.as_str().starts_with("api."));
            assert!(!about.is_empty());
        }
    }

    #[test]
    fn a_scope_is_words_joined_by_dots() {
        for good in ["a.b", "api2.read_all", "x.y-z.w9"] {
            assert!(good.parse::<Scope>().is_ok(), "{good}");
        }
        let long = format!("a.{}", "b".repeat(63));
        for bad in [
            "", "a", "a.", ".a", "a..b", "A.b", "a.B", "1a.b", "a.1", "a_b.c", "a._b", "a.b ", "*",
            &long,
        ] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_is_never_given_again() {
        let host = |names: &[&str]| -> Vec<(Scope, String)> {
            names.iter().map(|n| (n.parse().unwrap(), String::new())).collect()
        };
        let first = Catalogue::new(vec![], Some(&host(&["x.one", "x.two"]))).unwrap();
        let one = first.set(["x.one"]).unwrap();
        let stored: Vec<Scope> = first.entries().iter().map(|e| e.scope.clone()).collect();
        let second = Catalogue::new(stored, Some(&host(&["x.three", "x.two"]))).unwrap();
        let kept = second.set_of_bits(one.bits()).unwrap();
        assert_eq!(kept.iter().next().unwrap().as_str(), "x.one");
        assert!(matches!(second.set(["x.one"]), Err(UnknownScope { .. })));
        assert_eq!(one, kept);
        assert_ne!(second.set(["x.three"]).unwrap(), kept);
    }

    #[test]
    fn the_same_catalogue_is_kept_once() {
        let again = Catalogue::new(vec![], None).unwrap();
        assert!(std::ptr::eq(again, Catalogue::new(vec![], None).unwrap()));
    }

    #[test]
    fn the_257th_scope_is_refused() {
        let host: Vec<(Scope, String)> =
            (0..244).map(|n| (format!("x.s{n}").parse().unwrap(), String::new())).collect();
        assert!(Catalogue::new(vec![], Some(&host[..243])).is_ok());
        assert!(Catalogue::new(vec![], Some(&host)).is_err());
    }

    #[test]
    fn the_empty_set_grants_nothing_and_all_grants_everything() {
        let catalogue = Catalogue::new(vec![], None).unwrap();
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
