//! `/v1/audit`: reading the audit log, oldest entry first, and pruning it.

use super::{
    api_error::ApiError,
    caller::Caller,
    fields::{Fields, Given},
    json_body::JSON,
    policy::ShownPolicy,
    query, rfc3339, wire,
};
use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use data_encoding::HEXLOWER;
use portcullis::{
    Acting, Actor, Change, Error, Expiry, KeyId, Metadata, Store, Timestamp,
    audit::{Act, Attempt, AuditEntry},
    scope::catalogue,
    web::{FieldError, Problem},
};
use serde::Serialize;
use utoipa::ToSchema;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
const LIMITS: &str = "must be a number from 1 to 1000";
const BATCH: usize = 500;
/// A search for one key reads at most this many batches; `next_after` says where to continue.
const MAX_BATCHES: usize = 20;

/// A page of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditPage)]
pub(crate) struct Listing<'e> {
    entries: Vec<Entry<'e>>,
    /// The `after` of the next page; null on the last page.
    next_after: Option<u64>,
}

/// An administrative act: its actor, its key and the changed fields.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(crate) struct Entry<'e> {
    /// 1, 2, 3, … without a gap.
    sequence: u64,
    /// When the act was recorded.
    #[schema(format = DateTime)]
    at: String,
    /// The id of a key, `local:UID`, `host`, `secret-scanning`, `plain-http`, `policy`, or `operator`: somebody whom a key with an owner may not know.
    actor: String,
    /// The client's IP address, if the act came over the network.
    source: Option<String>,
    /// `create`, `import`, `update`, `rotate`, `delete`, `extend_catalogue`, `add_scope`, `hide_scope`,
    /// `set_policy`, `deactivate_unused`, `cut`, `repair`, `restore` or `refuse`.
    act: &'static str,
    /// The key that the act concerns.
    key: Option<String>,
    /// The owner of that key at the time of the act. Absent in entries of earlier versions, and where no key is
    /// concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    owner: Option<Option<&'e str>>,
    /// The new key of a `rotate`.
    replaced_by: Option<String>,
    /// The old values of the changed fields.
    before: ChangedFields<'e>,
    /// The new values; of a refused act, the requested values.
    after: ChangedFields<'e>,
    /// The refused act, if `act` is `refuse`.
    refused: Option<Refused<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<Pruned>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<Repaired>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore: Option<Restored>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<ChangedScope<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<ShownPolicy>,
    /// The number of keys of a `deactivate_unused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    unused_keys: Option<u64>,
}

/// The scope that was added or hidden.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedScope)]
struct ChangedScope<'e> {
    /// Its name.
    name: &'e str,
    /// Its number in the store, if it was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u8>,
    /// Its description, if it was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'e str>,
}

/// The backup that was restored.
#[derive(Serialize, ToSchema)]
#[schema(as = RestoredFrom)]
struct Restored {
    /// The newest sequence number in the backup.
    backup: u64,
    /// Whether later revocations were known to the restore.
    later_known: bool,
}

/// The newest entry that retention removed, and the hash of the chain there.
#[derive(Serialize, ToSchema)]
#[schema(as = CutAway)]
struct Pruned {
    /// The sequence number of the newest removed entry.
    through: u64,
    /// The hash of the chain at that entry.
    head: String,
}

/// How many keys a repair kept.
#[derive(Serialize, ToSchema)]
struct Repaired {
    head: String,
    current: u64,
    unproved: u64,
}

/// The act that was refused, and the reason.
#[derive(Serialize, ToSchema)]
struct Refused<'e> {
    /// The act that was refused, or `list` or `verify`.
    attempt: &'static str,
    /// Why it was refused.
    reason: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeated: Option<Repeated>,
}

/// Repetitions of a refused act within a minute of its own entry.
#[derive(Serialize, ToSchema)]
#[schema(as = RefusedRepeatedly)]
struct Repeated {
    /// The number of repetitions, without the entry of the first refusal.
    count: u64,
    /// The time of the first repetition.
    first: String,
    /// The time of the last repetition.
    last: String,
}

