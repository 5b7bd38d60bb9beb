//! `key …`: creates, lists, changes, rotates and deletes keys.

use super::{
    client::{Answer, Client},
    create_many,
    delivery::{self, Undelivered},
    failure::Failure,
    filter::Filter,
    key_args::{Changes, Create, Delete, Expiring, List, Rotate, Sort, Update},
    key_argument::{confirm, find},
    key_pages::each_page,
    output::{self, Key},
    table::terminal_width,
    values::{YesNo, from_now},
};
use axum::http::Method;
use portcullis::{KeyId, Network, Rate};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use std::{
    ops::ControlFlow::{Break, Continue},
    process::ExitCode,
};

/// Keys expire soon.
const EXPIRING: u8 = 4;

/// `key create`: prints only the secret to standard output.
pub(crate) async fn create(
    client: &mut Client,
    options: Create,
    json: bool,
) -> Result<ExitCode, Failure> {
    if let (Some(from), Some(to)) = (&options.from, &options.to) {
        return create_many::run(client, from, to).await;
    }
    let mut body = Map::new();
    body.insert("name".into(), options.name.into());
    body.insert("scopes".into(), if options.root { json!(["*"]) } else { json!(options.scopes) });
    body.insert("active".into(), (!options.inactive).into());
    let end = options.expires_in.map(end_after).transpose()?.or(options.expires_at);
    // Absent: the policy of the store decides.
    if end.is_some() || options.never_expires {
        body.insert("expires_at".into(), end.into());
    }
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
    let keys = read_list(client, options).await?;
    show_list(keys, json)
}

/// `key expiring`: exits with 4 if keys expire soon.
pub(crate) async fn expiring(
    client: &mut Client,
    options: &Expiring,
    json: bool,
) -> Result<ExitCode, Failure> {
    let filter = Filter { expiring_within: Some(options.within), ..Filter::default() };
    let list = List { filter, sort: Sort::Expires, ..List::default() };
    let keys = read_list(client, &list).await?;
    let are_some = !keys.is_empty();
    show_list(keys, json)?;
    Ok(if are_some { EXPIRING.into() } else { ExitCode::SUCCESS })
}

async fn read_list(
    client: &mut Client,
    options: &List,
) -> Result<Vec<(Key, Box<RawValue>)>, Failure> {
    let (mut keys, limit) = (Vec::new(), options.limit.unwrap_or(usize::MAX));
    let other_version = |_| Failure::failed("the response is from another version of the server");
    each_page(client, options, |page| {
        for raw in page {
            let key: Key = serde_json::from_str(raw.get()).map_err(other_version)?;
            keys.push((key, raw));
        }
        Ok(if keys.len() < limit { Continue(()) } else { Break(()) })
    })
    .await?;
    keys.truncate(limit);
    Ok(keys)
}

fn show_list(keys: Vec<(Key, Box<RawValue>)>, json: bool) -> Result<ExitCode, Failure> {
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
pub(crate) async fn export(client: &mut Client, digests: bool) -> Result<ExitCode, Failure> {
    if digests {
        return export_digests(client).await;
    }
    each_page(client, &List::default(), |page| {
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

async fn export_digests(client: &mut Client) -> Result<ExitCode, Failure> {
    #[derive(Deserialize)]
    struct Page {
        keys: Vec<Box<RawValue>>,
        next_page_token: Option<String>,
    }
    let mut path = "/v1/digests".to_owned();
    loop {
        let page: Page = client.send(Method::GET, &path, None).await?.read()?;
        let lines: String = page.keys.iter().flat_map(|key| [key.get(), "\n"]).collect();
        output::print_page(lines.as_bytes())?;
        let Some(token) = page.next_page_token else { return Ok(ExitCode::SUCCESS) };
        path = format!("/v1/digests?page_token={token}");
    }
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
    let end = changes.expires_in.map(end_after).transpose()?.or(changes.expires_at);
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

fn end_after(seconds: u32) -> Result<String, Failure> {
    from_now(seconds).map_err(Failure::usage)
}
