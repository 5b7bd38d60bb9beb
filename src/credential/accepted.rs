//! The credentials that a store accepts beside Basic authentication.

use std::{fmt, str::FromStr, sync::Arc};

const MAX_NAME_LEN: usize = 64;

/// Headers that have another meaning, for a client, a proxy or a server.
const RESERVED: [&str; 20] = [
    "age",
    "allow",
    "authorization",
    "connection",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "idempotency-key",
    "keep-alive",
    "origin",
    "range",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];
const RESERVED_BEGINNINGS: [&str; 9] = [
    "accept",
    "access-control-",
    "cache-",
    "content-",
    "if-",
    "proxy-",
    "sec-",
    "x-auth-",
    "x-forwarded-",
];

/// The credentials that a store accepts: Basic authentication always, and others if the host asks for
/// them.
///
/// A request with more than one accepted credential is refused, even if they are equal: a proxy could
/// read another one than this program.
///
/// ```
/// use portcullis::{Credentials, KeyHeader, Store};
/// let credentials = Credentials::basic().with_bearer().with_header(KeyHeader::new("X-API-Key")?);
/// let store = Store::builder().credentials(credentials).in_memory()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    bearer: bool,
    header: Option<KeyHeader>,
}

impl Credentials {
    /// Basic authentication only: the key is the user name, the password is empty (RFC 7617).
    pub fn basic() -> Self {
        Self::default()
    }

    /// Also accepts `Authorization: Bearer KEY` (RFC 6750 §2.1).
    #[must_use]
    pub fn with_bearer(self) -> Self {
        Self { bearer: true, ..self }
    }

    /// Also accepts the key as the value of a header of its own, such as `X-API-Key`.
    #[must_use]
    pub fn with_header(self, header: KeyHeader) -> Self {
        Self { header: Some(header), ..self }
    }

    /// Whether they include `Authorization: Bearer KEY`.
    pub fn bearer(&self) -> bool {
        self.bearer
    }

    /// Returns the header whose value is the key, if there is one.
    pub fn header(&self) -> Option<&KeyHeader> {
        self.header.as_ref()
    }
}

/// The name of a header whose value is the key, such as `X-API-Key`: letters, digits and hyphens.
///
/// Names with another meaning are refused, such as `Cookie` or `X-Auth-Owner`. So are underscores: some
/// servers take `X_API_Key` for `X-API-Key` (RFC 3875 §4.1.18).
///
/// ```
/// use portcullis::KeyHeader;
/// assert_eq!(KeyHeader::new("X-API-Key").unwrap().as_str(), "x-api-key");
/// assert!(KeyHeader::new("Cookie").is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeyHeader(Arc<str>);

impl KeyHeader {
    /// Creates a name. Letter case is ignored (RFC 9110 §5.1).
    pub fn new(name: &str) -> Result<Self, ParseKeyHeaderError> {
        let name = name.to_ascii_lowercase();
        let is_well_formed = (1..=MAX_NAME_LEN).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_reserved = RESERVED.contains(&name.as_str())
            || RESERVED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
        if is_well_formed && !is_reserved {
            Ok(Self(name.into()))
        } else {
            Err(ParseKeyHeaderError)
        }
    }

    /// Returns the name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyHeader {
    type Err = ParseKeyHeaderError;

    fn from_str(name: &str) -> Result<Self, ParseKeyHeaderError> {
        Self::new(name)
    }
}

/// The text is not a name for a header with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the header of a key has 1 to 64 letters, digits and hyphens, a letter first, and no name with another \
     meaning, such as X-API-Key"
)]
pub struct ParseKeyHeaderError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_with_another_meaning_are_refused() {
        for good in ["X-API-Key", "api-key", "Ocp-Apim-Subscription-Key", "a"] {
            assert_eq!(KeyHeader::new(good).unwrap().as_str(), good.to_lowercase());
        }
        let long = "a".repeat(65);
        for bad in [
            "",
            "-a",
            "1a",
            "a b",
            "X_API_Key",
            "a:",
            "ä",
            &long,
            "Authorization",
            "Cookie",
            "Host",
            "Content-Type",
            "X-Auth-Owner",
            "X-Forwarded-For",
            "Proxy-Authorization",
            "Accept",
            "Sec-Fetch-Site",
            "If-Match",
            "Idempotency-Key",
        ] {
            assert!(KeyHeader::new(bad).is_err(), "{bad}");
        }
    }
}
