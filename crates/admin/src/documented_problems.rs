//! The error responses of each operation in the `OpenAPI` document, with their problem types.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A problem: the status, the type without `urn:portcullis:`, and its meaning.
type Kind = (u16, &'static str, &'static str);

const EVERY_OPERATION: &[Kind] = &[
    (400, "malformed-request", "not exactly one `Host`, or an unknown `Transfer-Encoding`"),
    (403, "plain-http", "the request came by plain HTTP; replace the key"),
];
const UNAVAILABLE: &[Kind] = &[(503, "unavailable", "the request cannot be executed now")];
const WITH_KEY: &[Kind] = &[(401, "invalid-key", "the key is missing or not valid")];
const WITH_SCOPE: &[Kind] =
    &[(403, "insufficient-scope", "the key lacks the scope; `required_scopes` has its name")];
const FORWARD_AUTH: &[Kind] =
    &[(500, "misconfigured", "no scope, an unknown scope, or another parameter")];
const LIMITED: &[Kind] =
    &[(429, "too-many-bad-keys", "too many bad keys from this source; a valid key is accepted")];
const STREAMS: &[Kind] =
    &[(429, "too-many-streams", "the key has 8 streams, or there are too many; end one")];
const RATE: &[Kind] =
    &[(429, "rate-limited", "the key made all requests of its rate; wait for `Retry-After`")];
const RATE_OF_PROXY: &[Kind] = &[
    (
        403,
        "rate-limited",
        "the key made all requests of its rate; `X-Auth-Reason` is `rate-limited`",
    ),
    (429, "rate-limited", "the same, where the proxy asked for it with `limited=429`"),
];
const UNSAFE_METHOD: &[Kind] = &[
    (400, "incomplete-body", "the body ended early; nothing was changed"),
    (403, "foreign-origin", "a page of another origin sent the request"),
    (408, "timeout", "the body did not arrive within 10 s; nothing was changed"),
];
const LIMITED_BODY: &[Kind] = &[(413, "too-large", "the body is larger than 64 KiB")];
const WITH_BODY: &[Kind] = &[
    (400, "malformed-json", "the body is not JSON; `detail` has line and column"),
    (415, "unsupported-media-type", "the body has another content type"),
    (422, "invalid-request", "a value is not valid; `errors` lists the values"),
];
const WITH_TEXT: &[Kind] = &[
    (413, "too-large", "the text is larger than 1 MiB, or has more than 1,000 keys of this store"),
    (415, "unsupported-media-type", "the body has another content type than `text/plain`"),
];
const WITH_QUERY: &[Kind] = &[
    (400, "malformed-query", "the query is not `name=value&…`"),
    (422, "invalid-request", "a parameter is not valid; `errors` lists the parameters"),
];
const WITH_ID: &[Kind] = &[(404, "no-such-key", "no key has this id")];
const WITH_NAME: &[Kind] = &[(422, "invalid-request", "the name is not a name of a scope")];
const ROOT: &[Kind] = &[(403, "forbidden", "only a root key may do this")];
const HIDE: &[Kind] = &[
    (404, "no-such-scope", "the store has no scope of this name"),
    (409, "key-management-scope", "the scope is for key management, which every store has"),
];
const CHANGE: &[Kind] = &[
    (409, "contended", "with replicas: others changed the store meanwhile; repeat the request"),
    (507, "disk-full", "the disk is full; only stricter changes are written"),
];
const GRANT: &[Kind] = &[(
    403,
    "forbidden",
    "the key would grant more than it holds, or only a local user may do this",
)];
const IDEMPOTENT: &[Kind] = &[(
    429,
    "too-many-idempotent-requests",
    "the limit of `Idempotency-Key`; repeat the request after `Retry-After`",
)];
const CONDITIONAL: &[Kind] = &[
    (400, "malformed-condition", "more than one entity tag in `If-Match`"),
    (412, "changed-meanwhile", "the key has another `ETag`; read the key again"),
];
const CREATE: &[Kind] = &[(
    404,
    "no-such-key",
    "a request with this `Idempotency-Key` issued a key that was deleted since",
)];
const UPDATE: &[Kind] = &[(409, "last-root-key", "the key is the last active root key")];
const ROTATE: &[Kind] = &[(409, "not-current", "the key is inactive, expired or already replaced")];
const DELETE: &[Kind] = &[
    (409, "still-active", "the key is active; deactivate it first"),
    (409, "imported-key", "the key was imported and cannot be deleted"),
];

const COUNT_BULK: &[Kind] =
    &[(429, "too-many-bulk-acts", "too many acts are counted and not done yet")];
