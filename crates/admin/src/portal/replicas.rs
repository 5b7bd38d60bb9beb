//! The replicas that share the store. A page of its own, only where the store is shared.

use super::{
    frame::{self, Frame, Here},
    visitor::{Stop, Visitor},
};
use crate::caller::ask;
use axum::{http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    Attempt, Store,
    cluster::{Member, MemberState},
    scope::catalogue::ADMIN_KEY_LIST,
};

/// Whether there are any.
pub(crate) fn are_there(store: &Store) -> bool {
    store.following().is_some()
}

/// `GET /replicas`
pub(crate) async fn page(visitor: Visitor) -> Result<Response, Stop> {
    visitor.require(&ADMIN_KEY_LIST, Attempt::List, None).await?;
    let frame = Frame::of(&visitor, "Replicas").in_place(Here::Replicas);
    if !are_there(&visitor.site.store) {
        let why = "This store is not shared: it has no replicas.";
        return Ok(frame::notice(&frame, StatusCode::NOT_FOUND, why));
    }
    let members = ask(&visitor.site.store, Store::members).await;
    let members = members.map_err(|denied| visitor.stop(denied))?;
    let body = html! {
        div .head {
            h1 { "Replicas" }
            a .button href=(visitor.base.path("/replicas")) { "Reload" }
        }
        p .lead {
            "Who shares this store, as etcd knows it now. A replica that died is listed as it was until "
            "a revocation has waited for it."
        }
        div .card .flush {
            table .trail {
                thead { tr {
                    th scope="col" { "Name" }
                    th scope="col" { "State" }
                    th .wide scope="col" { "Version" }
                    th .wide scope="col" { "Joined" }
                    th .wide scope="col" { "Applied" }
                } }
                tbody { @for member in &members { (row(member)) } }
            }
        }
    };
    Ok(frame::page(&frame, StatusCode::OK, &body))
}

fn row(member: &Member) -> Markup {
    let about = member.about.as_ref();
    html! {
        tr {
            td .name {
                @if let Some(about) = about { bdi { (about.name) } }
                @else { span .mono title="A version that this one cannot read" { (member.incarnation) } }
                @if member.is_this { span .faint { " · this one" } }
            }
            td { (state(member)) }
            td .wide { @if let Some(about) = about { (about.version) } @else { "–" } }
            td .wide { @if let Some(about) = about { (frame::time(about.joined_at)) } @else { "–" } }
            td .wide {
                (member.applied)
                @if member.behind > 0 { span .faint { " · " (member.behind) " behind" } }
            }
        }
    }
}

fn state(member: &Member) -> Markup {
    let (class, word) = match member.state() {
        MemberState::Current => ("badge on", "Current"),
        MemberState::Behind => ("badge late", "Behind"),
        MemberState::Fenced => ("badge off", "Fenced"),
    };
    html! { span class=(class) { (word) } }
}
