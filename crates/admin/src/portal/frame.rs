//! What stands around every page, and the files that it needs.

use super::visitor::{Base, Visitor};
use crate::moment;
use axum::{
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{Html, IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};
use portcullis::{Expiry, Record, Timestamp};

/// A page's title, and who looks at it.
pub(crate) struct Frame<'f> {
    base: &'f Base,
    title: &'f str,
    visitor: Option<&'f Visitor>,
    here: Here,
}

/// Which of the places a page belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Here {
    Keys,
    Audit,
    #[cfg(feature = "cluster")]
    Replicas,
}

impl<'f> Frame<'f> {
    /// A page of whoever is logged in.
    pub(crate) fn of(visitor: &'f Visitor, title: &'f str) -> Self {
        Self { base: &visitor.base, title, visitor: Some(visitor), here: Here::Keys }
    }

    /// A page of nobody.
    pub(crate) fn outside(base: &'f Base, title: &'f str) -> Self {
        Self { base, title, visitor: None, here: Here::Keys }
    }

    pub(crate) fn in_place(self, here: Here) -> Self {
        Self { here, ..self }
    }
}

/// A whole page.
pub(crate) fn page(frame: &Frame<'_>, status: StatusCode, body: &Markup) -> Response {
    let version = concat!("?v=", env!("CARGO_PKG_VERSION"));
    let asset = |name: &str| format!("{}{version}", frame.base.path(name));
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) " · Portcullis" }
                link rel="icon" type="image/svg+xml" href=(asset("/assets/favicon.svg"));
                link rel="stylesheet" href=(asset("/assets/portal.css"));
                script src=(asset("/assets/portal.js")) defer {}
            }
            body {
                a .skip href="#main" { "Skip to the content" }
                @if let Some(visitor) = frame.visitor { (head(frame, visitor)) }
                main #main .narrow[frame.visitor.is_none()] { (body) }
                @if frame.visitor.is_some() { footer { "All times are UTC." } }
            }
        }
    };
    (status, Html(text.into_string())).into_response()
}

fn head(frame: &Frame<'_>, visitor: &Visitor) -> Markup {
    let current = |here| (frame.here == here).then_some("page");
    html! {
        header {
            div .bar {
                a .brand href=(frame.base.path("/")) { (mark()) span { "Portcullis" } }
                nav aria-label="Developers" {
                    span .section aria-hidden="true" { "Developers" span .step { "▸" } }
                    a href=(frame.base.path("/")) aria-current=[current(Here::Keys)] { "API Keys" }
                    a href=(frame.base.path("/audit")) aria-current=[current(Here::Audit)] { "Audit log" }
                    (replicas(frame, visitor))
                }
                form .who method="post" action=(frame.base.path("/logout")) {
                    span .me title="The key that you logged in with" { bdi { (visitor.name) } }
                    button .quiet type="submit" { "Log out" }
                }
            }
        }
    }
}

/// The way to the replicas, where there are any.
#[cfg(feature = "cluster")]
fn replicas(frame: &Frame<'_>, visitor: &Visitor) -> Markup {
    let current = (frame.here == Here::Replicas).then_some("page");
    html! {
        @if super::replicas::are_there(&visitor.site.store) {
            a href=(frame.base.path("/replicas")) aria-current=[current] { "Replicas" }
        }
    }
}

#[cfg(not(feature = "cluster"))]
fn replicas(_: &Frame<'_>, _: &Visitor) -> Markup {
    html! {}
}

/// The gate of the name.
pub(crate) fn mark() -> Markup {
    html! {
        svg .mark viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" {
            path d="M4 21V10a8 8 0 0 1 16 0v11M9 21V4M15 21V4M4 11h16M4 16h16"
                fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" {}
        }
    }
}

/// A page that says one thing, and leads back.
pub(crate) fn notice(frame: &Frame<'_>, status: StatusCode, why: &str) -> Response {
    let body = html! {
        div .card .notice {
            h1 { (frame.title) }
            p { (why) }
            p .actions { a .button href=(frame.base.path("/")) { "Back to API Keys" } }
        }
    };
    page(frame, status, &body)
}

/// A moment to the minute; the whole of it is there for programs and for a pointer that rests.
pub(crate) fn time(at: Timestamp) -> Markup {
    let text = moment::to_text(at);
    let (day, clock) = (text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default());
    html! { time datetime=(text) title=(text) { (day) " " span .clock { (clock) } } }
}

pub(crate) fn end(expiry: Expiry) -> Markup {
    match expiry {
        Expiry::At(at) => time(at),
        Expiry::Never => html! { span .faint { "Never" } },
    }
}

/// When a key was last used, as far as is known.
pub(crate) fn last_use(at: Option<Timestamp>) -> Markup {
    at.map_or_else(|| html! { span .faint { "Never" } }, time)
}

/// Whether a key works, in a word.
pub(crate) fn status(visitor: &Visitor, record: &Record) -> Markup {
    let (class, word) = if !record.active {
        ("badge off", "Inactive")
    } else if record.expiry.has_come(visitor.time()) {
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

/// The address of an asset has the version in it, so that a newer one is fetched at once.
fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=3600")], text).into_response()
}
