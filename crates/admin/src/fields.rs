//! A request's JSON body → typed fields.
//!
//! A body may hold a key, if only by mistake. So no parser's own message is passed on, since those
//! quote the input, and a name is repeated only where it cannot be a key.

use super::{body::read, moment};
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
};
use portcullis::{
    MetadataPatch, Timestamp,
    web::{FieldError, Problem},
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, error::Category};
use std::{collections::HashSet, fmt, marker::PhantomData};

const MAX_SHOWN_NAME: usize = 32;

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// A field that a caller may leave out, or give as `null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given<T> {
    Absent,
    Null,
    Value(T),
}

/// The fields of a body. Each question takes its field away; what nobody asked for is unknown.
/// All that is wrong is collected and told at once.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    body: Bytes,
    given: Vec<(String, Value)>,
    /// The fields whose objects have a name more than once.
    repeating: HashSet<String>,
    wrong: Vec<FieldError>,
}

impl Fields {
    /// Reads a body of one of these types.
    pub(crate) async fn read(
        headers: &HeaderMap,
        body: Body,
        accepted: &[&'static str],
    ) -> Result<Self, Problem> {
        check_type(headers, accepted)?;
        Self::parse(read(body).await?)
    }

    /// Like [`read`](Self::read), for a body whose fields all may be absent: so may the body.
    pub(crate) async fn read_or_none(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        if headers.contains_key(CONTENT_TYPE) {
            check_type(headers, &[JSON])?;
        }
        let bytes = read(body).await?;
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        check_type(headers, &[JSON])?;
        Self::parse(bytes)
    }

    /// The body as it came.
    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }

    fn parse(body: Bytes) -> Result<Self, Problem> {
        match serde_json::from_slice(&body) {
            Ok(Object(members)) => {
                let mut fields = Self { body, ..Self::default() };
                for (name, member) in members {
                    let value = match member {
                        Member::Object(object) => {
                            let (value, repeats) = object.into_value();
                            if repeats {
                                fields.repeating.insert(name.clone());
                            }
                            value
                        }
                        Member::Other(value) => value,
                    };
                    fields.given.push((name, value));
                }
                Ok(fields)
            }
            Err(error) if error.classify() == Category::Data => {
                Err(Problem::invalid(vec![FieldError::body("must be a JSON object")]))
            }
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let detail = format!("the body is not JSON: look at line {line}, column {column}");
                Err(Problem::new(StatusCode::BAD_REQUEST, "malformed-json", detail))
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| given == name)
    }

