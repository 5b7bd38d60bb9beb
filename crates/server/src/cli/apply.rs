//! `apply`: creates the keys that a file declares, and reports how the other keys differ from it.
//!
//! Nothing but a creation, and with `--prune` a revocation, is ever applied. So the file never reactivates,
//! widens or recreates a key that somebody changed.

use super::{
    apply_args::Apply,
    client::Client,
    declared_file::{self, Entry},
    declared_plan::{Action, Difference, Step, Stored, plan},
    failure::Failure,
    import::{Batch, Refused, Report},
    key_args::List,
    key_pages::each_page,
    output,
    table::aligned,
};
use axum::http::Method;
use portcullis::Prefix;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow::Continue,
    process::ExitCode,
};

/// The store differs from the file.
const DIFFERS: u8 = 4;

#[derive(Serialize)]
struct Output<'p> {
    applied: bool,
    plan: &'p [Step],
}

/// Exits with 4 if the store differs from the file after the command.
pub(crate) async fn run(
    client: &mut Client,
    options: &Apply,
    json: bool,
) -> Result<ExitCode, Failure> {
    let entries = declared_file::read(&options.file, prefix(client).await?)?;
    if entries.is_empty() && options.prune {
        return Err(Failure::usage(format!(
            "{} declares no key, and --prune would deactivate every declared key; revoke them with key bulk revoke \
             if that is meant",
            options.file.display()
        )));
    }
    let stored = read_store(client, &entries).await?;
    let refused = check(client, options, &entries, &stored).await?;
    let mut steps = plan(&entries, &stored, &refused);
    if options.yes {
        execute(client, options, &entries, &mut steps).await?;
    }
    if json {
        let output = Output { applied: options.yes, plan: &steps };
        output::line(&serde_json::to_vec(&output).unwrap_or_default())?;
    } else {
        show(options, &steps)?;
    }
    let differs = steps.iter().any(|step| step.action != Action::Unchanged && !step.done);
    Ok(if differs { DIFFERS.into() } else { ExitCode::SUCCESS })
}

/// Returns the prefix of the store's keys.
async fn prefix(client: &mut Client) -> Result<Prefix, Failure> {
    #[derive(Deserialize)]
    struct Local {
        prefix: String,
    }
    let local: Local = client.send(Method::GET, "/v1/whoami", None).await?.read()?;
    Prefix::new(&local.prefix).map_err(|error| Failure::failed(error.to_string()))
}

async fn read_store(client: &mut Client, entries: &[Entry]) -> Result<Stored, Failure> {
    let declared: HashSet<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
    let mut stored = Stored::default();
    each_page(client, &List::default(), |page| {
        page.iter().try_for_each(|key| stored.add(key.get(), &declared))?;
        Ok(Continue(()))
    })
    .await?;
    Ok(stored)
}

/// Validates every entry without a change. Returns the entries whose secret the store refuses, with the
/// reason. Any other refusal is an error of the file.
async fn check(
    client: &mut Client,
    options: &Apply,
    entries: &[Entry],
    stored: &Stored,
) -> Result<HashMap<String, String>, Failure> {
    let mut names_of_ids: HashMap<_, Vec<&str>> = HashMap::new();
    for entry in entries {
        names_of_ids.entry(entry.id).or_default().push(&entry.name);
    }
    let mut refused = HashMap::new();
    let mut checked = Vec::new();
    for (number, entry) in (1..).zip(entries) {
        let names = names_of_ids.get(&entry.id).map(Vec::as_slice).unwrap_or_default();
        if names.len() > 1 {
            let reason = format!("the entries {} have one secret", names.join(", "));
            refused.insert(entry.name.clone(), reason);
        } else if stored.has(entry.id) {
            // The store compares the secret; the plan compares the fields.
            let fields =
                Map::from_iter([("name".into(), json!("-")), ("scopes".into(), json!([]))]);
            checked.push((number, entry.import_line(fields)));
        } else {
            checked.push((number, entry.import_line(entry.fields.clone())));
        }
    }
    let report = import(client, options, checked, true).await?;
    let mut wrong = Vec::new();
    for Refused { line, detail } in report.refused {
        let Some(entry) = line.checked_sub(1).and_then(|at| entries.get(at)) else { continue };
        match detail.strip_prefix("key: ") {
            Some(reason) => {
                refused.insert(entry.name.clone(), format!("the key {reason}"));
            }
            None => wrong.push(format!("line {}: keys.{}: {detail}", entry.line, entry.name)),
        }
    }
    if wrong.is_empty() {
        return Ok(refused);
    }
    let file = options.file.display();
    Err(Failure::usage(format!("{file}: {}; nothing was changed", wrong.join("; "))))
}

