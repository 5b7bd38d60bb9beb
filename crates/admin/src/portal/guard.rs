//! What keeps other sites out of the pages, and the pages out of caches and frames.

use super::{
    Site,
    frame::{self, Frame},
    visitor::Base,
};
use crate::browser::{is_foreign, is_safe, says_where_from};
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

/// Refuses a form that another site's page sends, and one of which nothing says where it comes
/// from: a browser sends its cookies along either way.
pub(crate) async fn refuse_foreign_forms(
    State(site): State<Site>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let is_ours = says_where_from(headers) && !is_foreign(headers, site.origin.as_ref());
    if is_safe(request.method()) || is_ours {
        return next.run(request).await;
    }
    let base = Base::of(request.uri(), request.extensions());
    let why = match &site.origin {
        Some(origin) => format!(
            "This form came from another origin than {origin}. Open the portal there, or start the server with \
             --public-origin and the address that you use."
        ),
        None => "This form came from another site, or from a browser that does not say where a form comes from. \
                 Open the portal and send it from there."
            .into(),
    };
    frame::notice(&Frame::outside(&base, "Not sent from here"), StatusCode::FORBIDDEN, &why)
}

/// Pages tell of keys.
pub(crate) async fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Nothing is loaded from elsewhere, nobody frames a page, and no type is guessed.
pub(crate) async fn closed(mut response: Response) -> Response {
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