    /// Notes which of these are absent as wrong.
    pub(crate) fn require(&mut self, names: &[&'static str]) {
        for name in names {
            if !self.has(name) {
                self.wrong(name, "is required");
            }
        }
    }

    /// A text, or `null`.
    pub(crate) fn text(&mut self, name: &'static str) -> Given<String> {
        self.value(name, "must be a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// A text that may not be `null`.
    pub(crate) fn plain_text(&mut self, name: &'static str) -> Option<String> {
        let given = self.text(name);
        self.not_null(name, given)
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let given = self.value(name, "must be true or false", |value| value.as_bool());
        self.not_null(name, given)
    }

    /// A whole number from 0 on.
    pub(crate) fn count(&mut self, name: &'static str) -> Option<u64> {
        let given = self.value(name, "must be a whole number from 0 on", |value| value.as_u64());
        self.not_null(name, given)
    }

    /// A list of texts.
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

    /// A moment, or `null`.
    pub(crate) fn moment(&mut self, name: &'static str) -> Given<Timestamp> {
        let expected = "must be a time from 1970 to 2499 such as 2030-01-31T12:00:00Z (RFC 3339), or null for none";
        self.value(name, expected, |value| value.as_str().and_then(moment::from_text))
    }

    /// Texts by name, each of them possibly `null`, or `null` for all of them.
    pub(crate) fn notes(&mut self, name: &'static str) -> Given<MetadataPatch> {
        let expected = "must be an object whose values are strings";
        self.value(name, expected, |value| match value {
            Value::Object(notes) => notes
                .into_iter()
                .map(|(key, note)| match note {
                    Value::String(text) => Some((key, Some(text))),
                    Value::Null => Some((key, None)),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    fn wrong(&mut self, name: &'static str, detail: &str) {
        self.wrong.push(FieldError::field(name, detail));
    }

    /// Passes if every field was known and right.
    pub(crate) fn finish(mut self, known: &str) -> Result<(), Problem> {
        // The known fields are listed once, however many others there are.
        let mut list = Some(format!("; the known ones are {known}"));
        let mut is_hidden_told = false;
        for (name, _) in self.given {
            if is_showable(&name) {
                let list = list.take().unwrap_or_default();
                self.wrong.push(FieldError::field(&name, format!("is not a known field{list}")));
            } else if !is_hidden_told {
                is_hidden_told = true;
                let list = list.take().unwrap_or_default();
                self.wrong.push(FieldError::body(format!("has a field that is not known{list}")));
            }
        }
        if self.wrong.is_empty() { Ok(()) } else { Err(Problem::invalid(self.wrong)) }
    }

    fn value<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Given<T> {
        let Some(place) = self.given.iter().position(|(given, _)| given == name) else {
            return Given::Absent;
        };
        let (_, value) = self.given.swap_remove(place);
        if self.has(name) {
            // Two readers of one body could see two values.
            self.given.retain(|(given, _)| given != name);
            self.wrong(name, "is given more than once");
            return Given::Absent;
        }
        if self.repeating.contains(name) {
            self.wrong(name, "has a name more than once");
            return Given::Absent;
        }
        if value.is_null() {
            return Given::Null;
        }
        if let Some(value) = read(value) {
            return Given::Value(value);
        }
        self.wrong(name, expected);
        Given::Absent
    }

    fn not_null<T>(&mut self, name: &'static str, given: Given<T>) -> Option<T> {
        match given {
            Given::Value(value) => Some(value),
            Given::Absent => None,
            Given::Null => {
                self.wrong(name, "cannot be null");
                None
            }
        }
    }
}

/// Whether a name is one that a program would use, so that repeating it gives no key away.
pub(crate) fn is_showable(name: &str) -> bool {
    (1..=MAX_SHOWN_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// JSON is UTF-8; a type that says otherwise would be read as something else than it is.
fn is_utf8(content_type: &[u8]) -> bool {
    content_type.split(|&byte| byte == b';').skip(1).all(|parameter| {
        let mut parts = parameter.splitn(2, |&byte| byte == b'=');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let value = parts.next().unwrap_or_default().trim_ascii();
        let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        !name.eq_ignore_ascii_case(b"charset") || value.eq_ignore_ascii_case(b"utf-8")
    })
}

fn check_type(headers: &HeaderMap, accepted: &[&'static str]) -> Result<(), Problem> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let given = types.next().map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = given.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let is_accepted = accepted.iter().any(|a| essence.eq_ignore_ascii_case(a.as_bytes()));
    if is_accepted && is_utf8(given) && types.next().is_none() {
        return Ok(());
    }
    let accepted = accepted.join(", ");
    let detail = format!("send the body in UTF-8 with the header Content-Type: {JSON}");
    let problem =
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail);
    match HeaderValue::from_str(&accepted) {
        Ok(value) if accepted.contains(MERGE_PATCH) => {
            Err(problem.with_header(ACCEPT_PATCH, value))
        }
        _ => Err(problem),
    }
}

/// A JSON object as it was written, repeated names included.
struct Object<V>(Vec<(String, V)>);

/// A member of a body.
#[derive(Deserialize)]
#[serde(untagged)]
enum Member {
    Object(Object<Value>),
    Other(Value),
}

impl Object<Value> {
    /// Its value, and whether a name is given more than once: two readers of one object could see
    /// two values.
    fn into_value(self) -> (Value, bool) {
        let given = self.0.len();
        let object: Map<String, Value> = self.0.into_iter().collect();
        let repeats = object.len() < given;
        (Value::Object(object), repeats)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Object<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Object<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(result: Result<impl fmt::Debug, Problem>) -> String {
        format!("{:?}", result.unwrap_err())
    }

    #[test]
    fn each_question_takes_its_field_and_the_rest_is_unknown() {
        let mut fields =
            Fields::parse(br#"{"name":"a","owner":null,"colour":"red"}"#[..].into()).unwrap();
        assert_eq!(fields.plain_text("name"), Some("a".into()));
        assert_eq!(fields.text("owner"), Given::Null);
        assert_eq!(fields.flag("active"), None);
        assert!(said(fields.finish("name")).contains("/colour"));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let body = br#"{"name":7,"active":"yes","scopes":["a",1],"expires_at":"soon","metadata":{"a":1},"owner":"a","owner":"b"}"#;
        let mut fields = Fields::parse(body[..].into()).unwrap();
        assert_eq!(fields.plain_text("name"), None);
        assert_eq!(fields.flag("active"), None);
        assert_eq!(fields.texts("scopes"), None);
        assert_eq!(fields.moment("expires_at"), Given::Absent);
        assert_eq!(fields.notes("metadata"), Given::Absent);
        assert_eq!(fields.text("owner"), Given::Absent);
        let said = said(fields.finish(""));
        for name in ["/name", "/active", "/scopes", "/expires_at", "/metadata", "/owner"] {
            assert!(said.contains(name), "{name} in {said}");
        }
    }

    #[test]
    fn metadata_with_a_repeated_name_is_refused() {
        let read = |metadata: &str| {
            let body = format!(r#"{{"metadata":{metadata}}}"#);
            let mut fields = Fields::parse(body.into()).unwrap();
            (fields.notes("metadata"), fields.finish("metadata"))
        };
        let (notes, refused) = read(r#"{"a":"1","b":"2","a":null}"#);
        assert_eq!(notes, Given::Absent);
        assert!(said(refused).contains("has a name more than once"));
        let (notes, accepted) = read(r#"{"a":"1","b":null}"#);
        let expected = [("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)];
        assert_eq!(notes, Given::Value(expected.into()));
        assert!(accepted.is_ok());
        // An escape spells the same name.
        assert!(read(r#"{"a":"1","\u0061":"2"}"#).1.is_err());
    }

    #[test]
    fn answer_to_many_unknown_fields_is_short() {
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
    fn a_key_in_the_wrong_place_is_not_repeated() {
        let key = "pcl_8fK2mQ9xZ1a_0123456789abcdefghijABCDEFGHIJ01234567";
        for body in [
            format!(r#"{{"{key}":1}}"#),
            format!(r#"{{"name":"{key}"#),
            format!(r#""{key}""#),
            key.to_owned(),
        ] {
            let said = match Fields::parse(body.into()) {
                Ok(fields) => said(fields.finish("name")),
                Err(problem) => format!("{problem:?}"),
            };
            assert!(!said.contains("8fK2mQ9xZ1a"), "{said}");
        }
    }

    #[test]
    fn a_type_has_parameters_and_one_line() {
        let with = |types: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for t in types {
                headers.append(CONTENT_TYPE, HeaderValue::from_static(t));
            }
            check_type(&headers, &[JSON, MERGE_PATCH]).is_ok()
        };
        assert!(with(&["application/json"]) && with(&["Application/JSON; charset=utf-8"]));
        assert!(with(&["application/merge-patch+json"]));
        assert!(with(&["application/json;charset=\"UTF-8\""]));
        for other in ["iso-8859-1", "utf-16", "\"latin1\"", ""] {
            let kind = format!("application/json; charset={other}");
            assert!(!with(&[Box::leak(kind.into_boxed_str())]), "{other}");
        }
        assert!(!with(&[]) && !with(&["text/plain"]) && !with(&[JSON, JSON]));
    }
}
