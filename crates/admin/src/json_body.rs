//! A JSON request body → its members, with repeated names detected.
//!
//! A body may hold a key, if only by mistake. So no message of the parser is passed on, since those
//! quote the input.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use portcullis::web::{FieldError, Problem};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, error::Category};
use std::{fmt, marker::PhantomData};

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// A member of the body.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) value: Value,
    /// Whether the value is an object that has a name more than once.
    pub(crate) has_repeated_names: bool,
}

/// Parses a body as a JSON object.
pub(crate) fn members(body: &[u8]) -> Result<Vec<Member>, Problem> {
    match serde_json::from_slice(body) {
        Ok(Object(members)) => Ok(members.into_iter().map(Member::new).collect()),
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

/// The error about a whole body.
pub(crate) fn wrong_body(detail: &str) -> Problem {
    Problem::invalid(vec![FieldError::body(detail)])
}

/// Checks that `Content-Type` is given once and is one of the accepted types.
pub(crate) fn check_type(headers: &HeaderMap, accepted: &[&'static str]) -> Result<(), Problem> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let given = types.next().map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = given.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let is_accepted = accepted.iter().any(|a| essence.eq_ignore_ascii_case(a.as_bytes()));
    if is_accepted && is_utf8(given) && types.next().is_none() {
        return Ok(());
    }
    let (usual, accepted) = (accepted.first().copied().unwrap_or(JSON), accepted.join(", "));
    let detail = format!("send the body in UTF-8 with the header Content-Type: {usual}");
    let problem =
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail);
    match HeaderValue::from_str(&accepted) {
        Ok(value) if accepted.contains(MERGE_PATCH) => {
            Err(problem.with_header(ACCEPT_PATCH, value))
        }
        _ => Err(problem),
    }
}

/// JSON is UTF-8. A body that declares another charset would be misread.
fn is_utf8(content_type: &[u8]) -> bool {
    content_type.split(|&byte| byte == b';').skip(1).all(|parameter| {
        let mut parts = parameter.splitn(2, |&byte| byte == b'=');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let value = parts.next().unwrap_or_default().trim_ascii();
        let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        !name.eq_ignore_ascii_case(b"charset") || value.eq_ignore_ascii_case(b"utf-8")
    })
}

/// A JSON object with its members in order, repeated names included.
struct Object<V>(Vec<(String, V)>);

#[derive(Deserialize)]
#[serde(untagged)]
enum MemberValue {
    Object(Object<Value>),
    Other(Value),
}

impl Member {
    fn new((name, value): (String, MemberValue)) -> Self {
        match value {
            // Two readers of an object with a repeated name could see two values.
            MemberValue::Object(Object(members)) => {
                let count = members.len();
                let object: Map<String, Value> = members.into_iter().collect();
                let has_repeated_names = object.len() < count;
                Self { name, value: Value::Object(object), has_repeated_names }
            }
            MemberValue::Other(value) => Self { name, value, has_repeated_names: false },
        }
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

    #[test]
    fn content_type_may_have_parameters_and_must_be_given_once() {
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
