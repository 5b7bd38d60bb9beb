//! The bodies of requests, as the `OpenAPI` document describes them.

use crate::wire;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A new key.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `key_request::new_key` reads")]
#[schema(examples(json!({"name": "Nightly export", "scopes": ["api.read"]})))]
pub(crate) struct NewKey {
    /// A memorable name; need not be unique.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// A subset of the scopes of the key that creates it.
    scopes: Vec<String>,
    /// Whether the key is active; true by default.
    #[schema(nullable = false)]
    active: Option<bool>,
    /// When the key expires; never by default. A time (RFC 3339), or a date such as 2030-01-31, which means
    /// the midnight at its end (UTC).
    #[schema(examples("2030-01-31T12:00:00Z", "2030-01-31"))]
    expires_at: Option<String>,
    /// The owner that the key acts for; by default that of the key that creates it. Another one needs a key
    /// without an owner that has the scope `admin.key.owner`.
    #[schema(min_length = 1, max_length = 128)]
    owner: Option<String>,
    /// At most 16 entries: names of 1 to 64 bytes, values of at most 256 bytes.
    metadata: Option<BTreeMap<String, String>>,
    /// The networks that the key can be used from, within those of the key that creates it; everywhere by
    /// default. Each is an address or a range in CIDR notation.
    #[schema(max_items = 16, examples("192.0.2.0/24"))]
    networks: Option<Vec<String>>,
    /// The requests that the key may make, not above the rate of the key that creates it; as many as it wants
    /// by default. Each process counts its own.
    rate: Option<wire::Requests>,
}

/// A change (RFC 7396): absent fields stay, and `null` removes a value.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `key_request::KeyPatch` reads")]
#[schema(examples(json!({"active": false})))]
pub(crate) struct KeyChange {
    /// A memorable name; need not be unique.
    #[schema(nullable = false, min_length = 1, max_length = 128)]
    name: Option<String>,
    /// The whole set of scopes.
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
    /// False revokes the key, true reactivates it.
    #[schema(nullable = false)]
    active: Option<bool>,
    /// When the key expires; null means never. A time (RFC 3339), or a date such as 2030-01-31, which means
    /// the midnight at its end (UTC).
    #[schema(examples("2030-01-31T12:00:00Z", "2030-01-31"))]
    expires_at: Option<String>,
    /// The owner that the key acts for. Another one than its own needs a key without an owner that has the
    /// scope `admin.key.owner`.
    #[schema(min_length = 1, max_length = 128)]
    owner: Option<String>,
    /// Entries to set or, with null, to remove. Null removes all entries.
    metadata: Option<BTreeMap<String, Option<String>>>,
    /// The whole list of networks that the key can be used from. Null or an empty list means everywhere.
    #[schema(max_items = 16, examples("192.0.2.0/24"))]
    networks: Option<Vec<String>>,
    /// The requests that the key may make; null means as many as it wants.
    rate: Option<wire::Requests>,
}

/// Which keys to select; no field selects all.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `query::filter` reads")]
pub(crate) struct KeyFilter {
    /// Only active, or only inactive keys.
    #[schema(nullable = false)]
    active: Option<bool>,
    /// Only keys that this actor created: the id of a key, `local:UID` or `host`.
    #[schema(nullable = false)]
    created_by: Option<String>,
    /// Only keys that were created at this time or later.
    #[schema(nullable = false, format = DateTime)]
    created_from: Option<String>,
    /// Only keys that were created before this time.
    #[schema(nullable = false, format = DateTime)]
    created_until: Option<String>,
    /// Only keys whose expiry has come, or only the others.
    #[schema(nullable = false)]
    expired: Option<bool>,
    /// Only active keys that expire within this time and were not replaced.
    #[schema(nullable = false)]
    expires_within_seconds: Option<u32>,
    /// Only keys that live longer than the policy lets a key that is created now, or only the others.
    #[schema(nullable = false)]
    exceeds_policy: Option<bool>,
    /// Only keys of other systems, or only the others.
    #[schema(nullable = false)]
    imported: Option<bool>,
    /// Only keys of this owner.
    #[schema(nullable = false)]
    owner: Option<String>,
    /// Only keys with this text in their name or id. A whole id, the beginning `pcl_…` of a key and a whole
    /// key select that key.
    #[schema(nullable = false)]
    q: Option<String>,
    /// Only keys that another key replaced, or only the others.
    #[schema(nullable = false)]
    replaced: Option<bool>,
    /// Only keys that have this scope.
    #[schema(nullable = false)]
    scope: Option<String>,
    /// Only keys that were created before this time and not used since.
    #[schema(nullable = false, format = DateTime)]
    unused_since: Option<String>,
    /// Only keys that were used, or only those that never were.
    #[schema(nullable = false)]
    used: Option<bool>,
}

