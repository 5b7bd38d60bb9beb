//! The output of commands: tables, single keys and messages.

use super::{failure::Failure, table::aligned, terminal_text::escape_lines};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
};

/// A key as in the responses of the API.
#[derive(Deserialize)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) name: String,
    hint: String,
    scopes: Vec<String>,
    active: bool,
    owner: Option<String>,
    metadata: BTreeMap<String, String>,
    /// Absent in the responses of an earlier version.
    #[serde(default)]
    networks: Vec<String>,
    rate: Option<Rate>,
    pub(crate) created_at: String,
    created_by: String,
    updated_at: String,
    updated_by: String,
    inactive_since: Option<String>,
    pub(crate) last_used_at: Option<String>,
    pub(crate) expires_at: Option<String>,
    replaces: Option<String>,
    replaced_by: Option<String>,
    /// Only of a key that was just revoked in a shared store.
    pub(crate) settled: Option<Settled>,
    /// Only of a key that was just created.
    #[serde(rename = "key")]
    pub(crate) secret: Option<String>,
}

/// The requests that a key may make.
#[derive(Deserialize)]
struct Rate {
    requests: u32,
    seconds: u32,
}

/// Returns a number of keys in words.
pub(crate) fn keys(count: u64) -> String {
    if count == 1 { "1 key".into() } else { format!("{count} keys") }
}

/// How many replicas acknowledged a revocation.
#[derive(Deserialize)]
pub(crate) struct Settled {
    acknowledged: usize,
    waited_out: usize,
}

impl Settled {
    pub(crate) fn text(&self) -> String {
        let count = |count: usize| {
            if count == 1 { "1 replica".into() } else { format!("{count} replicas") }
        };
        let waited_out = match self.waited_out {
            0 => String::new(),
            fenced => format!("; {} did not respond and stopped accepting keys", count(fenced)),
        };
        format!(", acknowledged by {}{waited_out}", count(self.acknowledged))
    }
}

/// Writes to standard output without its buffer, which is never wiped.
pub(crate) fn write(mut text: &[u8]) -> io::Result<()> {
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    while !text.is_empty() {
        match output.write(text) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => text = text.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The pipe may be non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&output, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Prints to standard output. If the reader is gone, the command has not failed and keeps its exit
/// code.
pub(crate) fn print(text: &[u8]) -> Result<(), Failure> {
    match print_page(text) {
        Err(Failure::ReaderGone) => Ok(()),
        printed => printed,
    }
}

/// Prints one of many pages. Returns [`Failure::ReaderGone`] if the reader is gone, so that the command stops.
pub(crate) fn print_page(text: &[u8]) -> Result<(), Failure> {
    write(text).map_err(unwritten)
}

/// Returns the failure for an error of standard output.
pub(crate) fn unwritten(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::io("writing to standard output")(error),
    }
}

/// Adds the completed change to a printing failure, so that the user does not repeat the command.
pub(crate) fn although(done: &str) -> impl FnOnce(Failure) -> Failure {
    move |failure| Failure::failed(format!("{done}, but not shown: {failure}"))
}

/// Prints a line.
pub(crate) fn line(text: &[u8]) -> Result<(), Failure> {
    let mut line = Vec::with_capacity(text.len() + 1);
    line.extend_from_slice(text);
    line.push(b'\n');
    print(&line)
}

/// Prints a message to standard error; it is not part of the output.
pub(crate) fn say(text: &str) {
    // A command that succeeded does not fail because standard error is closed.
    let _ = writeln!(io::stderr(), "{}", escape_lines(text));
}

/// Formats keys as a table, with times relative to `now`.
pub(crate) fn table(keys: &[Key], now: Timestamp, width: Option<usize>) -> String {
    let rows: Vec<[String; 7]> = keys.iter().map(|key| row(key, now)).collect();
    let head =
        ["ID", "NAME", "SCOPES", "ACTIVE", "EXPIRES", "LAST USED", "CREATED"].map(String::from);
    aligned(std::iter::once(&head).chain(&rows), width)
}

/// Formats leaked keys as a table, each with the result of its revocation.
pub(crate) fn leaked_table<'k>(
    keys: impl Iterator<Item = (&'k Key, &'k str)>,
    now: Timestamp,
    width: Option<usize>,
) -> String {
    let rows = keys.map(|(key, result)| {
        let [id, name, scopes, active, _, last_used, _] = row(key, now);
        let owner = key.owner.clone().unwrap_or_else(|| "none".into());
        [id, name, owner, scopes, active, last_used, result.to_owned()]
    });
    let rows: Vec<[String; 7]> = rows.collect();
    let head = ["ID", "NAME", "OWNER", "SCOPES", "ACTIVE", "LAST USED", "RESULT"].map(String::from);
    aligned(std::iter::once(&head).chain(&rows), width)
}

