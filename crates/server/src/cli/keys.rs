//! `key …`: creates, lists, changes, rotates and deletes keys.

use super::{
    client::{Answer, Client},
    delivery::{self, Undelivered},
    failure::Failure,
    key_args::{Changes, Create, Delete, List, Rotate, Sort, Update, YesNo},
    key_argument::{confirm, find},
    key_pages::each_page,
    output::{self, Key},
    table::terminal_width,
};
use axum::http::Method;
use portcullis::{KeyId, Network, Rate};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use std::{
    ops::ControlFlow::{Break, Continue},
    process::ExitCode,
    time::Duration,
};

/// `key create`: prints only the secret to standard output.
pub(crate) async fn create(
    client: &mut Client,
    options: Create,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut body = Map::new();
    body.insert("name".into(), options.name.into());
    body.insert("scopes".into(), if options.root { json!(["*"]) } else { json!(options.scopes) });
    body.insert("active".into(), (!options.inactive).into());
    let end = options.expires_in.map(from_now).transpose()?.or(options.expires_at);
    body.insert("expires_at".into(), end.into());
    body.insert("owner".into(), options.owner.into());
    body.insert("metadata".into(), options.meta.into_iter().collect());
    if !options.networks.is_empty() {
        body.insert("networks".into(), texts(&options.networks));
    }
    if let Some(rate) = options.rate {
        body.insert("rate".into(), object(rate));
    }
    let reader = delivery::check_standard_output()?;
    warn_if_time_is_ahead(client).await;
    delivery::finish_before_signals()?;
    let answer = client.send(Method::POST, "/v1/keys", Some(&body.into())).await?;
    match delivery::show(&answer, reader, json) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(undelivered) => Err(revoke_undelivered(client, &undelivered).await),
    }
}

/// Warns if the store's time is ahead of the wall clock: keys expire too early.
async fn warn_if_time_is_ahead(client: &mut Client) {
    #[derive(Deserialize)]
    struct Ready {
        clock_ahead_seconds: Option<u64>,
    }
    let Ok(answer) = client.send(Method::GET, "/readyz", None).await else { return };
    let Ok(Ready { clock_ahead_seconds: Some(ahead) }) = answer.read() else { return };
    output::say(&format!(
        "warning: the store's time is {ahead} s ahead of the wall clock, because a change was made while a \
         clock was ahead; keys expire that much too early until the wall clock reaches the store's time"
    ));
}

/// Revokes a new key that was not delivered.
async fn revoke_undelivered(client: &mut Client, undelivered: &Undelivered) -> Failure {
    let revoked = match &undelivered.id {
        Some(id) => match path_of(id) {
            Ok(path) => client.send(Method::PATCH, &path, Some(&json!({"active": false}))).await,
            Err(failure) => Err(failure),
        },
        None => return undelivered.failure("created", str::to_owned),
    };
    undelivered.failure("created", |id| match revoked {
        Ok(_) => "it was revoked; create another one".to_owned(),
        Err(failure) => format!(
            "revoking it failed as well ({failure}); revoke it with: portcullis key revoke {id}"
        ),
    })
}

