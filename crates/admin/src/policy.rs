//! `/v1/policy`: shows and sets how long keys may live, and what happens to unused keys.

use super::{
    api_error::ApiError, blocking, caller::Caller, fields::Fields, json_body::JSON, openapi, wire,
};
use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use portcullis::{
    LifetimePolicy, Policy, Store, UnusedKeys, UnusedPolicy, audit::Attempt, scope::catalogue,
};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

const FIELDS: &str = "max_lifetime_seconds, default_lifetime_seconds, expiry_required, admin_max_lifetime_seconds, \
                      admin_default_lifetime_seconds, admin_expiry_required, unused_after_seconds and \
                      deactivate_unused";

/// How long keys may live, and what happens to unused keys. Root keys are exempt.
#[derive(Serialize, ToSchema)]
#[schema(as = Policy)]
pub(crate) struct ShownPolicy {
    /// The longest lifetime of keys without a scope of the Administration API; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_lifetime_seconds: Option<u64>,
    /// The lifetime of such a key that is created without `expires_at`; absent: it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    default_lifetime_seconds: Option<u64>,
    /// Whether such a key needs an expiry.
    expiry_required: bool,
    /// The longest lifetime of keys with a scope of the Administration API; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    admin_max_lifetime_seconds: Option<u64>,
    /// The lifetime of such a key that is created without `expires_at`; absent: it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    admin_default_lifetime_seconds: Option<u64>,
    /// Whether such a key needs an expiry.
    admin_expiry_required: bool,
    /// The time without a use after which an active key is unused; absent: no key is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    unused_after_seconds: Option<u64>,
    /// Whether unused keys are deactivated; else they are only listed.
    deactivate_unused: bool,
}

/// The active keys that are unused by the policy.
#[derive(Serialize, ToSchema)]
#[schema(as = UnusedKeys)]
pub(crate) struct ShownUnused {
    /// The number of these keys.
    total: usize,
    /// Those that the next deactivation deactivates, the longest unused first: at most 1 % of the active keys, but
    /// at least one.
    next: Vec<String>,
    /// Why none is deactivated now; absent: the next check deactivates those in `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    blocked: Option<String>,
}

impl From<&UnusedKeys> for ShownUnused {
    fn from(unused: &UnusedKeys) -> Self {
        Self {
            total: unused.ids.len(),
            next: unused.next().iter().map(ToString::to_string).collect(),
            blocked: unused.blocked.as_ref().map(ToString::to_string),
        }
    }
}

impl From<Policy> for ShownPolicy {
    fn from(Policy { administrators, others, unused }: Policy) -> Self {
        let seconds = |span: Option<Duration>| span.map(|span| span.as_secs());
        Self {
            max_lifetime_seconds: seconds(others.max),
            default_lifetime_seconds: seconds(others.default),
            expiry_required: others.required,
            admin_max_lifetime_seconds: seconds(administrators.max),
            admin_default_lifetime_seconds: seconds(administrators.default),
            admin_expiry_required: administrators.required,
            unused_after_seconds: seconds(unused.map(|unused| unused.after)),
            deactivate_unused: unused.is_some_and(|unused| unused.deactivate),
        }
    }
}

/// Shows the policy
///
/// Returns how long keys may live, and what happens to unused keys. Every administrator key may read it.
#[utoipa::path(
    get,
    path = "/v1/policy",
    operation_id = "show_policy",
    tag = "Policy",
    responses(
        (status = 200, description = "the policy", body = ShownPolicy)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn show(State(store): State<Store>, caller: Caller) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    Ok(wire::json(&ShownPolicy::from(store.policy()?)))
}

/// Sets the policy
///
/// Replaces the whole policy: a field that is left out limits nothing. Only a root key may. Every replica
/// enforces it at once. No key changes.
#[utoipa::path(
    put,
    path = "/v1/policy",
    operation_id = "set_policy",
    tag = "Policy",
    request_body(content = openapi::NewPolicy),
    responses(
        (status = 200, description = "the policy", body = ShownPolicy)
    ),
    security(("key" = []))
)]
pub(crate) async fn set(
    State(store): State<Store>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    caller.require_root_for(&store, Attempt::SetPolicy).await?;
    let mut fields = Fields::read(&headers, body, &[JSON]).await?;
    let deactivate = fields.flag("deactivate_unused").unwrap_or_default();
    if deactivate {
        fields.require(&["unused_after_seconds"]);
    }
    let mut seconds = |name| fields.count(name).map(Duration::from_secs);
    let (max, default) = (seconds("max_lifetime_seconds"), seconds("default_lifetime_seconds"));
    let admin_max = seconds("admin_max_lifetime_seconds");
    let admin_default = seconds("admin_default_lifetime_seconds");
    let unused_after = seconds("unused_after_seconds");
    let required = fields.flag("expiry_required").unwrap_or_default();
    let admin_required = fields.flag("admin_expiry_required").unwrap_or_default();
    fields.finish(FIELDS)?;
    let policy = Policy {
        administrators: LifetimePolicy {
            max: admin_max,
            default: admin_default,
            required: admin_required,
        },
        others: LifetimePolicy { max, default, required },
        unused: unused_after.map(|after| UnusedPolicy { after, deactivate }),
    };
    caller.act(&store, move |acting| acting.set_policy(policy)).await?;
    Ok(wire::json(&ShownPolicy::from(store.policy()?)))
}

/// Lists the unused keys
///
/// Returns how many active keys are unused by the policy, and which of them the next deactivation deactivates. The
/// server deactivates keys at most once in 24 hours, and only if the policy says so. A key is unused if its
/// creation, its last change and its last use are all longer ago than the policy says, and if all uses since then
/// are known. They are not known from before the policy was set, before a crash or a restore, or while a replica
/// has not reported.
#[utoipa::path(
    get,
    path = "/v1/policy/unused",
    operation_id = "list_unused_keys",
    tag = "Policy",
    responses(
        (status = 200, description = "the unused keys", body = ShownUnused)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn unused(
    State(store): State<Store>,
    caller: Caller,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    caller.require_every_owner(&store, Attempt::List).await?;
    let found = blocking::read_many(&store, Store::unused_keys).await?;
    Ok(wire::json(&ShownUnused::from(&found)))
}
