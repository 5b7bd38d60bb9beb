//! `audit --verify`, `--export` and `--prune`: verifies, exports and prunes the audit log.

use super::{
    args::Audit,
    client::Client,
    failure::Failure,
    finding::{FAULT, finding},
    key_argument::confirm,
    location::{self, Location},
    output,
    terminal_text::escape,
};
use axum::http::Method;
use portcullis::{
    Offline,
    audit::{AuditEntry, AuditRangeEnd},
};
use portcullis_admin::{ExportError, ExportReader};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The largest page of the API.
const LIMIT: u64 = 1000;
/// More than the longest line: an entry of 4 KiB, as JSON and in hexadecimal.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Verifies the named files. Without files, verifies the audit log of a running server or of a shared
/// store, or else of the directory.
pub(crate) async fn verify(
    location: &Location,
    options: &Audit,
    json: bool,
) -> Result<ExitCode, Failure> {
    if !options.files.is_empty() {
        return verify_files(location, &options.files, json);
    }
    let client = match Client::of_server(location).await? {
        None if location.etcd.are_given() => Some(Client::over(location.open()?)),
        client => client,
    };
    if let Some(mut client) = client {
        let checked = verify_pages(&mut client, location).await?;
        return print_result("the audit log", checked, json);
    }
    let report = location.offline()?.examine(&location.data, &location::scratch())?;
    if !report.was_read && report.faults().any(|finding| finding.code == "in-use") {
        let text =
            format!("{} is open in a process that does not respond", location.data.display());
        return Err(Failure::unreachable(text));
    }
    let faults: Vec<_> = report.audit_faults().collect();
    if faults.is_empty() {
        return print_result("the audit log", Ok(report.entries), json);
    }
    if json {
        let faults: Vec<Value> = faults.into_iter().map(finding).collect();
        let text = json!({"entries": report.entries, "intact": false, "findings": faults});
        output::line(text.to_string().as_bytes())?;
    } else {
        for fault in faults {
            output::line(escape(&fault.text).as_bytes())?;
        }
    }
    Ok(FAULT.into())
}

/// Verifies the audit log that a client reads. Returns the number of entries.
pub(crate) async fn verify_pages(
    client: &mut Client,
    location: &Location,
) -> Result<Result<u64, ExportError>, Failure> {
    let offline = location.offline()?;
    let mut reader = ExportReader::new(&offline);
    let mut broken = None;
    pages(client, 0, |line| {
        if broken.is_none() {
            broken = reader.line(line).err();
        }
        Ok(())
    })
    .await?;
    let checked = broken.map_or(Ok(()), Err).and_then(|()| reader.finish());
    Ok(checked.map(|(entries, _)| entries))
}

fn verify_files(location: &Location, files: &[PathBuf], json: bool) -> Result<ExitCode, Failure> {
    let offline = location.offline()?;
    match read_files(&offline, files, |_| ())? {
        Ok((entries, _)) => print_result("the export", Ok(entries), json),
        Err((shown, error)) => print_result(&shown, Err(error), json),
    }
}

/// The number of entries in all files and the end of the log, or the file with its error.
pub(crate) type ReadExports = Result<(u64, AuditRangeEnd), (String, ExportError)>;

/// Reads exports of the audit log, the oldest first.
pub(crate) fn read_files(
    offline: &Offline,
    files: &[PathBuf],
    mut each: impl FnMut(AuditEntry),
) -> Result<ReadExports, Failure> {
    let mut reader = ExportReader::new(offline);
    for path in files {
        let shown = path.display().to_string();
        let doing = || format!("reading {shown}");
        let mut file = BufReader::new(File::open(path).map_err(Failure::io(doing()))?);
        loop {
            let mut line = String::new();
            let read = io::Read::take(&mut file, MAX_LINE_BYTES).read_line(&mut line);
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Ok(Err((shown, ExportError::Foreign)));
                }
                Err(error) => return Err(Failure::io(doing())(error)),
            }
            match reader.line(line.trim_end_matches('\n')) {
                Ok(entry) => entry.into_iter().for_each(&mut each),
                Err(error) => return Ok(Err((shown, error))),
            }
        }
        if let Some(truncated) = reader.truncation() {
            return Ok(Err((shown, truncated)));
        }
    }
    Ok(reader.finish().map_err(|error| ("the export".to_owned(), error)))
}

