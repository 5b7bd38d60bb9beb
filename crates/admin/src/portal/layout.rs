//! The layout around every page, its assets, and the elements that pages share.

use super::base_path::BasePath;
use crate::rfc3339;
use axum::{
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{Html, IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};
use portcullis::{Expiry, Record, Store, Timestamp};

/// The title of a page and the parts of its header.
pub(crate) struct Layout<'l> {
    base: &'l BasePath,
    title: &'l str,
    /// The name of the user's key; `None` on a page for everybody.
    user_name: Option<&'l str>,
    has_replicas: bool,
    section: Section,
}

/// The entry of the navigation that a page belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Keys,
    Audit,
    Replicas,
}

impl<'l> Layout<'l> {
    /// The layout of a page for a user.
    pub(crate) fn signed_in(
        base: &'l BasePath,
        title: &'l str,
        user_name: &'l str,
        has_replicas: bool,
    ) -> Self {
        Self { base, title, user_name: Some(user_name), has_replicas, section: Section::Keys }
    }

    /// The layout of a page for everybody.
    pub(crate) fn signed_out(base: &'l BasePath, title: &'l str) -> Self {
        Self { base, title, user_name: None, has_replicas: false, section: Section::Keys }
    }

    pub(crate) fn in_section(self, section: Section) -> Self {
        Self { section, ..self }
    }
}

/// A response that a handler or an extractor returns instead of its page.
#[derive(Debug)]
pub(crate) struct EarlyResponse(Box<Response>);

impl From<Response> for EarlyResponse {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for EarlyResponse {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// Renders a page.
pub(crate) fn page(layout: &Layout<'_>, status: StatusCode, body: &Markup) -> Response {
    let version = concat!("?v=", env!("CARGO_PKG_VERSION"));
    let asset = |name: &str| format!("{}{version}", layout.base.path(name));
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (layout.title) " · Portcullis" }
                link rel="icon" type="image/svg+xml" href=(asset("/assets/favicon.svg"));
                link rel="stylesheet" href=(asset("/assets/portal.css"));
                script src=(asset("/assets/portal.js")) defer {}
            }
            body {
                a .skip href="#main" { "Skip to the content" }
                @if let Some(name) = layout.user_name { (header(layout, name)) }
                main #main .narrow[layout.user_name.is_none()] { (body) }
                @if layout.user_name.is_some() { footer { "All times are UTC. " a href=(layout.base.path("/docs")) { "API reference" } } }
            }
        }
    };
    (status, Html(text.into_string())).into_response()
}

fn header(layout: &Layout<'_>, user_name: &str) -> Markup {
    let current = |section| (layout.section == section).then_some("page");
    html! {
        header {
            div .bar {
                a .brand href=(layout.base.path("/")) { (logo()) span { "Portcullis" } }
                nav aria-label="Developers" {
                    span .section aria-hidden="true" { "Developers" span .step { "▸" } }
                    a href=(layout.base.path("/")) aria-current=[current(Section::Keys)] { "API Keys" }
                    a href=(layout.base.path("/audit")) aria-current=[current(Section::Audit)] { "Audit log" }
                    @if layout.has_replicas {
                        a href=(layout.base.path("/replicas")) aria-current=[current(Section::Replicas)] { "Replicas" }
                    }
                }
                form .who method="post" action=(layout.base.path("/logout")) {
                    span .me title="The key that you logged in with" { bdi { (user_name) } }
                    button .quiet type="submit" { "Log out" }
                }
            }
        }
    }
}

/// The logo: a portcullis.
pub(crate) fn logo() -> Markup {
    html! {
        svg .mark viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" {
            path d="M4 21V10a8 8 0 0 1 16 0v11M9 21V4M15 21V4M4 11h16M4 16h16"
                fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" {}
        }
    }
}

/// Renders a page with one message and a link to the list of keys.
pub(crate) fn notice(layout: &Layout<'_>, status: StatusCode, text: &str) -> Response {
    let body = html! {
        div .card .notice {
            h1 { (layout.title) }
            p { (text) }
            p .actions { a .button href=(layout.base.path("/")) { "Back to API Keys" } }
        }
    };
    page(layout, status, &body)
}

/// Renders a time to the minute, with the exact time for programs and in the tooltip.
pub(crate) fn time(at: Timestamp) -> Markup {
    let text = rfc3339::format(at);
    let (day, clock) = (text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default());
    html! { time datetime=(text) title=(text) { (day) " " span .clock { (clock) } } }
}

/// Renders the beginning of a key's text. That of an imported key is not known.
pub(crate) fn hint(store: &Store, record: &Record) -> Markup {
    if record.imported.is_some() {
        html! { span title="The key was issued by another system" { "imported" } }
    } else {
        html! { (store.prefix().hint(record.id)) "…" }
    }
}

/// Renders an expiry.
pub(crate) fn expiry(expiry: Expiry) -> Markup {
    match expiry {
        Expiry::At(at) => time(at),
        Expiry::Never => html! { span .faint { "Never" } },
    }
}

/// Renders the time when a key was last used.
pub(crate) fn last_use(at: Option<Timestamp>) -> Markup {
    at.map_or_else(|| html! { span .faint { "Never" } }, time)
}

/// Renders whether a key is active, inactive or expired.
pub(crate) fn status_badge(record: &Record, now: Timestamp) -> Markup {
    let (class, word) = if !record.active {
        ("badge off", "Inactive")
    } else if record.expiry.has_come(now) {
        ("badge late", "Expired")
    } else {
        ("badge on", "Active")
    };
    html! { span class=(class) { (word) } }
}

pub(crate) async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("assets/portal.css"))
}

pub(crate) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("assets/portal.js"))
}

pub(crate) async fn icon() -> Response {
    asset("image/svg+xml", include_str!("assets/favicon.svg"))
}

/// The address of an asset contains the version, so that browsers fetch a newer one at once.
fn asset(content_type: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "public, max-age=3600")], text).into_response()
}
