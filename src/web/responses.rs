//! Error responses: problem details (RFC 9457) that also have the documented `message`.

use super::json;
use crate::{Rate, Refusal, Scope};
use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Some clients send a key only after a challenge, and Java's throws without one.
const CHALLENGE: HeaderValue =
    HeaderValue::from_static(r#"Basic realm="Portcullis", charset="UTF-8""#);

const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Limits the response, since a request can have as many errors as members.
const MAX_ERRORS: usize = 32;

/// The same bytes for every refusal of authentication, so that a client cannot distinguish them.
const UNAUTHORIZED: &str = concat!(
    r#"{"type":"urn:portcullis:invalid-key","title":"Unauthorized","status":401,"#,
    r#""detail":"Send the API key as the Basic user name with an empty password.","#,
    r#""message":"Invalid username/account key"}"#
);

impl IntoResponse for Refusal {
    /// Returns 401 for every refusal of authentication, always with the same bytes. Returns 403 without
    /// a challenge if a valid key lacks a scope, 429 with `Retry-After`, `RateLimit-Policy` and `RateLimit` if it
    /// made all requests of its rate, and 503 if this replica may not answer.
    fn into_response(self) -> Response {
        match self {
            Self::LacksScope(scope) => Problem::lacks_scope(&scope).into_response(),
            Self::RateLimited { rate, retry_after } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Problem::rate_limited(status, rate, retry_after).into_response()
            }
            Self::Unavailable => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "authentication is unavailable now; try again shortly",
            )
            .into_response(),
            _ => (
                StatusCode::UNAUTHORIZED,
                [
                    (CONTENT_TYPE, PROBLEM_JSON),
                    (WWW_AUTHENTICATE, CHALLENGE),
                    (CACHE_CONTROL, NO_STORE),
                ],
                UNAUTHORIZED,
            )
                .into_response(),
        }
    }
}

/// An error response. Its texts never repeat what the caller sent, except for names that cannot be
/// a key.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    required_scopes: Vec<Scope>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The JSON form of a problem.
#[derive(Serialize)]
struct Document<'p> {
    #[serde(rename = "type")]
    kind: String,
    title: &'p str,
    status: u16,
    detail: &'p str,
    message: &'p str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'p [FieldError],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required_scopes: Vec<&'p str>,
}

impl Problem {
    /// Creates a problem of the type `urn:portcullis:KIND`. Its title is the reason phrase of the
    /// status.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            required_scopes: Vec::new(),
            headers: Vec::new(),
        }))
    }

    /// Creates a 403: the key is valid and lacks a scope.
    pub fn lacks_scope(scope: &Scope) -> Self {
        let detail = format!("the key is valid and lacks the scope {scope}");
        let mut problem = Self::new(StatusCode::FORBIDDEN, "insufficient-scope", detail);
        problem.0.required_scopes.push(scope.clone());
        problem
    }

    /// Creates the response to a valid key that made all requests of its rate. The header fields are those of
    /// the draft `draft-ietf-httpapi-ratelimit-headers`, with the policy `perkey`.
    pub fn rate_limited(status: StatusCode, rate: Rate, retry_after: u32) -> Self {
        let (requests, seconds) = (rate.requests(), rate.seconds());
        let detail = format!(
            "the key is valid and made all its requests: {requests} in {seconds} s; try again in {retry_after} s"
        );
        let policy = format!("\"perkey\";q={requests};w={seconds}");
        let limit = format!("\"perkey\";r=0;t={retry_after}");
        let mut problem = Self::new(status, "rate-limited", detail);
        problem = problem.with_header(RETRY_AFTER, HeaderValue::from(retry_after));
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, limit)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                problem = problem.with_header(name, value);
            }
        }
        problem
    }

    /// Returns the JSON text, for a connection that is refused before it reaches the router.
    pub fn text(&self) -> String {
        let parts = &self.0;
        let document = Document {
            kind: format!("urn:portcullis:{}", parts.kind),
            title: parts.status.canonical_reason().unwrap_or("Error"),
            status: parts.status.as_u16(),
            detail: &parts.detail,
            message: &parts.detail,
            errors: &parts.errors,
            required_scopes: parts.required_scopes.iter().map(Scope::as_str).collect(),
        };
        let mut text = Vec::new();
        let written = json::write(&mut text, &document).ok();
        written.and_then(|()| String::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.text()));
        *response.status_mut() = self.0.status;
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
        for (name, value) in self.0.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// An invalid value of a request.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum FieldError {
    /// A field of the body; the pointer is empty for the whole body.
    Field {
        /// A JSON pointer.
        pointer: String,
        /// The requirement on the value.
        detail: String,
    },
    /// A parameter of the query.
    Parameter {
        /// The name of the parameter.
        parameter: String,
        /// The requirement on the value.
        detail: String,
    },
}

impl Problem {
    /// Creates a 422: the request is well formed, but these values are not valid. The response lists
    /// at most 32 of them and the number of the others.
    pub fn invalid(mut errors: Vec<FieldError>) -> Self {
        let more = errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
        let mut sentences: Vec<String> = errors.iter().map(FieldError::sentence).collect();
        if more > 0 {
            sentences.push(format!("and {more} more"));
        }
        let mut problem =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-request", sentences.join("; "));
        problem.0.errors = errors;
        problem
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns the description of the error.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Returns the invalid values.
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }
}

impl FieldError {
    /// Creates an error about a field of the body.
    pub fn field(name: &str, detail: impl Into<String>) -> Self {
        Self::Field { pointer: format!("/{name}"), detail: detail.into() }
    }

    /// Creates an error about the whole body.
    pub fn body(detail: impl Into<String>) -> Self {
        Self::Field { pointer: String::new(), detail: detail.into() }
    }

    /// Creates an error about a parameter of the query.
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self::Parameter { parameter: name.into(), detail: detail.into() }
    }

    /// Returns the name of the value; empty for the whole body.
    pub fn name(&self) -> &str {
        match self {
            Self::Field { pointer, .. } => pointer.trim_start_matches('/'),
            Self::Parameter { parameter, .. } => parameter,
        }
    }

    /// Returns what the value must be.
    pub fn detail(&self) -> &str {
        match self {
            Self::Field { detail, .. } | Self::Parameter { detail, .. } => detail,
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Field { pointer, detail } if pointer.is_empty() => format!("the body {detail}"),
            Self::Field { pointer, detail } => {
                format!("{}: {detail}", pointer.trim_start_matches('/'))
            }
            Self::Parameter { parameter, detail } => format!("{parameter}: {detail}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn unauthorized_response_is_json_with_the_documented_message() {
        let body: Value = serde_json::from_str(UNAUTHORIZED).unwrap();
        assert_eq!(body["message"], "Invalid username/account key");
        assert_eq!(body["status"], 401);
    }

    #[test]
    fn forbidden_response_names_the_scope_and_has_no_challenge() {
        let response = Refusal::LacksScope(crate::scope::catalogue::API_READ).into_response();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
        let text = Problem::lacks_scope(&crate::scope::catalogue::API_READ).text();
        assert!(text.contains(r#""required_scopes":["api.read"]"#), "{text}");
    }
}
