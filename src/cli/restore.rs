//! `restore`: a new store from a backup, in which nothing works that was taken away since.

use super::{
    args::{Place, Restore},
    backup,
    failure::Failure,
    output,
    progress::Bar,
};
use portcullis::{
    Actor,
    backup::{Fate, Later, LaterChange, Restored},
};
use rustix::process::geteuid;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) fn run(place: &Place, asked: &Restore, json: bool) -> Result<ExitCode, Failure> {
    let later = match &asked.later.old_data {
        Some(data) => Later::Directory { data: data.clone(), anchor: asked.old_anchor.clone() },
        None => Later::Unknown,
    };
    let from = backup::open(&asked.file)?;
    let by = Actor::Local(geteuid().as_raw());
    let bar = Bar::new();
    let builder = place.builder()?;
    let made = builder.restore(from, &place.data, &later, by, |told| bar.tell(told))?;
    bar.done();
    if json {
        output::line(described(&made).to_string().as_bytes())?;
    } else {
        let rows: Vec<[String; 5]> = made.changes.iter().map(row).collect();
        output::print(output::aligned(rows.iter()).as_bytes())?;
    }
    let lost = made.changes.iter().filter(|change| change.fate == Fate::Lost).count();
    let not_given = made.changes.iter().filter(|change| change.fate == Fate::NotGiven).count();
    if lost > 0 {
        output::say(&format!("{lost} keys were made after the backup and are lost: issue others"));
    }
    if not_given > 0 {
        output::say(&format!("{not_given} later changes that allowed something were not made"));
    }
    if let Some((from, to)) = made.unknown {
        output::say(&format!(
            "keys that were revoked, narrowed, shortened, rotated or deleted between {} and {} WORK AGAIN: revoke \
             those that you know of",
            output::moment(from),
            output::moment(to)
        ));
    }
    output::say(&format!("restored {} keys into {}", made.records, place.data.display()));
    Ok(ExitCode::SUCCESS)
}

fn row(change: &LaterChange) -> [String; 5] {
    let LaterChange { sequence, key, at, by, fate, .. } = change;
    let told = match fate {
        Fate::Deleted => "deleted: it is not in the new store",
        Fate::NotGiven => "allowed something: not given again",
        Fate::Lost => "made later: lost",
        _ => "holds",
    };
    [sequence.to_string(), output::moment(*at), by.to_string(), key.to_string(), told.into()]
}

fn described(made: &Restored) -> Value {
    let changes = made.changes.iter().map(|change| {
        json!({
            "sequence": change.sequence,
            "at": output::moment(change.at),
            "by": change.by.to_string(),
            "key": change.key.to_string(),
            "fate": match change.fate {
                Fate::Deleted => "deleted",
                Fate::NotGiven => "not_given",
                Fate::Lost => "lost",
                _ => "kept",
            },
        })
    });
    json!({
        "keys": made.records,
        "sequence": made.sequence,
        "backup": {"taken": output::moment(made.backup.taken), "sequence": made.backup.sequence},
        "changes": changes.collect::<Vec<_>>(),
        "unknown": made.unknown.map(|(from, to)| {
            json!({"from": output::moment(from), "to": output::moment(to)})
        }),
    })
}