/// `key list`: prints all keys, read page by page.
pub(crate) async fn list(
    client: &mut Client,
    options: &List,
    json: bool,
) -> Result<ExitCode, Failure> {
    let (mut keys, limit) = (Vec::new(), options.limit.unwrap_or(usize::MAX));
    // In the order of the API, which is that of creation, no more pages than needed are read.
    let read = match options.sort {
        Sort::Created => limit,
        Sort::Name | Sort::Used | Sort::Expires => usize::MAX,
    };
    let other_version = |_| Failure::failed("the response is from another version of the server");
    each_page(client, options, |page| {
        for raw in page {
            let key: Key = serde_json::from_str(raw.get()).map_err(other_version)?;
            keys.push((key, raw));
        }
        Ok(if keys.len() < read { Continue(()) } else { Break(()) })
    })
    .await?;
    match options.sort {
        Sort::Created => {}
        Sort::Name => keys.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name)),
        // A key that was never used is the longest unused one.
        Sort::Used => keys.sort_by(|(a, _), (b, _)| a.last_used_at.cmp(&b.last_used_at)),
        Sort::Expires => {
            keys.sort_by_key(|(key, _)| (key.expires_at.is_none(), key.expires_at.clone()));
        }
    }
    keys.truncate(limit);
    if json {
        #[derive(Serialize)]
        struct Listing {
            keys: Vec<Box<RawValue>>,
            next_page_token: Option<String>,
        }
        let keys = keys.into_iter().map(|(_, raw)| raw).collect();
        let text = serde_json::to_vec(&Listing { keys, next_page_token: None });
        output::line(&text.unwrap_or_default())?;
    } else {
        let keys: Vec<Key> = keys.into_iter().map(|(key, _)| key).collect();
        let table = output::table(&keys, jiff::Timestamp::now(), terminal_width());
        output::print(table.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `export`: prints one key per line, with one page in memory at a time.
pub(crate) async fn export(client: &mut Client) -> Result<ExitCode, Failure> {
    each_page(client, &List::all(), |page| {
        let mut lines = String::new();
        for key in page {
            lines.push_str(key.get());
            lines.push('\n');
        }
        output::print_page(lines.as_bytes())?;
        Ok(Continue(()))
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// `key show`: prints a key.
pub(crate) async fn show(client: &mut Client, id: &str, json: bool) -> Result<ExitCode, Failure> {
    let path = find(client, id).await?.path();
    let answer = client.send(Method::GET, &path, None).await?;
    show_one(&answer, json)
}

/// `key update`: changes a key and prints it.
pub(crate) async fn update(
    client: &mut Client,
    options: Update,
    json: bool,
) -> Result<ExitCode, Failure> {
    let path = find(client, &options.id).await?.path();
    let answer = client.send(Method::PATCH, &path, Some(&patch(options.changes)?)).await?;
    show_one(&answer, json).map_err(output::although("the key was changed"))
}

/// `key revoke`: the key is refused everywhere when the command returns.
pub(crate) async fn revoke(client: &mut Client, id: &str, json: bool) -> Result<ExitCode, Failure> {
    let body = json!({"active": false});
    let path = find(client, id).await?.path();
    let answer = client.send(Method::PATCH, &path, Some(&body)).await?;
    if json {
        return show_one(&answer, json).map_err(output::although("the key was revoked"));
    }
    let key: Key = answer.read()?;
    let settled = key.settled.as_ref().map(output::Settled::text).unwrap_or_default();
    output::say(&format!("{} ({}) is inactive{settled}", key.id, key.name));
    Ok(ExitCode::SUCCESS)
}

/// `key rotate`: prints only the new secret to standard output.
pub(crate) async fn rotate(
    client: &mut Client,
    options: &Rotate,
    json: bool,
) -> Result<ExitCode, Failure> {
    let key = find(client, &options.id).await?;
    let path = format!("{}/rotate", key.path());
    let grace = options.grace.unwrap_or(0);
    let reader = delivery::check_standard_output()?;
    delivery::finish_before_signals()?;
    let answer = client.send(Method::POST, &path, Some(&json!({"grace_seconds": grace}))).await?;
    let old = match options.grace {
        None | Some(0) => format!("{key} is inactive"),
        Some(grace) => format!("{key} stays valid for at most {grace} s"),
    };
    delivery::show(&answer, reader, json).map_err(|undelivered| {
        undelivered.failure(&format!("{old}, and was replaced by"), delivery::rotate_again)
    })?;
    output::say(&old);
    Ok(ExitCode::SUCCESS)
}

/// `key delete`: deletes an inactive key.
pub(crate) async fn delete(client: &mut Client, options: &Delete) -> Result<ExitCode, Failure> {
    let key = find(client, &options.id).await?;
    confirm(&format!("deleting {key}"), options.yes)?;
    client.send(Method::DELETE, &key.path(), None).await?;
    output::say(&format!("deleted {key}"));
    Ok(ExitCode::SUCCESS)
}

fn show_one(answer: &Answer, json: bool) -> Result<ExitCode, Failure> {
    if json {
        output::line(answer.bytes())?;
    } else {
        output::print(output::details(&answer.read()?).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn patch(changes: Changes) -> Result<Value, Failure> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.into(), value);
        }
    };
    set("name", changes.name.map(Value::from));
    let are_given = changes.no_scopes || !changes.scopes.is_empty();
    set("scopes", are_given.then(|| json!(changes.scopes)));
    set("active", changes.active.map(|active| Value::from(active == YesNo::Yes)));
    set("expires_at", changes.never_expires.then_some(Value::Null));
    let end = changes.expires_in.map(from_now).transpose()?.or(changes.expires_at);
    set("expires_at", end.map(Value::from));
    set("owner", changes.no_owner.then_some(Value::Null));
    set("owner", changes.owner.map(Value::from));
    let set_entries = changes.meta.into_iter().map(|(name, value)| (name, Value::from(value)));
    let removed = changes.no_meta.into_iter().map(|name| (name, Value::Null));
    let metadata: Map<String, Value> = set_entries.chain(removed).collect();
    set("metadata", (!metadata.is_empty()).then_some(Value::Object(metadata)));
    let are_given = changes.any_network || !changes.networks.is_empty();
    set("networks", are_given.then(|| texts(&changes.networks)));
    set("rate", changes.no_rate.then_some(Value::Null));
    set("rate", changes.rate.map(object));
    Ok(Value::Object(body))
}

fn texts(networks: &[Network]) -> Value {
    networks.iter().map(Network::to_string).collect()
}

fn object(rate: Rate) -> Value {
    json!({"requests": rate.requests(), "seconds": rate.seconds()})
}

/// Returns the path of a key.
fn path_of(id: &str) -> Result<String, Failure> {
    let id: KeyId = id.parse().map_err(|error| Failure::usage(format!("ID: {error}")))?;
    Ok(format!("/v1/keys/{id}"))
}

fn from_now(seconds: u32) -> Result<String, Failure> {
    jiff::Timestamp::now()
        .checked_add(Duration::from_secs(seconds.into()))
        .map(|end| end.to_string())
        .map_err(|_| Failure::usage("--expires-in: too long"))
}
