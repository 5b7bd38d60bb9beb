//! `key …` and `scopes`.

use super::{
    args::{Changes, Create, Delete, List, Rotate, Update, YesNo},
    client::{Answer, Client},
    delivery::{self, Undelivered},
    failure::Failure,
    output::{self, Key},
};
use axum::http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use portcullis::KeyId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use std::{fmt::Write, process::ExitCode, time::Duration};

/// The largest page of the API.
const PAGE_SIZE: usize = 200;

/// `key create`: prints only the secret to standard output.
pub(crate) async fn create(
    client: &mut Client,
    asked: Create,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut body = Map::new();
    body.insert("name".into(), asked.name.into());
    body.insert("scopes".into(), if asked.root { json!(["*"]) } else { json!(asked.scopes) });
    body.insert("active".into(), (!asked.inactive).into());
    let end = asked.expires_in.map(from_now).transpose()?.or(asked.expires_at);
    body.insert("expires_at".into(), end.into());
    body.insert("owner".into(), asked.owner.into());
    body.insert("metadata".into(), asked.meta.into_iter().collect());
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
        "warning: the store's time is {ahead} s ahead of the clock, since a change was made while a \
         clock was wrong; keys expire that much too early until the clock reaches that time"
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
    asked: &List,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut keys: Vec<Box<RawValue>> = Vec::new();
    each_page(client, asked, |page| {
        keys.extend(page);
        Ok(())
    })
    .await?;
    if json {
        #[derive(Serialize)]
        struct Listing {
            keys: Vec<Box<RawValue>>,
            next_page_token: Option<String>,
        }
        let text = serde_json::to_vec(&Listing { keys, next_page_token: None });
        output::line(&text.unwrap_or_default())?;
    } else {
        let keys: Result<Vec<Key>, _> =
            keys.iter().map(|key| serde_json::from_str(key.get())).collect();
        let keys = keys.map_err(|_| Failure::failed("the server is of another version"))?;
        output::print(output::table(&keys).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `export`: prints one key per line, with one page in memory at a time.
pub(crate) async fn export(client: &mut Client) -> Result<ExitCode, Failure> {
    let all = List { active: None, scope: None, search: None };
    each_page(client, &all, |page| {
        let mut lines = String::new();
        for key in page {
            lines.push_str(key.get());
            lines.push('\n');
        }
        output::print_page(lines.as_bytes())
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

async fn each_page(
    client: &mut Client,
    asked: &List,
    mut each: impl FnMut(Vec<Box<RawValue>>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Listing {
        keys: Vec<Box<RawValue>>,
        next_page_token: Option<String>,
    }
    let mut page_token = None;
    loop {
        let mut path = format!("/v1/keys?page_size={PAGE_SIZE}");
        let active = asked.active.map(|active| (active == YesNo::Yes).to_string());
        for (name, value) in [
            ("active", &active),
            ("scope", &asked.scope),
            ("q", &asked.search),
            ("page_token", &page_token),
        ] {
            if let Some(value) = value {
                let _ = write!(path, "&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
            }
        }
        let page: Listing = client.send(Method::GET, &path, None).await?.read()?;
        each(page.keys)?;
        page_token = page.next_page_token;
        if page_token.is_none() {
            return Ok(());
        }
    }
}

/// `key show`
pub(crate) async fn show(client: &mut Client, id: &str, json: bool) -> Result<ExitCode, Failure> {
    let answer = client.send(Method::GET, &path_of(id)?, None).await?;
    show_one(&answer, json)
}

/// `key update`
pub(crate) async fn update(
    client: &mut Client,
    asked: Update,
    json: bool,
) -> Result<ExitCode, Failure> {
    let path = path_of(&asked.id)?;
    let answer = client.send(Method::PATCH, &path, Some(&patch(asked.changes))).await?;
    show_one(&answer, json).map_err(output::although("the key was changed"))
}

/// `key revoke`: the key is refused everywhere when the command returns.
pub(crate) async fn revoke(client: &mut Client, id: &str, json: bool) -> Result<ExitCode, Failure> {
    let body = json!({"active": false});
    let answer = client.send(Method::PATCH, &path_of(id)?, Some(&body)).await?;
    if json {
        return show_one(&answer, json).map_err(output::although("the key was revoked"));
    }
    let key: Key = answer.read()?;
    let settled = key.settled.as_ref().map(output::Settled::told).unwrap_or_default();
    output::say(&format!("{} ({}) is inactive{settled}", key.id, key.name));
    Ok(ExitCode::SUCCESS)
}

/// `key rotate`: prints only the new secret to standard output.
pub(crate) async fn rotate(
    client: &mut Client,
    asked: &Rotate,
    json: bool,
) -> Result<ExitCode, Failure> {
    let path = format!("{}/rotate", path_of(&asked.id)?);
    let grace = asked.grace.unwrap_or(0);
    let reader = delivery::check_standard_output()?;
    delivery::finish_before_signals()?;
    let answer = client.send(Method::POST, &path, Some(&json!({"grace_seconds": grace}))).await?;
    let old = match asked.grace {
        None | Some(0) => format!("{} is inactive", asked.id),
        Some(grace) => format!("{} works for {grace} s more at most", asked.id),
    };
    delivery::show(&answer, reader, json).map_err(|undelivered| {
        undelivered.failure(&format!("{old}, and was replaced by"), delivery::rotate_again)
    })?;
    output::say(&old);
    Ok(ExitCode::SUCCESS)
}

/// `key delete`
pub(crate) async fn delete(client: &mut Client, asked: &Delete) -> Result<ExitCode, Failure> {
    client.send(Method::DELETE, &path_of(&asked.id)?, None).await?;
    output::say(&format!("deleted {}", asked.id));
    Ok(ExitCode::SUCCESS)
}

/// `scopes`
pub(crate) async fn scopes(client: &mut Client, json: bool) -> Result<ExitCode, Failure> {
    #[derive(Deserialize)]
    struct Scopes {
        scopes: Vec<Scope>,
    }
    #[derive(Deserialize)]
    struct Scope {
        name: String,
        description: String,
    }
    let answer = client.send(Method::GET, "/v1/scopes", None).await?;
    if json {
        output::line(answer.bytes())?;
    } else {
        let Scopes { scopes } = answer.read()?;
        let rows: Vec<[String; 2]> = scopes.into_iter().map(|s| [s.name, s.description]).collect();
        output::print(output::aligned(rows.iter()).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show_one(answer: &Answer, json: bool) -> Result<ExitCode, Failure> {
    if json {
        output::line(answer.bytes())?;
    } else {
        output::print(output::card(&answer.read()?).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn patch(changes: Changes) -> Value {
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
    set("expires_at", changes.expires_at.map(Value::from));
    set("owner", changes.no_owner.then_some(Value::Null));
    set("owner", changes.owner.map(Value::from));
    let kept = changes.meta.into_iter().map(|(name, note)| (name, Value::from(note)));
    let gone = changes.no_meta.into_iter().map(|name| (name, Value::Null));
    let notes: Map<String, Value> = kept.chain(gone).collect();
    set("metadata", (!notes.is_empty()).then_some(Value::Object(notes)));
    Value::Object(body)
}

/// Returns the path of a key. Text that is no id is not sent: it could be a key by mistake.
fn path_of(id: &str) -> Result<String, Failure> {
    let id: KeyId = id.parse().map_err(|error| Failure::usage(format!("ID: {error}")))?;
    Ok(format!("/v1/keys/{id}"))
}

fn from_now(seconds: u32) -> Result<String, Failure> {
    jiff::Timestamp::now()
        .checked_add(Duration::from_secs(seconds.into()))
        .map(|end| end.to_string())
        .map_err(|_| Failure::usage("--expires-in: this end is out of reach"))
}
