//! Requests that another site made a browser send.
//!
//! After a 401 a browser remembers a key and sends it along with whatever a foreign page asks for.

use super::origin::Origin;
use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header::ORIGIN},
    middleware::Next,
    response::{IntoResponse, Response},
};
use portcullis::web::Problem;

/// Refuses an unsafe method that a browser sends from elsewhere.
pub(crate) async fn refuse_foreign_origins(request: Request, next: Next) -> Response {
    if is_safe(request.method()) || !is_foreign(request.headers(), None) {
        return next.run(request).await;
    }
    let detail =
        "a page of another origin may not change anything here; send the request from a program";
    Problem::new(StatusCode::FORBIDDEN, "foreign-origin", detail).into_response()
}

/// Whether a request of this method changes nothing.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// What a browser says of itself decides; programs send neither header. An origin is foreign that
/// is not our own, or, where ours is not known, that does not say it is the same one.
pub(crate) fn is_foreign(headers: &HeaderMap, own: Option<&Origin>) -> bool {
    let site = headers.get("sec-fetch-site");
    let from_elsewhere = site.is_some_and(|site| site != "same-origin" && site != "none");
    let mut origins = headers.get_all(ORIGIN).iter();
    from_elsewhere
        || match own {
            Some(own) => origins.any(|origin| !own.is(origin)),
            None => site.is_none() && origins.next().is_some(),
        }
}

/// Whether the request says of itself where it comes from, as those of browsers do.
pub(crate) fn says_where_from(headers: &HeaderMap) -> bool {
    headers.contains_key("sec-fetch-site") || headers.contains_key(ORIGIN)
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
            is_foreign(&headers.collect(), None)
        };
        assert!(!from(&[]));
        assert!(!from(&[("sec-fetch-site", "same-origin"), ("origin", "https://here")]));
        assert!(!from(&[("sec-fetch-site", "none")]));
        assert!(from(&[("sec-fetch-site", "same-site")]));
        assert!(from(&[("sec-fetch-site", "cross-site")]));
        assert!(from(&[("origin", "https://elsewhere")]));
    }

    #[test]
    fn where_our_origin_is_known_another_one_is_foreign_whatever_else_is_said() {
        let own: Origin = "https://keys.example".parse().unwrap();
        let from = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("sec-fetch-site", HeaderValue::from_static("same-origin"));
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            is_foreign(&headers, Some(&own))
        };
        assert!(!from("https://keys.example"));
        assert!(from("https://keys.example:8443") && from("http://keys.example") && from("null"));
    }
}
