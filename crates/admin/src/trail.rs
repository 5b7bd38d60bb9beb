//! `GET /v1/audit`: the trail, oldest entry first.

use super::{
    caller::{Caller, read_many},
    denied::Denied,
    moment, query, wire,
};
use axum::{extract::State, response::Response};
use portcullis::{
    Act, Attempt, AuditEntry, Change, Error, Expiry, KeyId, Metadata, Store,
    scope::catalogue,
    web::{FieldError, Problem},
};
use serde::Serialize;
use utoipa::ToSchema;

const DEFAULT_LIMIT: usize = 100;
const LARGEST_LIMIT: usize = 1000;
const STRIDE: usize = 500;
/// A search for one key gives its answer after so many strides, and says where to go on.
const STRIDES: usize = 20;

/// A page of the trail.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditPage)]
pub(crate) struct Listing<'e> {
    entries: Vec<Entry<'e>>,
    next_after: Option<u64>,
}

/// Who did what to which key.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(super) struct Entry<'e> {
    sequence: u64,
    at: String,
    actor: String,
    source: Option<String>,
    act: &'static str,
    key: Option<String>,
    replaced_by: Option<String>,
    before: Fields<'e>,
    after: Fields<'e>,
    refused: Option<Refused<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<CutAway>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<Repaired>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore: Option<Restored>,
}

/// What was restored.
#[derive(Serialize, ToSchema)]
#[schema(as = RestoredFrom)]
struct Restored {
    backup: u64,
    later_known: bool,
}

/// How far the trail was cut.
#[derive(Serialize, ToSchema)]
struct CutAway {
    through: u64,
    head: String,
}

/// What a repair brought over.
#[derive(Serialize, ToSchema)]
struct Repaired {
    head: String,
    current: u64,
    unproved: u64,
}

/// What was refused, and why.
#[derive(Serialize, ToSchema)]
struct Refused<'e> {
    attempt: &'static str,
    reason: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeated: Option<Repeated>,
}

/// The same act was refused again, within a minute of an entry that has it.
#[derive(Serialize, ToSchema)]
#[schema(as = RefusedRepeatedly)]
struct Repeated {
    /// How often, that entry not counted.
    count: u64,
    /// When it was refused again for the first time.
    first: String,
    /// When it was refused for the last time.
    last: String,
}

/// Only the fields that changed; `null` is a value.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedFields)]
struct Fields<'e> {
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
}

impl<'e> Entry<'e> {
    pub(super) fn new(entry: &'e AuditEntry) -> Self {
        let (mut cut, mut repair, mut restore) = (None, None, None);
        match &entry.act {
            Act::Prune { through, head } => {
                cut = Some(CutAway { through: *through, head: wire::hex(head) });
            }
            Act::Repair { head, current, unproved } => {
                let (current, unproved) = (*current, *unproved);
                repair = Some(Repaired { head: wire::hex(head), current, unproved });
            }
            Act::Restore { backup, later_known } => {
                restore = Some(Restored { backup: *backup, later_known: *later_known });
            }
            _ => {}
        }
        let (replaced_by, refused) = match &entry.act {
            Act::Rotate { into } => (Some(into.to_string()), None),
            Act::Refuse { attempt, reason } => {
                (None, Some(Refused { attempt: attempt.as_str(), reason, repeated: None }))
            }
            Act::RefuseRepeated { attempt, reason, count, first, last } => {
                let (first, last) = (moment::to_text(*first), moment::to_text(*last));
                let repeated = Some(Repeated { count: *count, first, last });
                (None, Some(Refused { attempt: attempt.as_str(), reason, repeated }))
            }
            _ => (None, None),
        };
        Self {
            sequence: entry.sequence,
            at: moment::to_text(entry.at),
            actor: entry.actor.to_string(),
            source: entry.source.map(|source| source.to_string()),
            act: entry.act.as_str(),
            key: entry.key.map(|id| id.to_string()),
            replaced_by,
            before: Fields::new(&entry.before),
            after: Fields::new(&entry.after),
            refused,
            cut,
            repair,
            restore,
        }
    }
}

impl<'e> Fields<'e> {
    fn new(change: &'e Change) -> Self {
        Self {
            name: change.name.as_deref(),
            scopes: change.grant.as_ref().map(wire::scopes),
            active: change.active,
            expires_at: change.expiry.map(|expiry| match expiry {
                Expiry::At(end) => Some(moment::to_text(end)),
                Expiry::Never => None,
            }),
            owner: change.owner.as_ref().map(Option::as_deref),
            metadata: change.metadata.as_ref(),
        }
    }
}

/// What is asked for.
struct Asked {
    after: u64,
    limit: usize,
    key: Option<KeyId>,
}

impl Asked {
    fn read(pairs: query::Pairs) -> Result<Self, Problem> {
        let mut asked = Self { after: 0, limit: DEFAULT_LIMIT, key: None };
        query::each(pairs, "after, limit and key", |name, value| {
            match name {
                "after" => asked.after = query::number(value, "must be the number of an entry")?,
                "limit" => asked.limit = query::number(value, LIMITS)?,
                "key" => asked.key = Some(value.parse().map_err(|_| "must be the id of a key")?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if (1..=LARGEST_LIMIT).contains(&asked.limit) {
            Ok(asked)
        } else {
            Err(Problem::invalid(vec![FieldError::parameter("limit", LIMITS)]))
        }
    }

    fn is_met(&self, entry: &AuditEntry) -> bool {
        self.key.is_none_or(|key| {
            entry.key == Some(key) || matches!(entry.act, Act::Rotate { into } if into == key)
        })
    }

    /// The entries, and where to go on unless that is the end.
    fn find(&self, store: &Store) -> Result<(Vec<AuditEntry>, Option<u64>), Error> {
        let (mut found, mut place, mut length) = (Vec::new(), self.after, 0);
        for _ in 0..STRIDES {
            let stride = store.audit(place, STRIDE.min(self.limit + 1))?;
            if stride.is_empty() {
                return Ok((found, None));
            }
            for entry in stride {
                if found.len() == self.limit || length >= wire::PAGE_BYTES {
                    return Ok((found, Some(place)));
                }
                place = entry.sequence;
                if self.is_met(&entry) {
                    length += wire::length(&Entry::new(&entry));
                    found.push(entry);
                }
            }
        }
        Ok((found, Some(place)))
    }
}

const LIMITS: &str = "must be a number from 1 to 1000";

/// Answers `{entries, next_after}`. A page may have fewer entries than were asked for, even none,
/// and more to come: `next_after` alone tells the end. A page ends early at 128 KiB.
#[utoipa::path(
    get,
    path = "/v1/audit",
    params(
        ("after" = Option<u64>, Query, description = "Only entries after this one"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "How many at most: 100 unless said"),
        ("key" = Option<String>, Query, description = "Only what was done to this key")
    ),
    responses(
        (status = 200, description = "a page of the trail", body = Listing<'_>)
    ),
    security(("key" = ["admin.key.list"]))
)]
pub(crate) async fn audit(
    State(store): State<Store>,
    caller: Caller,
    pairs: query::Pairs,
) -> Result<Response, Denied> {
    caller.require(&store, &catalogue::ADMIN_KEY_LIST, Attempt::List, None).await?;
    let asked = Asked::read(pairs)?;
    let (entries, next_after) = read_many(&store, move |store| asked.find(store)).await?;
    Ok(wire::json(&Listing { entries: entries.iter().map(Entry::new).collect(), next_after }))
}