/// Sends the lines of entries, each with the position of its entry, from 1.
async fn import(
    client: &mut Client,
    options: &Apply,
    lines: Vec<(usize, String)>,
    dry_run: bool,
) -> Result<Report, Failure> {
    let accept = options.accept_pruned_log;
    let path = format!("/v1/import?dry_run={dry_run}&accept_pruned_log={accept}");
    let (mut report, mut batch) = (Report::default(), Batch::default());
    for (number, line) in lines {
        if batch.is_full(&line) {
            batch.send(client, &path, &mut report).await?;
        }
        batch.push(number, &line);
    }
    batch.send(client, &path, &mut report).await?;
    Ok(report)
}

/// Creates keys, and with `--prune` deactivates keys.
async fn execute(
    client: &mut Client,
    options: &Apply,
    entries: &[Entry],
    steps: &mut [Step],
) -> Result<(), Failure> {
    // The first steps are those of the entries, in their order.
    let numbered = (1..).zip(entries.iter().zip(&*steps));
    let new = numbered.filter(|(_, (_, step))| step.action == Action::Create);
    let lines = new.map(|(number, (entry, _))| (number, entry.import_line(entry.fields.clone())));
    let report = import(client, options, lines.collect(), false).await?;
    for (number, step) in (1..).zip(steps.iter_mut().take(entries.len())) {
        if step.action != Action::Create {
            continue;
        }
        match report.refused.iter().find(|refused| refused.line == number) {
            Some(refused) => {
                (step.action, step.reason) = (Action::Conflict, Some(refused.detail.clone()));
            }
            None => step.done = true,
        }
    }
    if !options.prune {
        return Ok(());
    }
    if !report.refused.is_empty() {
        output::say("no key was deactivated, because a key could not be created");
        return Ok(());
    }
    for step in steps.iter_mut().filter(|step| step.action.is_pruned()) {
        let path = format!("/v1/keys/{}", step.id);
        let revoked = client.send(Method::PATCH, &path, Some(&json!({"active": false}))).await;
        revoked.map_err(|failure| {
            failure.with_context(|text| format!("deactivating {}: {text}", step.id))
        })?;
        step.done = true;
    }
    Ok(())
}

fn show(options: &Apply, steps: &[Step]) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for step in steps {
        let text = |Difference { field, file, store }: &Difference| {
            format!("{field}: {file} in the file, {store} in the store")
        };
        let mut details: Vec<String> = step.differences.iter().map(text).collect();
        details.extend(step.reason.clone());
        let first = if details.is_empty() { String::new() } else { details.remove(0) };
        rows.push([step.action.as_str().into(), step.entry.clone(), step.id.clone(), first]);
        let more = details.into_iter();
        rows.extend(more.map(|detail| [String::new(), String::new(), String::new(), detail]));
    }
    output::print(aligned(rows.iter(), None).as_bytes())?;
    let (mut created, mut pruned) = (0, 0);
    // Without --yes, the keys that it would change.
    for step in steps.iter().filter(|step| step.done || !options.yes) {
        created += u64::from(step.action == Action::Create);
        pruned += u64::from(step.action.is_pruned() && options.prune);
    }
    let (created, pruned) = (output::keys(created), output::keys(pruned));
    output::say(&match (options.yes, options.prune) {
        (true, true) => format!("created {created}; deactivated {pruned}"),
        (true, false) => format!("created {created}"),
        (false, true) => {
            format!("nothing was changed; --yes creates {created} and deactivates {pruned}")
        }
        (false, false) => format!("nothing was changed; --yes creates {created}"),
    });
    let left = steps.iter().filter(|step| step.action.is_pruned() && !options.prune).count();
    if left > 0 {
        output::say(&format!("--prune deactivates {}", output::keys(left as u64)));
    }
    if steps.iter().any(|step| step.action == Action::Drift) {
        output::say("a key with drift is left alone: change the file, or the key with key update");
    }
    Ok(())
}
