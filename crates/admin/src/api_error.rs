//! The error of a handler, and its HTTP response.

use super::rate_limited_log::RateLimitedLog;
use axum::{
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use portcullis::{
    Error, Refusal,
    error::{Field, Forbidden},
    web::{FieldError, Problem},
};

const OTHER_REQUEST: &str = "was used with another request; send each request with its own key";

/// Why a handler did not execute a request.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The caller is not authenticated or lacks a scope.
    Refused(Refusal),
    /// The request is invalid, or the server failed.
    Problem(Problem),
}

impl ApiError {
    /// The blocking task ended without a result: it panicked, or the process is stopping.
    pub(crate) fn stopped(why: &tokio::task::JoinError) -> Self {
        tracing::error!(panicked = why.is_panic(), "a request was aborted");
        Self::Problem(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the request was aborted and its outcome is unknown; check the current state, then try again",
        ))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => refusal.into_response(),
            Self::Problem(problem) => problem.into_response(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Error> for ApiError {
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
            Error::IsImported(_) => conflict("imported-key"),
            Error::NotCurrent { .. } => conflict("not-current"),
            Error::LastRoot(_) => conflict("last-root-key"),
            Error::Changed(_) => {
                Problem::new(StatusCode::PRECONDITION_FAILED, "changed-meanwhile", text)
            }
            // The key was revoked during its request: the same response as to any invalid key.
            Error::Forbidden(Forbidden::ActorRefused) => return Refusal::Inactive.into(),
            Error::Forbidden(Forbidden::LacksScope(scope)) => {
                return Refusal::LacksScope(scope).into();
            }
            Error::NoRoom { .. } | Error::ReserveUsedUp { .. } => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", text)
            }
            Error::Forbidden(_) => Problem::new(StatusCode::FORBIDDEN, "forbidden", text),
            _ => return store_failure(&error).into(),
        };
        problem.into()
    }
}

/// A failure of the store. Its text may name files, so it goes to the log; the response says only
/// whether the change took effect.
fn store_failure(error: &Error) -> Problem {
    // Rate-limited: any key can repeat a request that fails.
    static FAILURES: RateLimitedLog = RateLimitedLog::new();
    if let Some(suppressed) = FAILURES.permit() {
        tracing::error!(%error, suppressed, "the store failed");
    }
    let detail = match error {
        Error::NotDurable(_) => {
            "the change may not be durable and its outcome is unknown; the access that it removes stays refused \
             until the store is reopened"
        }
        Error::Unanswered(_) => {
            "etcd did not confirm the change; the access that it removes is refused here until the outcome is known; \
             repeat the request"
        }
        Error::Poisoned(_) => {
            "the store stopped writing after a failure and this change was not written; the access that it removes \
             stays refused until the store is reopened"
        }
        _ => {
            "the store cannot execute this request now and nothing was changed; see the server's log for the cause"
        }
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn response_to_too_many_idempotent_requests_has_retry_after() {
        let retry_after = Duration::from_millis(3_599_001);
        let error = Error::TooManyRequests { who: "this actor", retry_after };
        assert!(error.to_string().contains("repeat this one in 3600 s"), "{error}");
        let response = ApiError::from(error).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "3600");
    }
}
