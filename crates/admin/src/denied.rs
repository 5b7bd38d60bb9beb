//! What the store says no to, as an answer.

use super::sparingly::Sparingly;
use axum::{
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use portcullis::{
    Error, Refusal,
    error::{Field, Forbidden},
    web::{FieldError, Problem},
};

const OTHER_REQUEST: &str = "was used with another request; give each request a key of its own";

/// Why a handler does not do what it was asked.
#[derive(Debug)]
pub(crate) enum Denied {
    /// The caller may not.
    Refused(Refusal),
    /// The request, or our side, is wrong.
    Wrong(Problem),
}

impl Denied {
    /// The work ended without an answer: a panic, or the end of the process.
    pub(crate) fn stopped(why: &tokio::task::JoinError) -> Self {
        tracing::error!(panicked = why.is_panic(), "a request stopped half-way");
        Self::Wrong(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the request stopped half-way and its outcome is unknown; look, then try again",
        ))
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => refusal.into_response(),
            Self::Wrong(problem) => problem.into_response(),
        }
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Problem> for Denied {
    fn from(problem: Problem) -> Self {
        Self::Wrong(problem)
    }
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let conflict = |kind| Problem::new(StatusCode::CONFLICT, kind, text.as_str());
        let problem = match error {
            Error::Invalid { field: field @ (Field::PageSize | Field::PageToken), reason } => {
                Problem::invalid(vec![FieldError::parameter(field.as_str(), reason)])
            }
            Error::Invalid { field: Field::Record, reason } => {
                Problem::invalid(vec![FieldError::body(reason)])
            }
            Error::Invalid { field, reason } => {
                Problem::invalid(vec![FieldError::field(field.as_str(), reason)])
            }
            Error::UnknownScope(unknown) => {
                Problem::invalid(vec![FieldError::field("scopes", unknown.to_string())])
            }
            Error::Contended => conflict("contended"),
            Error::IdempotencyKeyReused => {
                Problem::invalid(vec![FieldError::parameter("Idempotency-Key", OTHER_REQUEST)])
            }
            Error::TooManyRequests { retry_after, .. } => {
                let seconds = retry_after.as_millis().div_ceil(1000).max(1);
                let status = StatusCode::TOO_MANY_REQUESTS;
                let problem = Problem::new(status, "too-many-idempotent-requests", text);
                match HeaderValue::try_from(seconds.to_string()) {
                    Ok(seconds) => problem.with_header(RETRY_AFTER, seconds),
                    Err(_) => problem,
                }
            }
            Error::NoSuchKey(_) => Problem::new(StatusCode::NOT_FOUND, "no-such-key", text),
            Error::StillActive(_) => conflict("still-active"),
            Error::NotCurrent { .. } => conflict("not-current"),
            Error::LastRoot(_) => conflict("last-root-key"),
            Error::Changed(_) => {
                Problem::new(StatusCode::PRECONDITION_FAILED, "changed-meanwhile", text)
            }
            // The key was taken away while it was being served: the same answer as to any other
            // key that is not valid.
            Error::Forbidden(Forbidden::ActorRefused) => return Refusal::Inactive.into(),
            Error::Forbidden(Forbidden::LacksScope(scope)) => {
                return Refusal::LacksScope(scope).into();
            }
            Error::NoRoom { .. } | Error::ReserveUsedUp { .. } => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", text)
            }
            Error::Forbidden(_) => Problem::new(StatusCode::FORBIDDEN, "forbidden", text),
            _ => return ours(&error).into(),
        };
        problem.into()
    }
}

/// A failure on our side. Its text may name files, so that it belongs in the log; outside it is
/// said whether the change counts.
fn ours(error: &Error) -> Problem {
    // Any key can repeat a request that fails.
    static FAILURES: Sparingly = Sparingly::new();
    if let Some(unsaid) = FAILURES.permit() {
        tracing::error!(%error, unsaid, "the store failed");
    }
    let detail = match error {
        Error::NotDurable(_) => {
            "the change could not be made durable and its outcome is unknown; what it denies is denied until the \
             store is reopened"
        }
        Error::Unanswered(_) => {
            "the engine did not say what became of the change; what it denies is denied here until that is known; \
             repeat it"
        }
        Error::Poisoned(_) => {
            "the store stopped writing after a failure and this change was not written; what it denies is denied \
             until the store is reopened"
        }
        _ => "the store cannot do this at the moment and nothing was changed; its log says why",
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn answer_to_too_many_idempotent_requests_says_when_to_repeat() {
        let retry_after = Duration::from_millis(3_599_001);
        let error = Error::TooManyRequests { who: "this actor", retry_after };
        assert!(error.to_string().contains("repeat this one in 3600 s"), "{error}");
        let response = Denied::from(error).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "3600");
    }
}
