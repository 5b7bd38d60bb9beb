//! `scopes …`: lists the scopes of a store, adds one and hides one.

use super::{
    args::{ListScopes, ScopesCommand},
    client::Client,
    failure::Failure,
    output,
    table::{aligned, terminal_width},
};
use axum::http::Method;
use portcullis::{Scope, scope::ParseScopeError};
use serde::Deserialize;
use serde_json::json;
use std::process::ExitCode;

#[derive(Deserialize)]
struct Listing {
    scopes: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    description: String,
    #[serde(default)]
    hidden: bool,
}

pub(crate) async fn run(
    client: &mut Client,
    command: &ScopesCommand,
    json: bool,
) -> Result<ExitCode, Failure> {
    match command {
        ScopesCommand::List(options) => list(client, options, json).await?,
        ScopesCommand::Add { name, description } => {
            let body = json!({ "description": description });
            let answer = client.send(Method::PUT, &path(name)?, Some(&body)).await?;
            if json {
                output::line(answer.bytes())?;
            }
            output::say(&format!("added {name}"));
        }
        ScopesCommand::Hide { name } => {
            client.send(Method::DELETE, &path(name)?, None).await?;
            output::say(&format!("hid {name}; keys that have it keep it"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &mut Client, options: &ListScopes, json: bool) -> Result<(), Failure> {
    let path = if options.hidden { "/v1/scopes?hidden=true" } else { "/v1/scopes" };
    let answer = client.send(Method::GET, path, None).await?;
    if json {
        return output::line(answer.bytes());
    }
    let Listing { scopes } = answer.read()?;
    let rows: Vec<[String; 2]> = scopes
        .into_iter()
        .map(|Listed { name, description, hidden }| {
            [name, if hidden { format!("(hidden) {description}") } else { description }]
        })
        .collect();
    output::print(aligned(rows.iter(), terminal_width()).as_bytes())
}

/// The path of a scope. A malformed name is not repeated: it may be a key.
fn path(name: &str) -> Result<String, Failure> {
    let scope: Result<Scope, ParseScopeError> = name.parse();
    let scope = scope.map_err(|error| Failure::usage(format!("NAME: {error}")))?;
    Ok(format!("/v1/scopes/{scope}"))
}