/// Only the fields that changed. `null` is a value.
#[derive(Serialize, ToSchema)]
struct ChangedFields<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    expires_at: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    owner: Option<Option<&'e str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    metadata: Option<&'e Metadata>,
    /// Empty: every network.
    #[serde(skip_serializing_if = "Option::is_none")]
    networks: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<wire::Requests>)]
    rate: Option<Option<wire::Requests>>,
}

impl<'e> Entry<'e> {
    pub(crate) fn new(entry: &'e AuditEntry) -> Self {
        let (mut cut, mut repair, mut restore, mut changed_scope) = (None, None, None, None);
        match &entry.act {
            Act::Prune { through, head } => {
                cut = Some(Pruned { through: *through, head: HEXLOWER.encode(head) });
            }
            Act::Repair { head, current, unproved } => {
                let (current, unproved) = (*current, *unproved);
                repair = Some(Repaired { head: HEXLOWER.encode(head), current, unproved });
            }
            Act::Restore { backup, later_known } => {
                restore = Some(Restored { backup: *backup, later_known: *later_known });
            }
            Act::AddScope { scope, number, description } => {
                let (name, description) = (scope.as_str(), Some(description.as_str()));
                changed_scope = Some(ChangedScope { name, number: Some(*number), description });
            }
            Act::HideScope { scope } => {
                let name = scope.as_str();
                changed_scope = Some(ChangedScope { name, number: None, description: None });
            }
            _ => {}
        }
        let (replaced_by, refused) = match &entry.act {
            Act::Rotate { into } => (Some(into.to_string()), None),
            Act::Refuse { attempt, reason } => {
                (None, Some(Refused { attempt: attempt.as_str(), reason, repeated: None }))
            }
            Act::RefuseRepeated { attempt, reason, count, first, last } => {
                let (first, last) = (rfc3339::format(*first), rfc3339::format(*last));
                let repeated = Some(Repeated { count: *count, first, last });
                (None, Some(Refused { attempt: attempt.as_str(), reason, repeated }))
            }
            _ => (None, None),
        };
        Self {
            sequence: entry.sequence,
            at: rfc3339::format(entry.at),
            actor: entry.actor.to_string(),
            source: entry.source.map(|source| source.to_string()),
            act: entry.act.as_str(),
            key: entry.key.map(|id| id.to_string()),
            owner: entry.owner.as_ref().map(Option::as_deref),
            replaced_by,
            before: ChangedFields::new(&entry.before),
            after: ChangedFields::new(&entry.after),
            refused,
            cut,
            repair,
            restore,
            scope: changed_scope,
            policy: match &entry.act {
                Act::SetPolicy { policy, .. } => Some((*policy).into()),
                _ => None,
            },
            unused_keys: match &entry.act {
                Act::DeactivateUnused { keys } => Some(*keys),
                _ => None,
            },
        }
    }
}

impl<'e> ChangedFields<'e> {
    fn new(change: &'e Change) -> Self {
        Self {
            name: change.name.as_deref(),
            scopes: change.grant.as_ref().map(wire::scopes),
            active: change.active,
            expires_at: change.expiry.map(|expiry| match expiry {
                Expiry::At(end) => Some(rfc3339::format(end)),
                Expiry::Never => None,
            }),
            owner: change.owner.as_ref().map(Option::as_deref),
            metadata: change.metadata.as_ref(),
            networks: change.networks.as_ref().map(wire::networks),
            rate: change.rate.map(|rate| rate.map(wire::Requests::of)),
        }
    }
}

/// The parameters of a request for a page.
struct PageRequest {
    after: u64,
    limit: usize,
    key: Option<KeyId>,
    actor: Option<KeyId>,
}

