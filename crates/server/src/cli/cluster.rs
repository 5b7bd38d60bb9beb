//! `cluster`: moves keys into etcd and back, and lists the replicas.

use super::{
    etcd::{ClusterCommand, Import},
    failure::Failure,
    location::Location,
    output,
    progress::Bar,
    table::{aligned, terminal_width},
    values,
};
use portcullis::{
    Error, Offline,
    backup::Summary,
    cluster::{self, About, Member},
};
use portcullis_etcd::EtcdStore;
use serde_json::{Value, json};
use std::{fs::File, io, path::Path, process::ExitCode, thread};

pub(crate) fn run(
    location: &Location,
    options: &ClusterCommand,
    json: bool,
) -> Result<ExitCode, Failure> {
    if !location.etcd.are_given() {
        return Err(Failure::usage("pass the nodes of the cluster with --etcd"));
    }
    let etcd = location.etcd.reach()?;
    let (summary, verb) = match options {
        ClusterCommand::Members => return members(&etcd, json),
        ClusterCommand::Import(Import { from }) => (import(location, &etcd, from)?, "imported"),
        ClusterCommand::Export => {
            let bar = Bar::new();
            let progress = |progress| bar.report(progress);
            let summary = location.offline()?.export_from(&etcd, &location.data, progress)?;
            bar.done();
            (summary, "exported")
        }
    };
    let Summary { records, sequence, .. } = summary;
    output::say(&format!("{verb} {records} keys as of change {sequence}"));
    Ok(ExitCode::SUCCESS)
}

/// `cluster members`: lists the replicas without joining them.
fn members(etcd: &EtcdStore, json: bool) -> Result<ExitCode, Failure> {
    let members = cluster::members(etcd)?;
    if json {
        let members: Vec<_> = members.iter().map(object).collect();
        output::line(json!({ "members": members }).to_string().as_bytes())?;
    } else {
        let head = ["NAME", "VERSION", "FRESHNESS", "JOINED", "APPLIED", "BEHIND", "STATE", "ID"];
        let (head, rows) = (head.map(String::from), members.iter().map(row).collect::<Vec<_>>());
        let table = aligned(std::iter::once(&head).chain(&rows), terminal_width());
        output::print(table.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn object(member: &Member) -> Value {
    let about = member.about.as_ref();
    json!({
        "incarnation": member.incarnation,
        "name": about.map(|about| &about.name),
        "version": about.map(|about| &about.version),
        "joined_at": about.map(|about| values::rfc3339(about.joined_at)),
        "freshness_ms": u64::try_from(member.freshness.as_millis()).unwrap_or(u64::MAX),
        "applied": member.applied,
        "behind": member.behind,
        "fenced": member.is_fenced,
    })
}

fn row(member: &Member) -> [String; 8] {
    let of = |field: fn(&About) -> String| member.about.as_ref().map_or_else(|| "?".into(), field);
    [
        of(|about| about.name.to_string()),
        of(|about| about.version.to_string()),
        format!("{:?}", member.freshness),
        of(|about| values::rfc3339(about.joined_at)),
        member.applied.to_string(),
        member.behind.to_string(),
        if member.is_fenced { "fenced" } else { "member" }.into(),
        member.incarnation.to_string(),
    ]
}

fn import(location: &Location, etcd: &EtcdStore, from: &Path) -> Result<Summary, Failure> {
    let bar = Bar::new();
    let offline = location.offline()?;
    let summary = if from.is_dir() {
        from_directory(location, &offline, etcd, from, &bar)?
    } else {
        let doing = format!("opening the backup {}", from.display());
        let file = File::open(from).map_err(Failure::io(doing))?;
        let imported =
            offline.import_to(etcd, io::BufReader::new(file), |progress| bar.report(progress));
        imported.map_err(import_failure)?
    };
    bar.done();
    Ok(summary)
}

/// An import is a usage error if etcd already holds a store.
fn import_failure(error: Error) -> Failure {
    match error {
        Error::ConsensusRefused(_) => Failure::usage(error.to_string()),
        _ => error.into(),
    }
}

/// Imports a directory, which is open meanwhile so that no server changes it.
fn from_directory(
    location: &Location,
    offline: &Offline,
    etcd: &EtcdStore,
    from: &Path,
    bar: &Bar,
) -> Result<Summary, Failure> {
    let store = location.builder()?.open_existing(from)?;
    let (reader, writer) = io::pipe().map_err(Failure::io("creating a pipe"))?;
    thread::scope(|scope| {
        let backup = scope.spawn(move || store.backup(io::BufWriter::new(writer), |_| ()));
        let imported =
            offline.import_to(etcd, io::BufReader::new(reader), |progress| bar.report(progress));
        // If the backup failed, its error is the cause; the import only sees an early end.
        if let Ok(Err(error)) = backup.join()
            && imported.is_err()
            && !matches!(error, Error::Io { .. })
        {
            return Err(error.into());
        }
        imported.map_err(import_failure)
    })
}
