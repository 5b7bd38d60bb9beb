//! A report of leaked keys: its JSON, and the log lines about its keys.

use crate::{leaked::Outcome, rate_limited_log::RateLimitedLog};
use portcullis::{KeyId, Secret};
use serde::Deserialize;
use std::borrow::Cow;

/// The most tokens of one report.
pub(super) const MAX_TOKENS: usize = 1000;
/// The longest part of a text of the report in the log, in characters.
const MAX_LOGGED_CHARS: usize = 200;

/// A text that may be a key, and where it was found.
#[derive(Deserialize)]
pub(super) struct Finding<'b> {
    #[serde(borrow)]
    pub(super) token: Cow<'b, str>,
    /// The name of the kind of token, as it was agreed with the service.
    #[serde(borrow, default)]
    pub(super) r#type: Cow<'b, str>,
    #[serde(borrow, default)]
    url: Option<Cow<'b, str>>,
    #[serde(borrow, default)]
    source: Option<Cow<'b, str>>,
}

/// Parses a report. The message of the parser could quote a key, so there is none.
pub(super) fn findings(body: &[u8]) -> Option<Vec<Finding<'_>>> {
    serde_json::from_slice(body).ok()
}

impl Finding<'_> {
    /// Logs what was done with a leaked key.
    pub(super) fn log(&self, key: KeyId, outcome: Outcome) {
        static REVOKED: RateLimitedLog = RateLimitedLog::new();
        static INACTIVE: RateLimitedLog = RateLimitedLog::new();
        static ROOTS: RateLimitedLog = RateLimitedLog::new();
        let (url, source) = (shown(self.url.as_deref()), shown(self.source.as_deref()));
        match outcome {
            Outcome::Revoked => {
                if let Some(suppressed) = REVOKED.permit() {
                    tracing::warn!(%key, url, source, suppressed, "a reported leaked key was revoked");
                }
            }
            Outcome::LastRootKey => {
                if let Some(suppressed) = ROOTS.permit() {
                    tracing::error!(
                        %key, url, source, suppressed,
                        "a reported leaked key is the last root key, which cannot be revoked; rotate it now: \
                         portcullis key rotate {key}"
                    );
                }
            }
            Outcome::AlreadyInactive => {
                if let Some(suppressed) = INACTIVE.permit() {
                    tracing::info!(%key, url, source, suppressed, "a reported leaked key is inactive already");
                }
            }
            // The failure is in the log.
            Outcome::Failed | Outcome::Found => {}
        }
    }
}

/// Shortens a text of the report, and escapes all but printable ASCII. A text with a key is not shown.
fn shown(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    if Secret::occurs_in(text) {
        return "(a text that contains an API key)".into();
    }
    text.chars().take(MAX_LOGGED_CHARS).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis::{Expiry, Grant, NewKey, Store};

    #[test]
    fn place_of_a_leak_is_shortened_and_escaped_and_never_shows_a_key() {
        assert_eq!(
            shown(Some("https://example.com/a\n\u{202e}b")),
            r"https://example.com/a\n\u{202e}b"
        );
        assert_eq!(shown(Some(&"x".repeat(1000))).len(), MAX_LOGGED_CHARS);
        assert_eq!(shown(None), "");
        let store = Store::in_memory().unwrap();
        let issued = store.issue(NewKey::new("a", Grant::All, Expiry::Never)).unwrap();
        let url = issued.secret.reveal(|key| format!("https://example.com/?key={key}"));
        assert_eq!(shown(Some(&url)), "(a text that contains an API key)");
    }

    #[test]
    fn only_the_token_is_required() {
        let found =
            findings(br#"[{"token":"a","type":"t","url":null,"more":[1]},{"token":"b"}]"#).unwrap();
        assert_eq!(found.iter().map(|finding| &*finding.token).collect::<Vec<_>>(), ["a", "b"]);
        for body in ["", "{}", "[1]", r#"[{"type":"t"}]"#, r#"{"token":"a"}"#] {
            assert!(findings(body.as_bytes()).is_none(), "{body}");
        }
    }
}
