//! The reasons why a request is refused.

use crate::{rate::Rate, scope::Scope};

/// The reason why a request is refused. It contains nothing that the caller sent.
///
/// The responses to all but the last three are the same, byte for byte: a 401 with
/// `Invalid username/account key`. The reason is for the log and the metrics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The request has no `Authorization` header.
    #[error("no credential")]
    Missing,
    /// The header is not Basic authentication with a key as the user and no password.
    #[error("malformed credential")]
    Malformed,
    /// The request has more than one credential.
    #[error("more than one credential")]
    Ambiguous,
    /// A valid key came as a Bearer token, which the store does not accept: see
    /// [`Credentials`](crate::Credentials).
    #[error("a valid key as a Bearer token, which is not accepted")]
    BearerNotAccepted,
    /// No key has this text.
    #[error("unknown key")]
    Unknown,
    /// The key is inactive.
    #[error("inactive key")]
    Inactive,
    /// The key has expired.
    #[error("expired key")]
    Expired,
    /// The key has [networks](crate::Record::networks), and the request comes from another address, or its
    /// address is not known.
    #[error("a valid key, from an address outside its networks")]
    Network,
    /// The key is valid and has made all requests of its [rate](crate::Record::rate): 429.
    #[error("the key made all requests of its rate of {rate}")]
    RateLimited {
        /// The rate of the key.
        rate: Rate,
        /// In how many seconds the key may make a request, rounded up.
        retry_after: u32,
    },
    /// The key is valid but lacks this scope: 403.
    #[error("the key lacks the scope {0}")]
    LacksScope(Scope),
    /// This replica cannot prove that it is up to date: 503, whatever the key is.
    #[error("authentication is unavailable")]
    Unavailable,
}

impl Refusal {
    /// Every refusal of authentication. The remaining ones, of a valid key, are
    /// [`RateLimited`](Self::RateLimited) and [`LacksScope`](Self::LacksScope).
    pub const OF_AUTHENTICATION: [Self; 9] = [
        Self::Missing,
        Self::Malformed,
        Self::Ambiguous,
        Self::BearerNotAccepted,
        Self::Unknown,
        Self::Inactive,
        Self::Expired,
        Self::Network,
        Self::Unavailable,
    ];

    /// The code of [`RateLimited`](Self::RateLimited).
    pub const RATE_LIMITED: &str = "rate_limited";

    /// Returns the HTTP status of the response: 401, 403, 429 or 503.
    pub fn status(&self) -> u16 {
        match self {
            Self::LacksScope(_) => 403,
            Self::RateLimited { .. } => 429,
            Self::Unavailable => 503,
            _ => 401,
        }
    }

    /// Returns the code for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Ambiguous => "ambiguous",
            Self::BearerNotAccepted => "bearer_not_accepted",
            Self::Unknown => "unknown",
            Self::Inactive => "inactive",
            Self::Expired => "expired",
            Self::Network => "network",
            Self::RateLimited { .. } => Self::RATE_LIMITED,
            Self::LacksScope(_) => "insufficient_scope",
            Self::Unavailable => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::catalogue::API_READ;

    #[test]
    fn each_refusal_has_its_status_and_code() {
        let rate = Rate::new(2, 60).unwrap();
        let said = [
            (Refusal::Missing, 401, "missing"),
            (Refusal::Malformed, 401, "malformed"),
            (Refusal::Ambiguous, 401, "ambiguous"),
            (Refusal::BearerNotAccepted, 401, "bearer_not_accepted"),
            (Refusal::Unknown, 401, "unknown"),
            (Refusal::Inactive, 401, "inactive"),
            (Refusal::Expired, 401, "expired"),
            (Refusal::Network, 401, "network"),
            (Refusal::RateLimited { rate, retry_after: 30 }, 429, "rate_limited"),
            (Refusal::LacksScope(API_READ), 403, "insufficient_scope"),
            (Refusal::Unavailable, 503, "unavailable"),
        ];
        for (refusal, status, code) in said {
            assert_eq!((refusal.status(), refusal.code()), (status, code));
        }
    }
}
