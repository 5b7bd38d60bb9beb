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
        std::iter::once(VALID).chain(Refusal::OF_AUTHENTICATION.iter().map(Refusal::code))
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Valid(_) => VALID,
            Self::Refused(refusal) => refusal.code(),
        }
    }

    /// Whether an invalid key was presented. The response does not say why it is invalid.
    pub(super) fn is_bad_key(&self) -> bool {
        !matches!(self, Self::Valid(_) | Self::Refused(Refusal::Missing | Refusal::Unavailable))
    }
}
