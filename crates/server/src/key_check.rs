//! The outcome of checking a key, for the metrics and the limit on bad keys.

use portcullis::{KeyId, Refusal};

const VALID: &str = "valid";

/// The outcome of checking a key.
pub(super) enum KeyCheck {
    Valid(KeyId),
    Refused(Refusal),
}

impl KeyCheck {
    pub(super) fn of(checked: Result<KeyId, Refusal>) -> Self {
        checked.map_or_else(Self::Refused, Self::Valid)
    }

    /// Returns the codes of all outcomes.
    pub(super) fn codes() -> impl Iterator<Item = &'static str> {
        let refusals = Refusal::OF_AUTHENTICATION.iter().map(Refusal::code);
        [VALID].into_iter().chain(refusals).chain([Refusal::RATE_LIMITED])
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Valid(_) => VALID,
            Self::Refused(refusal) => refusal.code(),
        }
    }

    /// Whether an invalid key was presented. The response does not say why it is invalid.
    pub(super) fn is_bad_key(&self) -> bool {
        let is_no_bad_key = |refusal: &Refusal| {
            use Refusal::{Missing, RateLimited, Unavailable};
            matches!(refusal, Missing | RateLimited { .. } | Unavailable)
        };
        matches!(self, Self::Refused(refusal) if !is_no_bad_key(refusal))
    }
}