/// Filters and order of a list of keys.
//
// The document adds the fields of `KeyFilter`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `query::search` reads")]
#[schema(examples(json!({"unused_since": "2030-01-31T12:00:00Z", "active": true, "sort": "last_used_at"})))]
pub(crate) struct KeySearch {
    /// The order: `created_at`, `name`, `last_used_at` or `expires_at`, with `-` before it for descending
    /// values; `-created_at` by default.
    #[schema(nullable = false)]
    sort: Option<String>,
    /// True: also count all keys that the filters select.
    #[schema(nullable = false)]
    total: Option<bool>,
    /// The maximum number of keys; 50 by default.
    #[schema(nullable = false, minimum = 1, maximum = 200)]
    page_size: Option<u8>,
    /// The `next_page_token` of the page before.
    #[schema(nullable = false)]
    page_token: Option<String>,
}

/// An act on many keys, and the keys: a filter or a list of ids.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `bulk::count` reads")]
#[schema(examples(json!({"act": "revoke", "filter": {"owner": "shop-17"}})))]
pub(crate) struct NewBulkAct {
    /// `revoke`, `remove_scopes`, `set_expiry`, `set_owner` or `delete`; only inactive keys are deleted.
    act: String,
    /// The scopes that `remove_scopes` removes.
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
    /// The expiry that `set_expiry` sets; null means never.
    #[schema(examples("2030-01-31T12:00:00Z", "2030-01-31"))]
    expires_at: Option<String>,
    /// The owner that `set_owner` sets; null removes it.
    owner: Option<String>,
    /// The keys that this filter selects.
    #[schema(nullable = false)]
    filter: Option<KeyFilter>,
    /// The keys with these ids.
    #[schema(nullable = false)]
    ids: Option<Vec<String>>,
}

/// The options of a rotation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `keys::rotate` reads")]
#[schema(examples(json!({"grace_seconds": 3600})))]
pub(crate) struct Rotation {
    /// How many seconds the old key stays valid; by default it becomes inactive at once.
    #[schema(nullable = false, maximum = 31_622_400)]
    grace_seconds: Option<u64>,
}

/// The group of keys to revoke.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `reach::revoke` reads")]
#[schema(examples(json!({"group": "created"})))]
pub(crate) struct ReachRevocation {
    group: ReachGroup,
}

/// The keys that a key created, or the keys that replaced it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `reach::revoke` reads")]
#[schema(rename_all = "snake_case")]
enum ReachGroup {
    Created,
    Successors,
}

/// A key to verify.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `verify` reads")]
#[schema(examples(json!({"key": "pcl_…", "scopes": ["api.read"]})))]
pub(crate) struct Presented {
    /// The key, as a client sent it.
    key: String,
    /// The scopes that the key must have.
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
    /// The IP address that the key came from. Without it a key with networks is refused.
    #[schema(examples("192.0.2.7"))]
    address: Option<String>,
}

/// The description of a scope.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `scopes::add` reads")]
#[schema(examples(json!({"description": "close a year"})))]
pub(crate) struct ScopeDescription {
    /// The acts that the scope allows, in one line.
    #[schema(min_length = 1, max_length = 200)]
    description: String,
}

/// The whole new policy: a field that is left out limits nothing.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `policy::set` reads")]
#[schema(examples(json!({"max_lifetime_seconds": 31_536_000, "admin_max_lifetime_seconds": 7_776_000})))]
pub(crate) struct NewPolicy {
    /// The longest lifetime of keys without a scope of the Administration API.
    #[schema(nullable = false, minimum = 1)]
    max_lifetime_seconds: Option<u64>,
    /// The lifetime of such a key that is created without `expires_at`. At most the longest.
    #[schema(nullable = false, minimum = 1)]
    default_lifetime_seconds: Option<u64>,
    /// Whether such a key needs an expiry.
    #[schema(nullable = false)]
    expiry_required: Option<bool>,
    /// The longest lifetime of keys with a scope of the Administration API.
    #[schema(nullable = false, minimum = 1)]
    admin_max_lifetime_seconds: Option<u64>,
    /// The lifetime of such a key that is created without `expires_at`. At most the longest.
    #[schema(nullable = false, minimum = 1)]
    admin_default_lifetime_seconds: Option<u64>,
    /// Whether such a key needs an expiry.
    #[schema(nullable = false)]
    admin_expiry_required: Option<bool>,
    /// The time without a use after which an active key is unused; at least a day.
    #[schema(nullable = false, minimum = 86_400)]
    unused_after_seconds: Option<u64>,
    /// Whether unused keys are deactivated; needs `unused_after_seconds`.
    #[schema(nullable = false)]
    deactivate_unused: Option<bool>,
}