impl PageRequest {
    fn read(parameters: query::Parameters) -> Result<Self, Problem> {
        let mut request = Self { after: 0, limit: DEFAULT_LIMIT, key: None, actor: None };
        let key = |value: &str| value.parse().map(Some).map_err(|_| "must be the id of a key");
        query::each(parameters, "after, limit, key and actor", |name, value| {
            match name {
                "after" => request.after = query::number(value, "must be the number of an entry")?,
                "limit" => request.limit = query::number(value, LIMITS)?,
                "key" => request.key = key(value)?,
                "actor" => request.actor = key(value)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if (1..=MAX_LIMIT).contains(&request.limit) {
            Ok(request)
        } else {
            Err(Problem::invalid(vec![FieldError::parameter("limit", LIMITS)]))
        }
    }

    fn matches(&self, entry: &AuditEntry) -> bool {
        self.actor.is_none_or(|actor| entry.actor == Actor::Key(actor))
            && self.key.is_none_or(|key| {
                entry.key == Some(key) || matches!(entry.act, Act::Rotate { into } if into == key)
            })
    }

    /// Reads the entries, and the position of the next page unless this is the last.
    fn read_page(&self, acting: &Acting<'_>) -> Result<(Vec<AuditEntry>, Option<u64>), Error> {
        let (mut found, mut last, mut length) = (Vec::new(), self.after, 0);
        for _ in 0..MAX_BATCHES {
            let (batch, searched) = acting.audit(last, BATCH.min(self.limit + 1))?;
            let Some(searched) = searched else { return Ok((found, None)) };
            for entry in batch {
                if found.len() == self.limit || length >= wire::PAGE_BYTES {
                    return Ok((found, Some(last)));
                }
                last = entry.sequence;
                if self.matches(&entry) {
                    length += wire::json_length(&Entry::new(&entry));
                    found.push(entry);
                }
            }
            last = searched;
        }
        Ok((found, Some(last)))
    }
}

/// Lists the entries of the audit log, oldest first
///
/// A page may have fewer entries than `limit`, even none, and ends early at 128 KiB. The last page is
/// the one whose `next_after` is null.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "list_audit_entries",
    tag = "Audit log",
    params(
        ("after" = Option<u64>, Query, description = "Only entries with a greater sequence number; 0 by default"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The maximum number of entries; 100 by default"),
        ("key" = Option<String>, Query, description = "Only entries about this key"),
        ("actor" = Option<String>, Query, description = "Only acts of this key")
    ),
    responses(
        (status = 200, description = "a page of the audit log", body = Listing<'_>)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn audit(
    State(store): State<Store>,
    caller: Caller,
    parameters: query::Parameters,
) -> Result<Response, ApiError> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let request = PageRequest::read(parameters)?;
    let (entries, next_after) =
        caller.read_many(&store, move |acting| request.read_page(&acting)).await?;
    Ok(wire::json(&Listing { entries: entries.iter().map(Entry::new).collect(), next_after }))
}

/// The result of pruning; the last two fields are null where no entry was old enough.
#[derive(Serialize)]
struct Pruning {
    before: String,
    removed: u64,
    through: Option<u64>,
    sequence: Option<u64>,
}

/// `POST /v1/audit/cut`: removes entries older than `before`. Only local users may; no key, root
/// keys included. Returns `{before, removed, through, sequence}`. The `OpenAPI` document omits this
/// route, since it cannot be used from outside the host.
pub(crate) async fn prune(
    State(store): State<Store>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let before = if matches!(caller, Caller::Local(_)) {
        let mut fields = Fields::read(&headers, body, &[JSON]).await?;
        fields.require(&["before"]);
        let before = fields.timestamp("before");
        fields.finish("before")?;
        let Given::Value(before) = before else {
            let error = FieldError::field("before", "must be a timestamp");
            return Err(Problem::invalid(vec![error]).into());
        };
        before
    } else {
        // The store refuses every key, whatever the timestamp, and records the attempt.
        Timestamp::default()
    };
    let pruned = caller.act(&store, move |acting| acting.prune_audit(before)).await?;
    Ok(wire::json(&Pruning {
        before: rfc3339::format(before),
        removed: pruned.map_or(0, |pruned| pruned.removed),
        through: pruned.map(|pruned| pruned.through),
        sequence: pruned.map(|pruned| pruned.sequence),
    }))
}
