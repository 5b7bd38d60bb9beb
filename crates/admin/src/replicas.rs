//! `GET /v1/replicas`: the replicas that share the store, and their progress.

use super::{api_error::ApiError, blocking, caller::Caller, rfc3339, wire};
use axum::{extract::State, response::Response};
use portcullis::{Store, audit::Attempt, cluster::Member, scope::catalogue};
use serde::Serialize;
use utoipa::ToSchema;

/// The replicas that share the store. A stopped replica is listed until a revocation has waited for it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Replicas {
    replicas: Vec<Replica>,
}

/// One replica, from its start to its end.
#[derive(Serialize, ToSchema)]
struct Replica {
    /// A unique id of this run of the replica.
    incarnation: String,
    /// The name that the operator gave it; `null` if this version cannot read its entry.
    name: Option<String>,
    /// The version of its program.
    version: Option<String>,
    /// When it joined.
    #[schema(format = DateTime)]
    joined_at: Option<String>,
    /// How long it may answer after its last contact with etcd, in milliseconds.
    freshness_ms: u64,
    /// The revision up to which it confirmed that it applied all changes.
    applied: u64,
    /// The number of revisions between `applied` and the newest change.
    behind: u64,
    /// `current`, `behind`, or `fenced`: removed from the member list after a timeout.
    state: &'static str,
    /// Whether this replica sent the response.
    is_this: bool,
}

impl Replica {
    fn new(member: &Member) -> Self {
        let about = member.about.as_ref();
        Self {
            incarnation: member.incarnation.to_string(),
            name: about.map(|about| about.name.to_string()),
            version: about.map(|about| about.version.to_string()),
            joined_at: about.map(|about| rfc3339::format(about.joined_at)),
            freshness_ms: u64::try_from(member.freshness.as_millis()).unwrap_or(u64::MAX),
            applied: member.applied,
            behind: member.behind,
            state: member.state().as_str(),
            is_this: member.is_this,
        }
    }
}

/// Lists the replicas
///
/// Returns the replicas in etcd, by name. The list is empty where the store is not shared.
#[utoipa::path(
    get,
    path = "/v1/replicas",
    operation_id = "list_replicas",
    tag = "Health",
    responses(
        (status = 200, description = "the replicas", body = Replicas)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn replicas(
    State(store): State<Store>,
    caller: Caller,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    caller.require_every_owner(&store, Attempt::List).await?;
    let members = blocking::call(&store, Store::members).await?;
    Ok(wire::json(&Replicas { replicas: members.iter().map(Replica::new).collect() }))
}
