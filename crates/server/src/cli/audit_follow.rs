//! `audit --follow`: prints the entries of the audit log, and each new one when it is durable.

use super::{args::Audit, audit, client::Client, failure::Failure, location::Location, output};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::process::ExitCode;

/// A line that is no entry.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Note {
    Heartbeat {},
    Pruned { through: u64 },
}

/// Prints until the server stops or the reader of standard output is gone. Only a server, or a replica, gets
/// new entries while this command runs.
pub(crate) async fn run(
    location: &Location,
    options: &Audit,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut client = match Client::of_server(location).await? {
        Some(client) => client,
        None if location.etcd.are_given() => Client::over(location.open()?),
        None => {
            let data = location.data.display();
            return Err(Failure::unreachable(format!(
                "no server runs in {data}, so the audit log gets no new entries; start one, or leave out --follow"
            )));
        }
    };
    let path = format!("/v1/audit/stream?after={}", options.after);
    client.lines(&path, |lines| show(lines, json)).await?;
    Err(Failure::unreachable(
        "the server ended the stream; to continue, give the last number with --after",
    ))
}

fn show(lines: &str, json: bool) -> Result<(), Failure> {
    let other = |_| Failure::failed("the response is from another version of the server");
    let mut entries: Vec<Box<RawValue>> = Vec::new();
    for line in lines.lines() {
        match serde_json::from_str(line) {
            Ok(Note::Heartbeat {}) => {}
            Ok(Note::Pruned { through }) => {
                output::say(&format!("the entries up to {through} were pruned"));
            }
            Err(_) => entries.push(serde_json::from_str(line).map_err(other)?),
        }
    }
    audit::show(&entries, json)
}