const RUN_BULK: &[Kind] =
    &[(404, "no-such-count", "no counted keys have this token, or no more; count again")];
const BATCH: &[Kind] =
    &[(422, "invalid-line", "a line is not a valid key; `detail` names the line and the value")];

/// Adds the error responses of an operation.
pub(crate) fn add(method: &str, operation: &mut Value) {
    let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    for kind in kinds(method, operation).into_iter().flatten() {
        by_status.entry(kind.0).or_default().push(*kind);
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
        return;
    };
    for (status, kinds) in by_status {
        responses.insert(status.to_string(), response(method, status, &kinds));
    }
}

fn kinds(method: &str, operation: &Value) -> Vec<&'static [Kind]> {
    let has = |place: &str, name: Option<&str>| {
        let parameters = operation.get("parameters").and_then(Value::as_array);
        parameters.into_iter().flatten().any(|parameter| {
            parameter.get("in").is_some_and(|found| found == place)
                && name.is_none_or(|name| parameter.get("name").is_some_and(|found| found == name))
        })
    };
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
    let mut kinds = vec![EVERY_OPERATION];
    if id.starts_with("authorize") {
        kinds.extend([WITH_KEY, WITH_SCOPE, RATE_OF_PROXY, FORWARD_AUTH, UNAVAILABLE]);
        return kinds;
    }
    let key = operation.pointer("/security/0/key").and_then(Value::as_array);
    if let Some(scopes) = key {
        kinds.extend([WITH_KEY, LIMITED, RATE, UNAVAILABLE]);
        if !scopes.is_empty() {
            kinds.push(WITH_SCOPE);
        }
    }
    if method != "get" {
        kinds.push(UNSAFE_METHOD);
    }
    let is_conditional = has("header", Some("If-Match"));
    let is_idempotent = has("header", Some("Idempotency-Key"));
    let has_text = id == "find_leaked_keys";
    let changes_scopes = ["add_scope", "hide_scope", "set_policy"].contains(&id);
    let revokes_own = id == "revoke_own_key";
    let conditions = [
        (method != "get" && !has_text, LIMITED_BODY),
        (operation.get("requestBody").is_some() && !has_text, WITH_BODY),
        (has_text, WITH_TEXT),
        (has("query", None), WITH_QUERY),
        (has("path", Some("id")), WITH_ID),
        (id == "hide_scope", WITH_NAME),
        (is_conditional || is_idempotent || changes_scopes || revokes_own, CHANGE),
        (changes_scopes, ROOT),
        (is_idempotent || id == "update_key" || id == "create_keys", GRANT),
        (id == "count_bulk_act", COUNT_BULK),
        (id == "run_bulk_act", RUN_BULK),
        (id == "create_keys", BATCH),
        (id == "create_keys" || id == "run_bulk_act", CHANGE),
        (is_idempotent, IDEMPOTENT),
        (is_conditional, CONDITIONAL),
        (id == "follow_audit_log", STREAMS),
        (id == "readyz", UNAVAILABLE),
        (id == "create_key", CREATE),
        (id == "update_key" || revokes_own, UPDATE),
        (id == "rotate_key", ROTATE),
        (id == "delete_key", DELETE),
        (id == "hide_scope", HIDE),
    ];
    kinds.extend(conditions.into_iter().filter_map(|(holds, kind)| holds.then_some(kind)));
    kinds
}

fn response(method: &str, status: u16, kinds: &[Kind]) -> Value {
    let paragraphs: Vec<_> =
        kinds.iter().map(|(_, name, meaning)| format!("`{name}`: {meaning}.")).collect();
    let types: Vec<_> = kinds.iter().map(|(_, name, _)| format!("urn:portcullis:{name}")).collect();
    let schema = json!({"allOf": [
        {"$ref": "#/components/schemas/Problem"},
        {"type": "object", "properties": {"type": {"type": "string", "enum": types}}},
    ]});
    let mut response = Map::new();
    response.insert("description".into(), paragraphs.join("\n\n").into());
    response.insert("content".into(), json!({"application/problem+json": {"schema": schema}}));
    let header = match (status, method) {
        (401, _) => Some(("WWW-Authenticate", "The Basic challenge", "string")),
        (429, _) => Some(("Retry-After", "How many seconds to wait", "integer")),
        (503, _) => Some(("Retry-After", "How many seconds to wait, after an overload", "integer")),
        (415, "patch") => Some(("Accept-Patch", "The accepted content types", "string")),
        _ => None,
    };
    if let Some((name, description, kind)) = header {
        let header = json!({"description": description, "schema": {"type": kind}});
        response.insert("headers".into(), json!({name: header}));
    }
    response.into()
}
