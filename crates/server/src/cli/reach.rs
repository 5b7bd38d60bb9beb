//! `key reach` and `key revoke`: what a leaked key created, what replaced it and what it did, and revoking
//! these keys.

use super::{
    audit,
    client::Client,
    failure::Failure,
    key_args::Revoke,
    key_argument::find,
    output::{self, Key},
    table::terminal_width,
};
use axum::http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use std::process::ExitCode;

#[derive(Deserialize)]
struct Reach {
    key: Key,
    created: Group,
    successors: Group,
    deleted: Vec<String>,
    acts: Entries,
    changes: Entries,
}

#[derive(Deserialize)]
struct Group {
    count: usize,
    active: usize,
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Entries {
    entries: Vec<Box<RawValue>>,
    is_complete: bool,
}

/// `key reach`: prints the keys and entries that a key leads to.
pub(crate) async fn show(
    client: &mut Client,
    argument: &str,
    json: bool,
) -> Result<ExitCode, Failure> {
    let key = find(client, argument).await?;
    let answer = client.send(Method::GET, &format!("{}/reach", key.path()), None).await?;
    if json {
        output::line(answer.bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let reach: Reach = answer.read()?;
    output::print(output::details(&reach.key).as_bytes())?;
    for (title, group) in [("created", &reach.created), ("successors", &reach.successors)] {
        output::line(format!("\n{title}: {}, {} active", group.count, group.active).as_bytes())?;
        if !group.keys.is_empty() {
            let table = output::table(&group.keys, jiff::Timestamp::now(), terminal_width());
            output::print(table.as_bytes())?;
        }
        if group.keys.len() < group.count {
            output::line(b"the other keys are not shown")?;
        }
    }
    if !reach.deleted.is_empty() {
        output::line(format!("created and deleted: {}", reach.deleted.join(" ")).as_bytes())?;
    }
    for (title, option, found) in
        [("acts", "actor", &reach.acts), ("changes", "key", &reach.changes)]
    {
        output::line(format!("\n{title}, newest first: {}", found.entries.len()).as_bytes())?;
        audit::show(&found.entries, false)?;
        if !found.is_complete {
            let rest = format!("there may be more: portcullis audit --{option} {}", reach.key.id);
            output::line(rest.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The result of revoking a group.
#[derive(Deserialize, Serialize)]
struct Revoked {
    revoked: Vec<String>,
    not_revoked: Vec<NotRevoked>,
}

#[derive(Deserialize, Serialize)]
struct NotRevoked {
    id: String,
    reason: String,
}

/// `key revoke`: the key is refused everywhere when the command returns. Then the same for its groups.
pub(crate) async fn revoke(
    client: &mut Client,
    options: &Revoke,
    json: bool,
) -> Result<ExitCode, Failure> {
    let path = find(client, options.id.as_deref().unwrap_or_default()).await?.path();
    let answer = client.send(Method::PATCH, &path, Some(&json!({"active": false}))).await?;
    let shown = output::although("the key was revoked");
    if json && !options.created && !options.successors {
        output::line(answer.bytes()).map_err(shown)?;
        return Ok(ExitCode::SUCCESS);
    }
    let key: Key = answer.read()?;
    if !json {
        let settled = key.settled.as_ref().map(output::Settled::text).unwrap_or_default();
        output::say(&format!("{} ({}) is inactive{settled}", key.id, key.name));
    }
    let (mut groups, mut failed) = (serde_json::Map::new(), 0);
    for (group, is_wanted) in [("created", options.created), ("successors", options.successors)] {
        if !is_wanted {
            continue;
        }
        let revoke = format!("{path}/reach/revoke");
        let answer = client.send(Method::POST, &revoke, Some(&json!({"group": group}))).await?;
        let done: Revoked = answer.read()?;
        failed += done.not_revoked.len();
        if json {
            groups.insert(group.into(), json!(done));
            continue;
        }
        output::say(&format!("{group}: revoked {}", output::keys(done.revoked.len() as u64)));
        for NotRevoked { id, reason } in &done.not_revoked {
            output::say(&format!("{group}: {id} is not revoked: {reason}"));
        }
    }
    if json {
        let text = json!({"id": key.id, "groups": groups}).to_string();
        output::line(text.as_bytes()).map_err(shown)?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
