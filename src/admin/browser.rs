//! Requests that another site made a browser send.
//!
//! After a 401 a browser remembers a key and sends it along with whatever a foreign page asks for.

use crate::web::Problem;
use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header::ORIGIN},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Refuses an unsafe method that a browser sends from elsewhere.
pub(crate) async fn refuse_foreign_origins(request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if safe || !is_foreign(request.headers()) {
        return next.run(request).await;
    }
    let detail =
        "a page of another origin may not change anything here; send the request from a program";
    Problem::new(StatusCode::FORBIDDEN, "foreign-origin", detail).into_response()
}

/// What a browser says of itself decides; programs send neither header. No page is served here, so
/// an origin that does not say it is the same one is foreign.
fn is_foreign(headers: &HeaderMap) -> bool {
    match headers.get("sec-fetch-site") {
        Some(site) => site != "same-origin" && site != "none",
        None => headers.contains_key(ORIGIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_program_is_not_foreign_and_another_sites_page_is() {
        let from = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| {
                (axum::http::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            is_foreign(&headers.collect())
        };
        assert!(!from(&[]));
        assert!(!from(&[("sec-fetch-site", "same-origin"), ("origin", "https://here")]));
        assert!(!from(&[("sec-fetch-site", "none")]));
        assert!(from(&[("sec-fetch-site", "same-site")]));
        assert!(from(&[("sec-fetch-site", "cross-site")]));
        assert!(from(&[("origin", "https://elsewhere")]));
    }
}
