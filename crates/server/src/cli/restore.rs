//! `restore`: creates a store from a backup. A key that was revoked after the backup stays revoked.

use super::{
    args::Restore, audit_export, backup, failure::Failure, location::Location, output,
    progress::Bar, table::aligned, values,
};
use portcullis::{
    Actor, Offline,
    audit::AuditEntry,
    backup::{LaterChange, LaterEffect, LaterEvidence, Restored},
};
use rustix::process::geteuid;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(crate) fn run(location: &Location, options: &Restore, json: bool) -> Result<ExitCode, Failure> {
    location.etcd.refuse_for(
        "restore creates a store in a directory; leave --etcd and PORTCULLIS_ETCD out, and move the store into \
         etcd with: cluster import --from DIR",
    )?;
    let offline = location.offline()?;
    let later = later(&offline, options)?;
    let from = backup::open(&options.file)?;
    let by = Actor::Local(geteuid().as_raw());
    let bar = Bar::new();
    let restored =
        offline.restore(from, &location.data, &later, by, |progress| bar.report(progress))?;
    bar.done();
    let printed = if json {
        output::line(as_json(&restored).to_string().as_bytes())
    } else {
        let rows: Vec<[String; 5]> = restored.changes.iter().map(row).collect();
        output::print(aligned(rows.iter(), None).as_bytes())
    };
    printed.map_err(output::although("the new store was created"))?;
    let lost = restored.changes.iter().filter(|change| change.effect == LaterEffect::Lost).count();
    let not_granted =
        restored.changes.iter().filter(|change| change.effect == LaterEffect::NotGranted).count();
    if lost > 0 {
        output::say(&format!(
            "{lost} keys were created after the backup and are lost: issue new ones"
        ));
    }
    if not_granted > 0 {
        output::say(&format!(
            "{not_granted} later changes that granted something were not applied"
        ));
    }
    if let Some((from, to)) = restored.unknown {
        output::say(&format!(
            "keys that were revoked, narrowed, shortened, rotated or deleted between {} and {} ARE VALID AGAIN: \
             revoke those that you can name",
            values::rfc3339(from),
            values::rfc3339(to)
        ));
    }
    output::say(&format!(
        "restored {} into {}",
        output::keys(restored.records),
        location.data.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn later(offline: &Offline, options: &Restore) -> Result<LaterEvidence, Failure> {
    if let Some(data) = &options.later.old_data {
        return Ok(LaterEvidence::Directory {
            data: data.clone(),
            anchor: options.old_anchor.clone(),
        });
    }
    if options.later.audit.is_empty() {
        return Ok(LaterEvidence::Unknown);
    }
    let mut entries: Vec<AuditEntry> = Vec::new();
    let read = audit_export::read_files(offline, &options.later.audit, |entry| {
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
    let effect = match effect {
        LaterEffect::Deleted => "deleted: not in the new store",
        LaterEffect::NotGranted => "granted something: not applied",
        LaterEffect::Lost => "created later: lost",
        LaterEffect::Applied => "applied",
        _ => "unknown: read the audit log of the old store",
    };
    [sequence.to_string(), values::rfc3339(*at), by.to_string(), key.to_string(), effect.into()]
}

fn as_json(restored: &Restored) -> Value {
    let changes = restored.changes.iter().map(|change| {
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
        "keys": restored.records,
        "sequence": restored.sequence,
        "backup": {"taken": values::rfc3339(restored.backup.taken), "sequence": restored.backup.sequence},
        "changes": changes.collect::<Vec<_>>(),
        "unknown": restored.unknown.map(|(from, to)| {
            json!({"from": values::rfc3339(from), "to": values::rfc3339(to)})
        }),
    })
}
