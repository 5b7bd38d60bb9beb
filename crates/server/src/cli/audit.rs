//! `audit`: prints the entries of the audit log.

use super::{
    args::Audit, client::Client, failure::Failure, key_argument::find, output, table::aligned,
};
use axum::http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{fmt::Write, process::ExitCode};

/// The largest page of the API.
const LIMIT: usize = 1000;

#[derive(Deserialize)]
struct Page {
    entries: Vec<Box<RawValue>>,
    next_after: Option<u64>,
}

#[derive(Deserialize)]
struct Entry {
    sequence: u64,
    at: String,
    actor: String,
    source: Option<String>,
    act: String,
    key: Option<String>,
    replaced_by: Option<String>,
    refused: Option<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    attempt: String,
    reason: String,
    repeated: Option<Repeated>,
}

#[derive(Deserialize)]
struct Repeated {
    count: u64,
    first: String,
    last: String,
}

/// Prints the entries page by page, since the log can be of any length.
pub(crate) async fn run(
    client: &mut Client,
    options: &Audit,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut filter = String::new();
    for (name, key) in [("key", &options.key), ("actor", &options.actor)] {
        if let Some(key) = key {
            let _ = write!(filter, "&{name}={}", find(client, key).await?.id);
        }
    }
    let mut after = Some(options.after);
    while let Some(start) = after {
        let path = format!("/v1/audit?limit={LIMIT}&after={start}{filter}");
        let page: Page = client.send(Method::GET, &path, None).await?.read()?;
        after = page.next_after;
        show(&page.entries, json)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints entries as the API has them.
pub(crate) fn show(entries: &[Box<RawValue>], json: bool) -> Result<(), Failure> {
    if json {
        let mut lines = String::new();
        for entry in entries {
            lines.push_str(entry.get());
            lines.push('\n');
        }
        return output::print_page(lines.as_bytes());
    }
    let entries: Result<Vec<Entry>, _> =
        entries.iter().map(|entry| serde_json::from_str(entry.get())).collect();
    let entries = entries
        .map_err(|_| Failure::failed("the response is from another version of the server"))?;
    let rows: Vec<[String; 6]> = entries.into_iter().map(row).collect();
    output::print_page(aligned(rows.iter(), None).as_bytes())
}

fn row(entry: Entry) -> [String; 6] {
    let from = entry.source.map(|source| format!(" from {source}")).unwrap_or_default();
    let details = match (entry.refused, entry.replaced_by) {
        (Some(refused), _) => {
            let again = refused.repeated.map_or_else(String::new, |repeated| {
                let Repeated { count, first, last } = repeated;
                format!(" (again {count} times, from {first} to {last})")
            });
            format!("{}: {}{again}", refused.attempt, refused.reason)
        }
        (None, Some(new)) => format!("by {new}"),
        (None, None) => String::new(),
    };
    [
        entry.sequence.to_string(),
        entry.at,
        format!("{}{from}", entry.actor),
        entry.act,
        entry.key.unwrap_or_default(),
        details,
    ]
}
