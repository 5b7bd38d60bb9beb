//! `GET /v1/replicas`: the replicas that share the store, and how far each is.

use super::{
    caller::{Caller, ask},
    denied::Denied,
    moment, wire,
};
use axum::{extract::State, response::Response};
use portcullis::{Attempt, Store, cluster::Member, scope::catalogue};
use serde::Serialize;
use utoipa::ToSchema;

/// The members of the store. One that died is told until a revocation has waited for it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Replicas {
    replicas: Vec<Replica>,
}

/// One life of one replica.
#[derive(Serialize, ToSchema)]
struct Replica {
    /// The name of this life, fresh for each.
    incarnation: String,
    /// What operators call it; `null` where its row is of a version that this one cannot read.
    name: Option<String>,
    version: Option<String>,
    #[schema(format = DateTime)]
    joined_at: Option<String>,
    /// How long it may answer after it last reached etcd.
    freshness_ms: u64,
    /// The revision up to which it has said that it has applied everything.
    applied: u64,
    /// How far that is behind the newest change.
    behind: u64,
    /// `current`, `behind`, or `fenced`: counted out.
    state: &'static str,
    /// Whether it is the one that answers here.
    is_this: bool,
}

impl Replica {
    fn new(member: &Member) -> Self {
        let about = member.about.as_ref();
        Self {
            incarnation: member.incarnation.to_string(),
            name: about.map(|about| about.name.to_string()),
            version: about.map(|about| about.version.to_string()),
            joined_at: about.map(|about| moment::to_text(about.joined_at)),
            freshness_ms: u64::try_from(member.freshness.as_millis()).unwrap_or(u64::MAX),
            applied: member.applied,
            behind: member.behind,
            state: member.state().as_str(),
            is_this: member.is_this,
        }
    }
}

/// The replicas as etcd knows them, by name; none where the store is not shared.
#[utoipa::path(
    get,
    path = "/v1/replicas",
    responses(
        (status = 200, description = "the replicas", body = Replicas)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn replicas(
    State(store): State<Store>,
    caller: Caller,
) -> Result<Response, Denied> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let members = ask(&store, Store::members).await?;
    Ok(wire::json(&Replicas { replicas: members.iter().map(Replica::new).collect() }))
}
