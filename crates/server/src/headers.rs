//! Checks of a request's head, and the security headers of a response.

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use portcullis::web::Problem;

/// The content security policy of responses other than pages: a browser loads nothing for them.
const DEFAULT_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
const COMMON_HEADERS: [(HeaderName, &str); 2] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
const PAGE_HEADERS: [(HeaderName, &str); 2] = [
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Refuses a head that two programs in a chain may parse differently.
pub(super) fn check(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail| Err(Problem::new(StatusCode::BAD_REQUEST, "malformed-request", detail));
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (version == Version::HTTP_11 && hosts == 0) {
        return refuse("send one Host header");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_plain = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if is_plain { Ok(()) } else { refuse("chunked is the only Transfer-Encoding accepted") }
}

/// Returns the value of `Strict-Transport-Security`, for this host only.
pub(super) fn hsts(seconds: Option<u32>) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("max-age={}", seconds?)).ok()
}

/// Adds the headers that a response does not set itself.
pub(super) fn add(headers: &mut HeaderMap, hsts: Option<&HeaderValue>) {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_page = kind.is_some_and(|kind| kind.starts_with(b"text/html"));
    let page_headers = PAGE_HEADERS.into_iter().filter(|_| is_page);
    for (name, value) in COMMON_HEADERS.into_iter().chain(page_headers) {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(DEFAULT_POLICY));
    if let Some(hsts) = hsts {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_request_head_is_refused() {
        let is_accepted = |version, pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            check(version, &headers).is_ok()
        };
        let host = ("host", "here");
        assert!(is_accepted(Version::HTTP_11, &[host]));
        assert!(is_accepted(Version::HTTP_11, &[host, ("transfer-encoding", "Chunked")]));
        assert!(is_accepted(Version::HTTP_10, &[]) && is_accepted(Version::HTTP_2, &[]));
        assert!(!is_accepted(Version::HTTP_11, &[]));
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            assert!(!is_accepted(version, &[host, host]), "{version:?}");
        }
        for coding in ["gzip, chunked", "chunked, chunked", "gzip", "identity", ""] {
            let headers = [host, ("transfer-encoding", coding)];
            assert!(!is_accepted(Version::HTTP_11, &headers), "{coding}");
        }
        let two_codings =
            [host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert!(!is_accepted(Version::HTTP_11, &two_codings));
    }
}