/// Formats a time of the API relative to `now`, such as "3 d ago" or "in 2 h".
pub(crate) fn relative(time: &str, now: Timestamp) -> String {
    let Ok(at) = time.parse::<Timestamp>() else { return time.to_owned() };
    let seconds = at.as_second() - now.as_second();
    let distance = seconds.unsigned_abs();
    let text = match distance {
        ..60 => return "now".into(),
        60..3_600 => format!("{} min", distance / 60),
        3_600..86_400 => format!("{} h", distance / 3_600),
        86_400..63_072_000 => format!("{} d", distance / 86_400),
        _ => format!("{} y", distance / 31_536_000),
    };
    if seconds < 0 { format!("{text} ago") } else { format!("in {text}") }
}

fn row(key: &Key, now: Timestamp) -> [String; 7] {
    let or_never =
        |time: Option<&String>| time.map_or_else(|| "never".to_owned(), |time| relative(time, now));
    [
        key.id.clone(),
        key.name.clone(),
        scopes(key),
        yes_no(key.active).into(),
        or_never(key.expires_at.as_ref()),
        or_never(key.last_used_at.as_ref()),
        relative(&key.created_at, now),
    ]
}

fn scopes(key: &Key) -> String {
    if key.scopes.is_empty() { "none".into() } else { key.scopes.join(" ") }
}

fn or_never(moment: Option<&String>) -> String {
    moment.map_or_else(|| "never".into(), String::clone)
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// Formats one key, one field per line, with exact times.
pub(crate) fn details(key: &Key) -> String {
    let mut rows = vec![
        ["id".into(), key.id.clone()],
        ["name".into(), key.name.clone()],
        ["hint".into(), key.hint.clone()],
        ["scopes".into(), scopes(key)],
        ["active".into(), yes_no(key.active).into()],
        ["expires".into(), or_never(key.expires_at.as_ref())],
        ["last used".into(), or_never(key.last_used_at.as_ref())],
        ["created".into(), format!("{} by {}", key.created_at, key.created_by)],
        ["changed".into(), format!("{} by {}", key.updated_at, key.updated_by)],
    ];
    rows.extend(key.inactive_since.iter().map(|since| ["inactive since".into(), since.clone()]));
    rows.extend(key.replaces.iter().map(|old| ["replaces".into(), old.clone()]));
    rows.extend(key.replaced_by.iter().map(|new| ["replaced by".into(), new.clone()]));
    rows.extend(key.owner.iter().map(|owner| ["owner".into(), owner.clone()]));
    if !key.networks.is_empty() {
        rows.push(["networks".into(), key.networks.join(" ")]);
    }
    let rate = |rate: &Rate| ["rate".into(), format!("{}/{}s", rate.requests, rate.seconds)];
    rows.extend(key.rate.iter().map(rate));
    rows.extend(
        key.metadata.iter().map(|(name, value)| [format!("metadata {name}"), value.clone()]),
    );
    aligned(rows.iter(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_shown_relative_to_now() {
        let now = "2026-11-30T12:00:00Z".parse().unwrap();
        for (time, expected) in [
            ("2026-11-30T12:00:00Z", "now"),
            ("2026-11-30T11:59:01Z", "now"),
            ("2026-11-30T11:55:00Z", "5 min ago"),
            ("2026-11-30T14:30:00Z", "in 2 h"),
            ("2026-11-27T12:00:00Z", "3 d ago"),
            ("2036-11-30T12:00:00Z", "in 10 y"),
            ("no time", "no time"),
        ] {
            assert_eq!(relative(time, now), expected);
        }
    }
}
