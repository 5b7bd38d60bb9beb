//! Protection of the pages: refusal of cross-site forms, and security headers.

use super::{
    base_path::BasePath,
    layout::{self, Layout},
    state::PortalState,
};
use crate::cross_site::{is_cross_site, is_safe, states_origin};
use axum::{
    extract::{Request, State},
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::Next,
    response::Response,
};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'; connect-src 'none'; \
                      require-trusted-types-for 'script'";

/// Middleware that refuses a form of another site, and a form without a stated origin. A browser
/// adds the session cookie in both cases.
pub(crate) async fn refuse_cross_site_forms(
    State(state): State<PortalState>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let is_own = states_origin(headers) && !is_cross_site(headers, state.origin.as_ref());
    if is_safe(request.method()) || is_own {
        return next.run(request).await;
    }
    let base = BasePath::of(request.uri(), request.extensions());
    let text = match &state.origin {
        Some(origin) => format!(
            "This form came from another origin than {origin}. Open the portal there, or start the server with \
             --public-origin and the address that you use."
        ),
        None => "This form came from another site, or from a browser that does not state the origin of a form. \
                 Open the portal and send the form from there."
            .into(),
    };
    layout::notice(&Layout::signed_out(&base, "Form refused"), StatusCode::FORBIDDEN, &text)
}

/// Keeps pages, which describe keys, out of caches.
pub(crate) async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Forbids content from other servers, framing, and guessed content types.
pub(crate) async fn headers(mut response: Response) -> Response {
    let headers: [(HeaderName, &'static str); 3] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "same-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
