//! `restore`: a new store from a backup, in which nothing works that was taken away since.

use super::{
    args::Restore, audit_export, backup, failure::Failure, location::Location, output,
    progress::Bar, values,
};
use portcullis::{
    Actor, AuditEntry, Offline,
    backup::{LaterChange, LaterEffect, LaterEvidence, Restored},
};
use rustix::process::geteuid;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) fn run(location: &Location, asked: &Restore, json: bool) -> Result<ExitCode, Failure> {
    location.etcd.refuse_for(
        "restore makes a store in a directory; leave --etcd and PORTCULLIS_ETCD out, and move it into etcd \
         with: cluster import --from DIR",
    )?;
    let offline = location.offline()?;
    let later = later(&offline, asked)?;
    let from = backup::open(&asked.file)?;
    let by = Actor::Local(geteuid().as_raw());
    let bar = Bar::new();
    let made =
        offline.restore(from, &location.data, &later, by, |progress| bar.report(progress))?;
    bar.done();
    let printed = if json {
        output::line(described(&made).to_string().as_bytes())
    } else {
        let rows: Vec<[String; 5]> = made.changes.iter().map(row).collect();
        output::print(output::aligned(rows.iter()).as_bytes())
    };
    printed.map_err(output::although("the new store was made"))?;
    let lost = made.changes.iter().filter(|change| change.effect == LaterEffect::Lost).count();
    let not_given =
        made.changes.iter().filter(|change| change.effect == LaterEffect::NotGranted).count();
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
            values::rfc3339(from),
            values::rfc3339(to)
        ));
    }
    output::say(&format!("restored {} keys into {}", made.records, location.data.display()));
    Ok(ExitCode::SUCCESS)
}

fn later(offline: &Offline, asked: &Restore) -> Result<LaterEvidence, Failure> {
    if let Some(data) = &asked.later.old_data {
        return Ok(LaterEvidence::Directory {
            data: data.clone(),
            anchor: asked.old_anchor.clone(),
        });
    }
    if asked.later.audit.is_empty() {
        return Ok(LaterEvidence::Unknown);
    }
    let mut entries: Vec<AuditEntry> = Vec::new();
    let read = audit_export::read_files(offline, &asked.later.audit, |entry| {
        // A later file may repeat what the one before had.
        if entries.last().is_none_or(|last| last.sequence < entry.sequence) {
            entries.push(entry);
        }
    });
    match read? {
        Ok((_, end)) => Ok(LaterEvidence::Export { entries, end }),
        Err((file, error)) => Err(Failure::failed(format!("{file}: {error}"))),
    }
}

fn row(change: &LaterChange) -> [String; 5] {
    let LaterChange { sequence, key, at, by, effect, .. } = change;
    let told = match effect {
        LaterEffect::Deleted => "deleted: it is not in the new store",
        LaterEffect::NotGranted => "allowed something: not given again",
        LaterEffect::Lost => "made later: lost",
        LaterEffect::Applied => "holds",
        _ => "unknown: read the audit trail of the old store",
    };
    [sequence.to_string(), values::rfc3339(*at), by.to_string(), key.to_string(), told.into()]
}

fn described(made: &Restored) -> Value {
    let changes = made.changes.iter().map(|change| {
        json!({
            "sequence": change.sequence,
            "at": values::rfc3339(change.at),
            "by": change.by.to_string(),
            "key": change.key.to_string(),
            "fate": match change.effect {
                LaterEffect::Deleted => "deleted",
                LaterEffect::NotGranted => "not_given",
                LaterEffect::Lost => "lost",
                LaterEffect::Applied => "kept",
                _ => "unknown",
            },
        })
    });
    json!({
        "keys": made.records,
        "sequence": made.sequence,
        "backup": {"taken": values::rfc3339(made.backup.taken), "sequence": made.backup.sequence},
        "changes": changes.collect::<Vec<_>>(),
        "unknown": made.unknown.map(|(from, to)| {
            json!({"from": values::rfc3339(from), "to": values::rfc3339(to)})
        }),
    })
}
