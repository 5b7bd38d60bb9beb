//! The fields of a key's form → typed values, with an error for each field.

use super::{form_body::FormInput, sentence::sentence};
use crate::{api_error::ApiError, rfc3339, wire};
use axum::http::StatusCode;
use portcullis::{Expiry, Grant, Networks, Rate, Record, Refusal, Store, Timestamp};
use std::{collections::BTreeSet, time::Duration};

/// The unit of lifetimes in forms.
pub(crate) const DAY: Duration = Duration::from_hours(24);

/// The values of a key's form, as they were entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyForm {
    pub(crate) name: String,
    pub(crate) scopes: BTreeSet<String>,
    /// `None` if neither Yes nor No was chosen.
    pub(crate) active: Option<bool>,
    /// A date, or empty.
    pub(crate) expires: String,
    /// One network a line.
    pub(crate) networks: String,
    /// A rate such as `100/60s`, or empty.
    pub(crate) rate: String,
}

impl KeyForm {
    /// The form of a new key.
    pub(crate) fn empty() -> Self {
        Self {
            name: String::new(),
            scopes: BTreeSet::new(),
            active: Some(true),
            expires: String::new(),
            networks: String::new(),
            rate: String::new(),
        }
    }

    /// The form of an existing key. It omits scopes that the catalogue no longer offers.
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
            networks: lines(&wire::networks(&record.networks).join("\n")),
            rate: record.rate.map(|rate| rate.to_string()).unwrap_or_default(),
        }
    }

    pub(crate) fn read(input: &mut FormInput) -> Self {
        Self {
            name: input.text("name").trim().to_owned(),
            scopes: input.all("scope"),
            active: match input.text("active").as_str() {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            },
            expires: input.text("expires").trim().to_owned(),
            networks: lines(&input.text("networks")),
            rate: input.text("rate").trim().to_owned(),
        }
    }

    /// Parses the networks.
    pub(crate) fn networks(&self, errors: &mut FormErrors) -> Option<Networks> {
        let networks: Result<Networks, _> = self.networks.lines().map(str::parse).collect();
        if networks.is_err() {
            let text = "One of these lines is no network; write an address or a range such as 192.0.2.0/24.";
            errors.add(Field::Networks, text);
        }
        networks.ok()
    }

    /// Parses the rate; `Some(None)` for none.
    pub(crate) fn rate(&self, errors: &mut FormErrors) -> Option<Option<Rate>> {
        if self.rate.is_empty() {
            return Some(None);
        }
        let rate = self.rate.parse().ok();
        if rate.is_none() {
            let text = "This is not a rate; write requests and span as 100/60s, at most 1000000 requests and 1 day.";
            errors.add(Field::Rate, text);
        }
        rate.map(Some)
    }

    /// Parses the expiry: the end of the date. For a new key it must be in the future; an existing key
    /// expires at once if the date is past.
    pub(crate) fn expiry(
        &self,
        errors: &mut FormErrors,
        earliest: Option<Timestamp>,
    ) -> Option<Expiry> {
        if self.expires.is_empty() {
            return Some(Expiry::Never);
        }
        match rfc3339::end_of_day(&self.expires) {
            Some(at) if earliest.is_none_or(|time| at > time) => return Some(Expiry::At(at)),
            Some(_) => {
                errors.add(Field::Expires, "This date is past; choose a later one.");
            }
            None => errors.add(Field::Expires, "This is not a date; write it as 2030-01-31."),
        }
        None
    }
}

/// The days of a lifetime, as a form has them; empty for none.
pub(crate) fn days(span: Option<Duration>) -> String {
    span.map(|span| (span.as_secs_f64() / DAY.as_secs_f64()).to_string()).unwrap_or_default()
}

/// Formats the last day of an expiry for a form; empty for a key that never expires.
pub(crate) fn day(expiry: Expiry) -> String {
    match expiry {
        Expiry::At(at) => rfc3339::last_day(at),
        Expiry::Never => String::new(),
    }
}

/// The words of a text, one a line.
pub(crate) fn lines(text: &str) -> String {
    let separators = |c: char| c.is_whitespace() || c == ',';
    text.split(separators).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("\n")
}

/// A field of the form, or the form as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Form,
    Name,
    Scopes,
    Active,
    Expires,
    Networks,
    Rate,
}

impl Field {
    /// The fields of the form, in the order of the page.
    pub(crate) const EDITED: [Self; 6] =
        [Self::Name, Self::Scopes, Self::Active, Self::Expires, Self::Networks, Self::Rate];

    /// Returns the name of the HTML field.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Name => "name",
            Self::Scopes => "scopes",
            Self::Active => "active",
            Self::Expires => "expires",
            Self::Networks => "networks",
            Self::Rate => "rate",
        }
    }

    /// Returns the label.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Form => "Form",
            Self::Name => "Name",
            Self::Scopes => "Scopes",
            Self::Active => "Active",
            Self::Expires => "Expires",
            Self::Networks => "Networks",
            Self::Rate => "Rate",
        }
    }
}

/// The errors of a form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FormErrors(Vec<(Field, String)>);

impl FormErrors {
    pub(crate) fn add(&mut self, field: Field, text: impl Into<String>) {
        self.0.push((field, text.into()));
    }

    pub(crate) fn at(&self, field: Field) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == field).map(|(_, text)| text.as_str())
    }

    /// Returns the first field with an error, in the order of the page; the form as a whole is last.
    pub(crate) fn first(&self) -> Option<Field> {
        Field::EDITED.into_iter().chain([Field::Form]).find(|field| self.at(*field).is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Assigns an error of the store to the fields of a form. Returns an error that has no field.
    pub(crate) fn of(error: ApiError) -> Result<(StatusCode, Self), ApiError> {
        let mut errors = Self::default();
        let status = match &error {
            ApiError::Refused(Refusal::LacksScope(scope)) => {
                errors.add(Field::Form, format!("Your key lacks the scope {scope}."));
                StatusCode::FORBIDDEN
            }
            ApiError::Refused(_) => return Err(error),
            ApiError::Problem(problem) if problem.errors().is_empty() => {
                errors.add(Field::Form, sentence(problem.detail()));
                problem.status()
            }
            ApiError::Problem(problem) => {
                for error in problem.errors() {
                    let (field, what) = match error.name() {
                        "name" => (Field::Name, "The name "),
                        "scopes" => (Field::Scopes, ""),
                        "expires_at" => (Field::Expires, "The date "),
                        "networks" => (Field::Networks, "These "),
                        _ => (Field::Form, ""),
                    };
                    errors.add(field, sentence(&format!("{what}{}", error.detail())));
                }
                problem.status()
            }
        };
        Ok((status, errors))
    }
}
