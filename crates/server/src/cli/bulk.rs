//! `key bulk …`: acts on many keys. The keys are counted first, and the act is done in parts.

use super::{
    bulk_args::{BulkCommand, Selection},
    client::Client,
    failure::Failure,
    key_argument::confirm,
    output,
    values::from_now,
};
use axum::http::Method;
use portcullis::KeyId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// Some keys were left alone.
const LEFT_ALONE: u8 = 4;

#[derive(Deserialize)]
struct Counted {
    token: String,
    count: u64,
    unknown_ids: Vec<String>,
}

#[derive(Deserialize, Serialize)]
struct Report {
    done: u64,
    left_alone_count: u64,
    left_alone: Vec<LeftAlone>,
    remaining: u64,
}

#[derive(Deserialize, Serialize)]
struct LeftAlone {
    id: String,
    detail: String,
}

/// Exits with 4 if some keys were left alone.
pub(crate) async fn run(
    client: &mut Client,
    command: BulkCommand,
    json: bool,
) -> Result<ExitCode, Failure> {
    let (act, fields, what, selection) = read(command)?;
    let mut body = fields;
    body.insert("act".into(), act.into());
    let filter = selection.filter.fields()?;
    let refuse = |text: &str| Err(Failure::usage(text.to_owned()));
    match (selection.ids.is_empty(), filter.is_empty(), selection.all) {
        (true, true, false) => return refuse("give a filter, --id, or --all for all keys"),
        (false, false, _) | (false, _, true) | (true, false, true) => {
            return refuse("give filters, or --id, or --all, not several of them");
        }
        (false, true, false) => {
            let ids: Vec<String> = selection.ids.iter().map(KeyId::to_string).collect();
            body.insert("ids".into(), json!(ids));
        }
        (true, ..) => {
            body.insert("filter".into(), Value::Object(filter));
        }
    }
    let counted: Counted =
        client.send(Method::POST, "/v1/bulk", Some(&Value::Object(body))).await?.read()?;
    for id in &counted.unknown_ids {
        output::say(&format!("no key has the id {id}"));
    }
    if counted.count == 0 {
        output::say("no key is selected; nothing was changed");
        return Ok(ExitCode::SUCCESS);
    }
    confirm(&format!("{what} {}", output::keys(counted.count)), selection.yes)?;
    let report = run_counted(client, &counted).await?;
    if json {
        output::line(&serde_json::to_vec(&report).unwrap_or_default())?;
    } else {
        for key in &report.left_alone {
            output::say(&format!("left alone {}: {}", key.id, key.detail));
        }
        let left_alone = match report.left_alone_count {
            0 => String::new(),
            count => format!(", left {} alone", output::keys(count)),
        };
        output::say(&format!("{what}: done for {}{left_alone}", output::keys(report.done)));
    }
    Ok(if report.left_alone_count == 0 { ExitCode::SUCCESS } else { LEFT_ALONE.into() })
}

async fn run_counted(client: &mut Client, counted: &Counted) -> Result<Report, Failure> {
    let path = format!("/v1/bulk/{}", counted.token);
    loop {
        let report: Report = client.send(Method::POST, &path, None).await?.read()?;
        if report.remaining == 0 {
            return Ok(report);
        }
        let done = report.done + report.left_alone_count;
        output::say(&format!("{done} of {}", output::keys(counted.count)));
    }
}

/// Revokes keys that were created and not delivered.
pub(crate) async fn revoke(client: &mut Client, ids: &[String]) -> Result<(), Failure> {
    let body = json!({"act": "revoke", "ids": ids});
    let counted: Counted = client.send(Method::POST, "/v1/bulk", Some(&body)).await?.read()?;
    run_counted(client, &counted).await.map(drop)
}

/// An act: its name in the API, its fields, its description, and the keys.
type Act = (&'static str, Map<String, Value>, &'static str, Selection);

fn read(command: BulkCommand) -> Result<Act, Failure> {
    let mut fields = Map::new();
    Ok(match command {
        BulkCommand::Revoke(selection) => ("revoke", fields, "revoking", selection),
        BulkCommand::Delete(selection) => ("delete", fields, "deleting", selection),
        BulkCommand::RemoveScopes { scopes, selection } => {
            fields.insert("scopes".into(), json!(scopes));
            ("remove_scopes", fields, "removing scopes from", selection)
        }
        BulkCommand::SetExpiry { end, selection } => {
            let at = end
                .expires_in
                .map(from_now)
                .transpose()
                .map_err(Failure::usage)?
                .or(end.expires_at);
            fields.insert("expires_at".into(), json!(at));
            ("set_expiry", fields, "setting the expiry of", selection)
        }
        BulkCommand::SetOwner { to, selection } => {
            fields.insert("owner".into(), json!(to.to));
            ("set_owner", fields, "setting the owner of", selection)
        }
    })
}
