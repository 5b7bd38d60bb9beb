//! The page of a browser that asks for an unknown path.

use super::{base_path::BasePath, layout::logo, security};
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use maud::{DOCTYPE, html};

/// Renders the page. It needs nothing but the style sheet of the API reference, since a host may mount the
/// API without the portal.
pub(crate) async fn page(base: BasePath) -> Response {
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Not found – Portcullis" }
                link rel="stylesheet" href=(base.path("/docs/style.css"));
            }
            body {
                header { div .bar { span .brand { (logo()) span { "Portcullis" } } } }
                main {
                    h1 { "Not found" }
                    p { "There is nothing at this address." }
                    p {
                        a href=(base.path("/")) { "API keys" } " · "
                        a href=(base.path("/docs")) { "API reference" }
                    }
                }
            }
        }
    };
    security::headers((StatusCode::NOT_FOUND, Html(text.into_string())).into_response()).await
}
