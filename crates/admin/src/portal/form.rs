//! A form's fields → typed values, with what is wrong said beside each.

use super::{pairs::Pairs, visitor::sentence};
use crate::{denied::Denied, moment};
use axum::http::StatusCode;
use portcullis::{Expiry, Grant, Record, Refusal, Store, Timestamp};
use std::collections::BTreeSet;

/// What the form of a key says, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyForm {
    pub(crate) name: String,
    pub(crate) scopes: BTreeSet<String>,
    /// Absent where the form does not say.
    pub(crate) active: Option<bool>,
    /// A day, or empty.
    pub(crate) expires: String,
}

impl KeyForm {
    /// The form of a key that is to be made.
    pub(crate) fn empty() -> Self {
        Self {
            name: String::new(),
            scopes: BTreeSet::new(),
            active: Some(true),
            expires: String::new(),
        }
    }

    /// The form of a key that there is. Scopes that are not offered any more are not in it.
    pub(crate) fn of(store: &Store, record: &Record) -> Self {
        let offered = store.catalogue().entries().iter().filter(|entry| entry.offered);
        let scopes = match &record.grant {
            Grant::All => BTreeSet::new(),
            Grant::Scopes(set) => offered
                .filter(|entry| set.contains(&entry.scope))
                .map(|entry| entry.scope.as_str().to_owned())
                .collect(),
        };
        Self {
            name: record.name.clone(),
            scopes,
            active: Some(record.active),
            expires: day(record.expiry),
        }
    }

    pub(crate) fn read(pairs: &mut Pairs) -> Self {
        Self {
            name: pairs.text("name").trim().to_owned(),
            scopes: pairs.all("scope"),
            active: match pairs.text("active").as_str() {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            },
            expires: pairs.text("expires").trim().to_owned(),
        }
    }

    /// The expiry that the day means: its first instant. A new key's lies ahead; for an existing
    /// key a day that has begun means an immediate end.
    pub(crate) fn expiry(
        &self,
        wrongs: &mut Wrongs,
        later_than: Option<Timestamp>,
    ) -> Option<Expiry> {
        if self.expires.is_empty() {
            return Some(Expiry::Never);
        }
        let is_day = self.expires.len() == "2030-01-31".len();
        let at = moment::from_text(&format!("{}T00:00:00Z", self.expires)).filter(|_| is_day);
        match at {
            Some(at) if later_than.is_none_or(|time| at > time) => return Some(Expiry::At(at)),
            Some(_) => {
                wrongs.add(Place::Expires, "This day is over or has begun; choose a later one.");
            }
            None => wrongs.add(Place::Expires, "This is not a day; write it as 2030-01-31."),
        }
        None
    }
}

/// The day of an end, as the form shows it.
pub(crate) fn day(expiry: Expiry) -> String {
    match expiry {
        Expiry::At(at) => moment::to_text(at).get(..10).unwrap_or_default().to_owned(),
        Expiry::Never => String::new(),
    }
}

/// Where something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Whole,
    Name,
    Scopes,
    Active,
    Expires,
}

impl Place {
    /// The name of its field in a form.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "form",
            Self::Name => "name",
            Self::Scopes => "scopes",
            Self::Active => "active",
            Self::Expires => "expires",
        }
    }

    /// Its label.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Whole => "Form",
            Self::Name => "Name",
            Self::Scopes => "Scopes",
            Self::Active => "Active",
            Self::Expires => "Expires",
        }
    }
}

/// All that is wrong with a form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wrongs(Vec<(Place, String)>);

impl Wrongs {
    pub(crate) fn add(&mut self, place: Place, text: impl Into<String>) {
        self.0.push((place, text.into()));
    }

    pub(crate) fn at(&self, place: Place) -> Option<&str> {
        self.0.iter().find(|(where_, _)| *where_ == place).map(|(_, text)| text.as_str())
    }

    /// Where the reader looks first.
    pub(crate) fn first(&self) -> Option<Place> {
        [Place::Name, Place::Scopes, Place::Active, Place::Expires, Place::Whole]
            .into_iter()
            .find(|place| self.at(*place).is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the store says is wrong, unless that has no place in a form.
    pub(crate) fn of(denied: Denied) -> Result<(StatusCode, Self), Denied> {
        let mut wrongs = Self::default();
        let status = match &denied {
            Denied::Refused(Refusal::LacksScope(scope)) => {
                wrongs.add(Place::Whole, format!("Your key lacks the scope {scope}."));
                StatusCode::FORBIDDEN
            }
            Denied::Refused(_) => return Err(denied),
            Denied::Wrong(problem) if problem.errors().is_empty() => {
                wrongs.add(Place::Whole, sentence(problem.detail()));
                problem.status()
            }
            Denied::Wrong(problem) => {
                for error in problem.errors() {
                    let (place, what) = match error.name() {
                        "name" => (Place::Name, "The name "),
                        "scopes" => (Place::Scopes, ""),
                        "expires_at" => (Place::Expires, "The day "),
                        _ => (Place::Whole, ""),
                    };
                    wrongs.add(place, sentence(&format!("{what}{}", error.detail())));
                }
                problem.status()
            }
        };
        Ok((status, wrongs))
    }
}
