//! The page "Replicas": the replicas of a shared store.

use super::{
    layout::{self, EarlyResponse, Section},
    user::User,
};
use crate::blocking;
use axum::{http::StatusCode, response::Response};
use maud::{Markup, html};
use portcullis::{
    Store,
    audit::Attempt,
    cluster::{Member, MemberState},
    scope::catalogue::ADMIN_KEY_LIST,
};

/// `GET /replicas`
pub(crate) async fn page(user: User) -> Result<Response, EarlyResponse> {
    user.require(&ADMIN_KEY_LIST, Attempt::List, None).await?;
    let every = user.caller.require_every_owner(&user.state.store, Attempt::List).await;
    every.map_err(|error| user.error_page(error))?;
    let layout = user.layout("Replicas").in_section(Section::Replicas);
    if user.state.store.following().is_none() {
        let text = "This store is not shared: it has no replicas.";
        return Ok(layout::notice(&layout, StatusCode::NOT_FOUND, text));
    }
    let members = blocking::call(&user.state.store, Store::members).await;
    let members = members.map_err(|error| user.error_page(error))?;
    let body = html! {
        div .head {
            h1 { "Replicas" }
            a .button href=(user.base.path("/replicas")) { "Reload" }
        }
        p .lead {
            "The replicas that share this store, as etcd lists them now. A stopped replica stays listed until "
            "a revocation has waited for it."
        }
        div .card .flush {
            table .log {
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
    Ok(layout::page(&layout, StatusCode::OK, &body))
}

fn row(member: &Member) -> Markup {
    let (name, version, joined) = if let Some(about) = &member.about {
        let name = html! { bdi { (about.name) } };
        (name, html! { (about.version) }, layout::time(about.joined_at))
    } else {
        let title = "The entry of this replica has a version that this one cannot read";
        let name = html! { span .mono title=(title) { (member.incarnation) } };
        (name, html! { "–" }, html! { "–" })
    };
    html! {
        tr {
            td .name {
                (name)
                @if member.is_this { span .faint { " · this one" } }
            }
            td { (state(member)) }
            td .wide { (version) }
            td .wide { (joined) }
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
        other => ("badge", other.as_str()),
    };
    html! { span class=(class) { (word) } }
}
