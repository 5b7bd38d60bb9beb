//! `doctor`: examines a directory, and repairs it into a new one.

use super::{
    args::Doctor,
    audit_export::verify_pages,
    client::Client,
    failure::Failure,
    finding::{FAULT, finding},
    location::{self, Location},
    output,
    table::aligned,
    terminal_text::escape,
};
use axum::http::Method;
use portcullis::{
    Actor, Prefix,
    doctor::{Finding, Repaired, Report, Severity},
};
use rustix::process::geteuid;
use serde_json::{Value, json};
use std::{fmt::Write, path::Path, process::ExitCode};

const IN_USE: u8 = 5;

/// Exits with 0 if nothing is wrong, 4 if something is wrong, and 5 if a process has the store open and
/// does not respond.
pub(crate) async fn run(
    location: &Location,
    options: &Doctor,
    json: bool,
) -> Result<ExitCode, Failure> {
    location.etcd.refuse_for(
        "doctor examines a store in a directory; for a store in etcd, audit --verify checks the audit log, and \
         backup reads all keys",
    )?;
    let scratch = options.scratch.clone().unwrap_or_else(location::scratch);
    if let Some(new) = &options.repair {
        return repair(location, options, new, &scratch, json);
    }
    let mut report = location.offline()?.examine(&location.data, &scratch)?;
    let served = examine_server(location, &mut report).await?;
    if json {
        output::line(as_json(&report, served).to_string().as_bytes())?;
    } else {
        output::print(as_text(&report, served).as_bytes())?;
    }
    Ok(code(&report, served))
}

/// Examines a store that a server has open, over its control socket: the server must be ready, and its
/// audit log intact. Returns the number of entries, or `None` if no server responds.
async fn examine_server(location: &Location, report: &mut Report) -> Result<Option<u64>, Failure> {
    if report.is_healthy() || report.faults().any(|finding| finding.code != "in-use") {
        return Ok(None);
    }
    let Some(mut client) = Client::of_server(location).await? else { return Ok(None) };
    client.send(Method::GET, "/readyz", None).await?;
    match verify_pages(&mut client, location).await? {
        Ok(entries) => {
            report.findings.retain(|finding| finding.code != "in-use");
            Ok(Some(entries))
        }
        Err(broken) => Err(Failure::failed(format!("the audit log: {broken}"))),
    }
}

/// Whether nothing is wrong: in the files, or else in what the server reports.
fn is_healthy(report: &Report, served: Option<u64>) -> bool {
    report.is_healthy() || served.is_some() && report.faults().next().is_none()
}

/// Returns the exit code for a report.
fn code(report: &Report, served: Option<u64>) -> ExitCode {
    let mut codes = report.faults().map(|finding| finding.code);
    if is_healthy(report, served) {
        ExitCode::SUCCESS
    } else if codes.all(|code| code == "in-use") {
        IN_USE.into()
    } else {
        FAULT.into()
    }
}

fn as_text(report: &Report, served: Option<u64>) -> String {
    let mut text = String::new();
    for Finding { severity, text: found, remedy, .. } in &report.findings {
        let word = if *severity == Severity::Fault { "wrong" } else { "note" };
        let _ = writeln!(text, "{word}: {}\n       {remedy}", escape(found));
    }
    if report.was_read {
        let (records, entries) = (report.records, report.entries);
        let _ =
            writeln!(text, "intact: {}, {entries} entries of the audit log", output::keys(records));
    }
    if let Some(entries) = served {
        let _ = writeln!(
            text,
            "a server has it open and is ready; its audit log of {entries} entries is intact\n\
             stop the server to examine the files, too"
        );
    }
    if is_healthy(report, served) {
        text.push_str("nothing is wrong\n");
    }
    text
}

fn as_json(report: &Report, served: Option<u64>) -> Value {
    let findings: Vec<Value> = report.findings.iter().map(finding).collect();
    json!({
        "healthy": is_healthy(report, served),
        "was_read": report.was_read,
        "keys": report.records,
        "entries": served.unwrap_or(report.entries),
        "is_served": served.is_some(),
        "findings": findings,
    })
}

/// Exits with 4 if not every key was copied as it was.
fn repair(
    location: &Location,
    options: &Doctor,
    new: &Path,
    scratch: &Path,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut offline = location.offline()?;
    if let Some(prefix) = &options.prefix {
        let prefix = Prefix::new(prefix);
        let prefix = prefix.map_err(|error| Failure::usage(format!("--prefix: {error}")))?;
        offline = offline.prefix(prefix);
    }
    let actor = Actor::Local(geteuid().as_raw());
    let done = offline.repair(&location.data, new, scratch, actor)?;
    let printed = if json {
        output::line(repaired_json(&done).to_string().as_bytes())
    } else {
        output::print(repaired_text(&done, location, new).as_bytes())
    };
    printed.map_err(output::although("the new store was created"))?;
    let is_complete = done.is_proved && done.issues.is_empty();
    Ok(if is_complete { ExitCode::SUCCESS } else { FAULT.into() })
}

fn repaired_text(done: &Repaired, location: &Location, new: &Path) -> String {
    let mut rows = Vec::new();
    for (key, issue) in &done.issues {
        let key = key.map_or_else(|| "a key".to_owned(), |id| id.to_string());
        rows.push([key, issue.as_str().to_owned()]);
    }
    let mut text = aligned(rows.iter(), None);
    if !done.is_proved {
        text.push_str(
            "the audit log does not reach the anchor, so no key could be proved current\n",
        );
    }
    let (current, data) = (done.current, location.data.display());
    let _ = writeln!(
        text,
        "copied unchanged: {}; the new store is in {}\n\
         check each other key before you activate it (key update ID --active yes)\n\
         keep {data}: it holds the audit log up to now, and nothing in it was changed",
        output::keys(current),
        new.display()
    );
    text
}

fn repaired_json(done: &Repaired) -> Value {
    let as_json = |(key, issue): &(Option<portcullis::KeyId>, portcullis::doctor::RepairIssue)| {
        json!({
            "key": key.map(|id| id.to_string()),
            "doubt": format!("{issue:?}").to_lowercase(),
            "text": issue.as_str(),
        })
    };
    let issues: Vec<Value> = done.issues.iter().map(as_json).collect();
    json!({
        "sequence": done.sequence,
        "current": done.current,
        "is_proved": done.is_proved,
        "doubts": issues,
    })
}
