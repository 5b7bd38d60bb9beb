//! Detection of requests that a page of another site made a browser send.
//!
//! After a 401 a browser remembers a key and adds it to every request that a foreign page triggers.

use super::origin::Origin;
use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header::ORIGIN},
    middleware::Next,
    response::{IntoResponse, Response},
};
use portcullis::web::Problem;

/// Middleware of the API: refuses a cross-site request whose method can change something.
pub(crate) async fn refuse_cross_site(request: Request, next: Next) -> Response {
    if is_safe(request.method()) || !is_cross_site(request.headers(), None) {
        return next.run(request).await;
    }
    let detail =
        "a page of another origin may not change anything here; send the request from a program";
    Problem::new(StatusCode::FORBIDDEN, "foreign-origin", detail).into_response()
}

/// Returns whether requests of this method change nothing.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Returns whether the headers that browsers add show another site. Programs send neither header.
/// Without a known `own` origin, an `Origin` header counts as foreign unless `Sec-Fetch-Site` says
/// `same-origin`.
pub(crate) fn is_cross_site(headers: &HeaderMap, own: Option<&Origin>) -> bool {
    let site = headers.get("sec-fetch-site");
    let is_other_site = site.is_some_and(|site| site != "same-origin" && site != "none");
    let mut origins = headers.get_all(ORIGIN).iter();
    is_other_site
        || match own {
            Some(own) => origins.any(|origin| !own.matches(origin)),
            None => site.is_none() && origins.next().is_some(),
        }
}

/// Returns whether the request states its origin, as requests of browsers do.
pub(crate) fn states_origin(headers: &HeaderMap) -> bool {
    headers.contains_key("sec-fetch-site") || headers.contains_key(ORIGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn program_is_same_site_and_page_of_another_site_is_not() {
        let from = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                (axum::http::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            is_cross_site(&headers.collect(), None)
        };
        assert!(!from(&[]));
        assert!(!from(&[("sec-fetch-site", "same-origin"), ("origin", "https://here")]));
        assert!(!from(&[("sec-fetch-site", "none")]));
        assert!(from(&[("sec-fetch-site", "same-site")]));
        assert!(from(&[("sec-fetch-site", "cross-site")]));
        assert!(from(&[("origin", "https://elsewhere")]));
    }

    #[test]
    fn origin_other_than_the_configured_one_is_cross_site_despite_fetch_metadata() {
        let own: Origin = "https://keys.example".parse().unwrap();
        let from = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("sec-fetch-site", HeaderValue::from_static("same-origin"));
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            is_cross_site(&headers, Some(&own))
        };
        assert!(!from("https://keys.example"));
        assert!(from("https://keys.example:8443") && from("http://keys.example") && from("null"));
    }
}
