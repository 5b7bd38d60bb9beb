//! The members of a JSON request body → typed values, with all errors collected.
//!
//! A body may hold a key, if only by mistake. So an error repeats a member's name only where that
//! name cannot be a key.

use super::{
    body,
    json_body::{self, JSON, Member},
    rfc3339,
};
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header::CONTENT_TYPE},
};
use portcullis::{
    MetadataPatch, Networks, Rate, Timestamp,
    web::{FieldError, Problem},
};
use serde_json::Value;
use std::net::IpAddr;

const MAX_SHOWN_NAME: usize = 32;

/// A field that a caller may omit or set to `null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given<T> {
    Absent,
    Null,
    Value(T),
}

/// The fields of a body. Each reading method removes its field; [`finish`](Self::finish) reports
/// the remaining fields as unknown, together with all other errors.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    body: Bytes,
    members: Vec<Member>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Reads a body of one of these types.
    pub(crate) async fn read(
        headers: &HeaderMap,
        body: Body,
        accepted: &[&'static str],
    ) -> Result<Self, Problem> {
        json_body::check_type(headers, accepted)?;
        Self::parse(body::read(body).await?)
    }

    /// Like [`read`](Self::read), but accepts an empty body: all fields are optional.
    pub(crate) async fn read_or_none(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        if headers.contains_key(CONTENT_TYPE) {
            json_body::check_type(headers, &[JSON])?;
        }
        let bytes = body::read(body).await?;
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        json_body::check_type(headers, &[JSON])?;
        Self::parse(bytes)
    }

    /// Returns the body as it was received.
    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// Parses a complete body.
    pub(crate) fn parse(body: Bytes) -> Result<Self, Problem> {
        let members = json_body::members(&body)?;
        Ok(Self { body, members, errors: Vec::new() })
    }

    fn has(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.name == name)
    }

    /// Records an error for each of these fields that is absent.
    pub(crate) fn require(&mut self, names: &[&'static str]) {
        for name in names {
            if !self.has(name) {
                self.error(name, "is required");
            }
        }
    }

    /// Reads a string, or `null`.
    pub(crate) fn text(&mut self, name: &'static str) -> Given<String> {
        self.value(name, "must be a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// Reads a string that may not be `null`.
    pub(crate) fn plain_text(&mut self, name: &'static str) -> Option<String> {
        let given = self.text(name);
        self.not_null(name, given)
    }

    /// Reads `true` or `false`.
    pub(crate) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let given = self.value(name, "must be true or false", |value| value.as_bool());
        self.not_null(name, given)
    }

    /// Reads an integer that is not negative.
    pub(crate) fn count(&mut self, name: &'static str) -> Option<u64> {
        let given = self.value(name, "must be an integer from 0", |value| value.as_u64());
        self.not_null(name, given)
    }

    /// Reads a list of strings.
    pub(crate) fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        let given = self.value(name, "must be a list of strings", |value| match value {
            Value::Array(items) => items
                .into_iter()
                .map(|item| if let Value::String(text) = item { Some(text) } else { None })
                .collect(),
            _ => None,
        });
        self.not_null(name, given)
    }

    /// Reads a list of networks, or `null`.
    pub(crate) fn networks(&mut self, name: &'static str) -> Given<Networks> {
        let expected =
            "must be a list of networks such as 192.0.2.0/24 or 2001:db8::1, or null for none";
        self.value(name, expected, |value| match value {
            Value::Array(items) => items.iter().map(|item| item.as_str()?.parse().ok()).collect(),
            _ => None,
        })
    }

    /// Reads a rate, or `null`.
    pub(crate) fn rate(&mut self, name: &'static str) -> Given<Rate> {
        let expected = "must be an object with requests (1 to 1,000,000) and seconds (1 to 86,400), or null for none";
        self.value(name, expected, |value| {
            let rate = value.as_object().filter(|rate| rate.len() == 2)?;
            let number = |name| rate.get(name)?.as_u64()?.try_into().ok();
            Rate::new(number("requests")?, number("seconds")?).ok()
        })
    }

    /// Reads an IP address, or `null`.
    pub(crate) fn address(&mut self, name: &'static str) -> Given<IpAddr> {
        let expected = "must be an IP address such as 192.0.2.7 or 2001:db8::1";
        self.value(name, expected, |value| value.as_str()?.parse().ok())
    }

    /// Reads a timestamp, or `null`.
    pub(crate) fn timestamp(&mut self, name: &'static str) -> Given<Timestamp> {
        let expected = "must be a time from 1970 to 2499 such as 2030-01-31T12:00:00Z (RFC 3339), or null for none";
        self.value(name, expected, |value| value.as_str().and_then(rfc3339::parse))
    }

    /// Reads the time at which a key expires.
    pub(crate) fn expiry(&mut self, name: &'static str) -> Given<Timestamp> {
        let expected = "must be a time from 1970 to 2499 such as 2030-01-31T12:00:00Z (RFC 3339), a date such as \
                        2030-01-31, which means the midnight at its end (UTC), or null for none";
        self.value(name, expected, |value| value.as_str().and_then(rfc3339::parse_expiry))
    }

    /// Reads a patch of metadata: an object of strings and `null`s, or `null` for the whole.
    pub(crate) fn metadata(&mut self, name: &'static str) -> Given<MetadataPatch> {
        let expected = "must be an object whose values are strings";
        self.value(name, expected, |value| match value {
            Value::Object(entries) => entries
                .into_iter()
                .map(|(key, value)| match value {
                    Value::String(text) => Some((key, Some(text))),
                    Value::Null => Some((key, None)),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// Reads an object of strings, numbers and booleans as pairs of name and text.
    pub(crate) fn scalars(&mut self, name: &'static str) -> Option<Vec<(String, String)>> {
        let expected = "must be an object whose values are strings, numbers or true and false";
        let given = self.value(name, expected, |value| match value {
            Value::Object(entries) => {
                entries.into_iter().map(|(name, value)| Some((name, scalar(value)?))).collect()
            }
            _ => None,
        });
        self.not_null(name, given)
    }

    /// Returns all fields as pairs of name and text. Each value must be a string, a number or a boolean.
    pub(crate) fn into_scalars(self) -> Result<Vec<(String, String)>, Problem> {
        let mut errors = Vec::new();
        let pair = |Member { name, value, .. }: Member| {
            let text = scalar(value);
            if text.is_none() {
                let shown = if is_showable(&name) { &name } else { "(a field)" };
                errors.push(FieldError::field(shown, "must be a string, a number, true or false"));
            }
            text.map(|text| (name, text))
        };
        let pairs = self.members.into_iter().filter_map(pair).collect();
        if errors.is_empty() { Ok(pairs) } else { Err(Problem::invalid(errors)) }
    }

    fn error(&mut self, name: &'static str, detail: &str) {
        self.errors.push(FieldError::field(name, detail));
    }

    /// Returns all errors, unless every field was known and valid.
    pub(crate) fn finish(mut self, known: &str) -> Result<(), Problem> {
        // The list of known fields appears in one error only.
        let mut list = Some(format!("; the known ones are {known}"));
        let mut has_reported_hidden = false;
        for Member { name, .. } in self.members {
            if is_showable(&name) {
                let list = list.take().unwrap_or_default();
                self.errors.push(FieldError::field(&name, format!("is not a known field{list}")));
            } else if !has_reported_hidden {
                has_reported_hidden = true;
                let list = list.take().unwrap_or_default();
                self.errors.push(FieldError::body(format!("has a field that is not known{list}")));
            }
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }

    fn value<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Given<T> {
        let Some(index) = self.members.iter().position(|member| member.name == name) else {
            return Given::Absent;
        };
        let Member { value, has_repeated_names, .. } = self.members.swap_remove(index);
        if self.has(name) {
            // Two readers of one body could see two values.
            self.members.retain(|member| member.name != name);
            self.error(name, "is given more than once");
            return Given::Absent;
        }
        if has_repeated_names {
            self.error(name, "has a name more than once");
            return Given::Absent;
        }
        if value.is_null() {
            return Given::Null;
        }
        if let Some(value) = read(value) {
            return Given::Value(value);
        }
        self.error(name, expected);
        Given::Absent
    }

    fn not_null<T>(&mut self, name: &'static str, given: Given<T>) -> Option<T> {
        match given {
            Given::Value(value) => Some(value),
            Given::Absent => None,
            Given::Null => {
                self.error(name, "cannot be null");
                None
            }
        }
    }
}

fn scalar(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Returns whether an error may repeat a name: a key never has this form.
pub(crate) fn is_showable(name: &str) -> bool {
    (1..=MAX_SHOWN_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    fn message(result: Result<impl fmt::Debug, Problem>) -> String {
        format!("{:?}", result.unwrap_err())
    }

    #[test]
    fn reading_removes_a_field_and_the_rest_is_unknown() {
        let mut fields =
            Fields::parse(br#"{"name":"a","owner":null,"colour":"red"}"#[..].into()).unwrap();
        assert_eq!(fields.plain_text("name"), Some("a".into()));
        assert_eq!(fields.text("owner"), Given::Null);
        assert_eq!(fields.flag("active"), None);
        assert!(message(fields.finish("name")).contains("/colour"));
    }

    #[test]
    fn all_errors_are_reported_together() {
        let body = br#"{"name":7,"active":"yes","scopes":["a",1],"expires_at":"soon","metadata":{"a":1},"owner":"a","owner":"b","networks":["10.0.0.0/8","here"],"address":"here"}"#;
        let mut fields = Fields::parse(body[..].into()).unwrap();
        assert_eq!(fields.plain_text("name"), None);
        assert_eq!(fields.flag("active"), None);
        assert_eq!(fields.texts("scopes"), None);
        assert_eq!(fields.timestamp("expires_at"), Given::Absent);
        assert_eq!(fields.metadata("metadata"), Given::Absent);
        assert_eq!(fields.text("owner"), Given::Absent);
        assert_eq!(fields.networks("networks"), Given::Absent);
        assert_eq!(fields.address("address"), Given::Absent);
        let text = message(fields.finish(""));
        for name in [
            "/name",
            "/active",
            "/scopes",
            "/expires_at",
            "/metadata",
            "/owner",
            "/networks",
            "/address",
        ] {
            assert!(text.contains(name), "{name} in {text}");
        }
    }

    #[test]
    fn metadata_with_a_repeated_name_is_refused() {
        let read = |metadata: &str| {
            let body = format!(r#"{{"metadata":{metadata}}}"#);
            let mut fields = Fields::parse(body.into()).unwrap();
            (fields.metadata("metadata"), fields.finish("metadata"))
        };
        let (metadata, refused) = read(r#"{"a":"1","b":"2","a":null}"#);
        assert_eq!(metadata, Given::Absent);
        assert!(message(refused).contains("has a name more than once"));
        let (metadata, accepted) = read(r#"{"a":"1","b":null}"#);
        let expected = [("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)];
        assert_eq!(metadata, Given::Value(expected.into()));
        assert!(accepted.is_ok());
        // An escape spells the same name.
        assert!(read(r#"{"a":"1","\u0061":"2"}"#).1.is_err());
    }

    #[test]
    fn rate_has_exactly_two_numbers_within_limits() {
        let read = |rate: &str| {
            let mut fields = Fields::parse(format!(r#"{{"rate":{rate}}}"#).into()).unwrap();
            (fields.rate("rate"), fields.finish("rate").is_ok())
        };
        let rate = Rate::new(100, 60).unwrap();
        assert_eq!(read(r#"{"requests":100,"seconds":60}"#), (Given::Value(rate), true));
        assert_eq!(read("null"), (Given::Null, true));
        for wrong in [
            "{}",
            r#""100/60s""#,
            r#"{"requests":100}"#,
            r#"{"requests":0,"seconds":60}"#,
            r#"{"requests":100,"seconds":86401}"#,
            r#"{"requests":1.5,"seconds":60}"#,
            r#"{"requests":4294967296,"seconds":60}"#,
            r#"{"requests":100,"seconds":60,"burst":7}"#,
            r#"{"requests":100,"seconds":60,"seconds":60}"#,
        ] {
            assert_eq!(read(wrong), (Given::Absent, false), "{wrong}");
        }
    }

    #[test]
    fn response_to_many_unknown_fields_is_short() {
        let members: Vec<_> = (0..4000)
            .map(|n| {
                let name = |c: u32| char::from(b'a' + u8::try_from(n / c % 26).unwrap());
                let name: String = [name(676), name(26), name(1)].iter().collect();
                format!(r#""x{name}":1,"X{name}":2"#)
            })
            .collect();
        let fields = Fields::parse(format!("{{{}}}", members.join(",")).into()).unwrap();
        let problem = fields.finish("name, scopes and active").unwrap_err();
        let text = problem.text();
        assert!(text.len() < 8192, "{}", text.len());
        assert_eq!(text.matches("the known ones are").count(), 3, "{text}");
        assert_eq!(problem.errors().len(), 32);
        assert!(problem.detail().ends_with("; and 3969 more"), "{}", problem.detail());
    }

    #[test]
    fn error_does_not_repeat_a_key() {
        let key = "pcl_8fK2mQ9xZ1a_0123456789abcdefghijABCDEFGHIJ01234567";
        for body in [
            format!(r#"{{"{key}":1}}"#),
            format!(r#"{{"name":"{key}"#),
            format!(r#""{key}""#),
            key.to_owned(),
        ] {
            let text = match Fields::parse(body.into()) {
                Ok(fields) => message(fields.finish("name")),
                Err(problem) => format!("{problem:?}"),
            };
            assert!(!text.contains("8fK2mQ9xZ1a"), "{text}");
        }
    }
}