fn print_result(
    what: &str,
    checked: Result<u64, ExportError>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let (code, text) = match checked {
        Ok(entries) if json => {
            (ExitCode::SUCCESS, format!("{{\"entries\":{entries},\"intact\":true}}"))
        }
        Ok(entries) => (ExitCode::SUCCESS, format!("{entries} entries, all intact")),
        Err(error) if json => {
            let text = json!({"what": what, "intact": false, "error": error.to_string()});
            (FAULT.into(), text.to_string())
        }
        Err(error) => (FAULT.into(), format!("{what}: {error}")),
    };
    output::line(text.as_bytes())?;
    Ok(code)
}

/// Writes the audit log to standard output, or to a new file that is closed to other users and removed
/// again unless it is complete.
pub(crate) async fn export(
    client: &mut Client,
    options: &Audit,
    to: &Path,
) -> Result<ExitCode, Failure> {
    if to == Path::new("-") {
        let output = io::stdout().as_fd().try_clone_to_owned();
        let output = output.map_err(Failure::io("writing to standard output"))?;
        write(client, options.after, &mut BufWriter::new(File::from(output)), "standard output")
            .await?;
        return Ok(ExitCode::SUCCESS);
    }
    let shown = to.display().to_string();
    let doing = format!("creating {shown}, which must not exist");
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let file = file.map_err(Failure::io(doing))?;
    let mut output = BufWriter::new(file);
    let written = write(client, options.after, &mut output, &shown).await;
    let written = written.and_then(|()| {
        output.get_ref().sync_all().map_err(Failure::io(format!("syncing {shown}")))
    });
    if let Err(failure) = written {
        let _ = fs::remove_file(to);
        return Err(failure);
    }
    Ok(ExitCode::SUCCESS)
}

async fn write(
    client: &mut Client,
    after: u64,
    output: &mut BufWriter<File>,
    shown: &str,
) -> Result<(), Failure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::io(format!("writing to {shown}"))(error),
    };
    pages(client, after, |line| {
        output.write_all(line.as_bytes()).and_then(|()| output.write_all(b"\n")).map_err(failed)
    })
    .await?;
    output.flush().map_err(failed)
}

/// Joins the API's pages to one export: the header of the first, all entries, the trailer of the last.
async fn pages(
    client: &mut Client,
    mut after: u64,
    mut each: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Header {
        after: u64,
    }
    #[derive(Deserialize)]
    struct Trailer {
        sequence: u64,
    }
    let other = || Failure::failed("the response is from another version of the server");
    let mut is_first = true;
    loop {
        let path = format!("/v1/audit/export?limit={LIMIT}&after={after}");
        let answer = client.send(Method::GET, &path, None).await?;
        let text = str::from_utf8(answer.bytes()).map_err(|_| other())?;
        let mut lines = text.lines();
        let (header, trailer) = lines.next().zip(lines.next_back()).ok_or_else(other)?;
        let begin: Header = serde_json::from_str(header).map_err(|_| other())?;
        let end: Trailer = serde_json::from_str(trailer).map_err(|_| other())?;
        if is_first {
            each(header)?;
        }
        lines.try_for_each(&mut each)?;
        is_first = false;
        after = begin.after.saturating_add(LIMIT);
        if after >= end.sequence {
            return each(trailer);
        }
    }
}

/// `audit --prune`: removes the entries before a moment.
pub(crate) async fn prune(
    client: &mut Client,
    options: &Audit,
    json: bool,
) -> Result<ExitCode, Failure> {
    #[derive(Deserialize)]
    struct Done {
        removed: u64,
        through: Option<u64>,
        sequence: Option<u64>,
    }
    let before = match (&options.age.before, options.age.keep) {
        (Some(before), _) => before.clone(),
        (None, Some(seconds)) => jiff::Timestamp::now()
            .checked_sub(std::time::Duration::from_secs(seconds.into()))
            .map_err(|_| Failure::usage("--keep: too long"))?
            .to_string(),
        (None, None) => return Err(Failure::usage("--prune needs --before or --keep")),
    };
    if io::stdin().is_terminal() {
        confirm(&format!("removing the entries of the audit log before {before}"), options.yes)?;
    }
    let body = json!({"before": before});
    let answer = client.send(Method::POST, "/v1/audit/cut", Some(&body)).await?;
    let done: Done = answer.read()?;
    if json {
        output::line(answer.bytes()).map_err(output::although("the audit log was pruned"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = match (done.through, done.sequence) {
        (Some(through), Some(sequence)) => format!(
            "removed {} entries, through entry {through}; entry {sequence} records it; the entries since {before} \
             are kept",
            done.removed
        ),
        _ => format!("no entry is older than {before}; all are kept"),
    };
    output::line(text.as_bytes()).map_err(output::although("the audit log was pruned"))?;
    Ok(ExitCode::SUCCESS)
}
