//! Delivers the text of a new key to standard output.
//!
//! The text is shown once: a key that is created and not delivered is valid, and nobody can use it. So
//! a command fails before it creates a key if standard output cannot take the text. If the delivery
//! fails later, the key is revoked or the failure is reported.

use super::{client::Answer, failure::Failure, output};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, OFlags, fcntl_getfl, fstat, stat},
};
use serde::Deserialize;
use std::{io, os::fd::AsFd, process};
use tokio::signal::unix::{SignalKind, signal};

/// A new key whose text was not delivered.
pub(crate) struct Undelivered {
    /// The key's id, if the response had it.
    pub(crate) id: Option<String>,
    /// The reason.
    pub(crate) why: String,
}

/// The state of standard output before a key is created.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A file, or a program that reads.
    Some,
    /// The caller redirected standard output to the null device.
    NullDevice,
}

/// Checks, before a key is created, that standard output can take it.
///
/// For a closed standard output, the Rust runtime opens the null device for reading and writing; that is
/// refused. A shell's `>/dev/null` opens it for writing only; that is the caller's decision.
pub(crate) fn check_standard_output() -> Result<Reader, Failure> {
    let refuse = |what: &str| {
        Failure::failed(format!(
            "{what}, so the new key could not be delivered; nothing was changed: send standard output to a file or \
             to a program that reads it"
        ))
    };
    let broken =
        |error: rustix::io::Errno| refuse(&format!("standard output is unusable ({error})"));
    let output = io::stdout();
    let mode = fcntl_getfl(&output).map_err(broken)? & OFlags::ACCMODE;
    let about = fstat(&output).map_err(broken)?;
    if mode == OFlags::RDONLY {
        return Err(refuse("standard output cannot be written to"));
    }
    let is_null = FileType::from_raw_mode(about.st_mode) == FileType::CharacterDevice
        && stat("/dev/null").is_ok_and(|null| null.st_rdev == about.st_rdev);
    if is_null && mode == OFlags::RDWR {
        return Err(refuse("standard output is closed"));
    }
    let mut polled = [PollFd::new(&output, PollFlags::OUT)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_err(broken)?;
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    if polled.iter().any(|output| output.revents().intersects(gone)) {
        return Err(refuse("standard output has no reader"));
    }
    Ok(if is_null { Reader::NullDevice } else { Reader::Some })
}

/// Writes a key's text to standard output, and syncs it if that is a file.
pub(crate) fn write(text: &[u8]) -> io::Result<()> {
    output::write(text)?;
    let output = io::stdout();
    if FileType::from_raw_mode(fstat(&output)?.st_mode) == FileType::RegularFile {
        rustix::fs::fsync(output.as_fd())?;
    }
    Ok(())
}

/// Prints a new key: its text only, or the whole response as JSON.
pub(crate) fn show(answer: &Answer, reader: Reader, json: bool) -> Result<(), Undelivered> {
    let key = new_key(answer)?;
    let secret = key.secret.as_deref().unwrap_or_default();
    let shown = if json { answer.bytes() } else { secret.as_bytes() };
    let mut line = Vec::with_capacity(shown.len() + 1);
    line.extend_from_slice(shown);
    line.push(b'\n');
    write(&line).map_err(|error| Undelivered {
        id: Some(key.id.clone()),
        why: format!("writing to standard output: {error}"),
    })?;
    let note = match reader {
        Reader::Some => "the key is shown only this once",
        Reader::NullDevice => "standard output is /dev/null, so the key is lost",
    };
    output::say(&format!("created {} ({}); {note}", key.id, key.name));
    Ok(())
}

/// Parses the new key in a response.
pub(crate) fn new_key(answer: &Answer) -> Result<output::Key, Undelivered> {
    #[derive(Deserialize)]
    struct OnlyId {
        id: String,
    }
    let id = || answer.read::<OnlyId>().ok().map(|key| key.id);
    match answer.read::<output::Key>() {
        Ok(key) if key.secret.is_some() => Ok(key),
        Ok(key) => {
            let why = "the server created the key and did not return it".to_owned();
            Err(Undelivered { id: Some(key.id), why })
        }
        Err(_) => Err(Undelivered {
            id: id(),
            why: "the response is from another version of the server".to_owned(),
        }),
    }
}

impl Undelivered {
    /// Returns a failure that names the key and the remedy.
    pub(crate) fn failure(&self, what: &str, remedy: impl FnOnce(&str) -> String) -> Failure {
        Failure::failed(match &self.id {
            Some(id) => {
                format!("{}; {what} {id}, and its text is lost: {}", self.why, remedy(id))
            }
            None => format!(
                "{}; {what} a key, and its text is lost: find it with key list, which shows the newest first, \
                 and revoke it",
                self.why
            ),
        })
    }
}

/// The remedy for an undelivered key that must be replaced, not revoked.
pub(crate) fn rotate_again(id: &str) -> String {
    format!("replace it with: portcullis key rotate {id}")
}

/// Makes the first SIGINT, SIGTERM or SIGHUP wait until a new key is delivered. A second signal ends the
/// process. Call this within a tokio runtime.
pub(crate) fn finish_before_signals() -> Result<(), Failure> {
    let failed = || Failure::io("waiting for signals");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed())?;
    tokio::spawn(async move {
        let mut is_first = true;
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
                _ = hang_up.recv() => SignalKind::hangup(),
            };
            if !is_first {
                output::say(
                    "stopped without waiting; a key may have been created, and its text is lost: check with key list",
                );
                process::exit(128 + number.as_raw_value());
            }
            is_first = false;
            output::say(
                "waiting for the response: without it the new key is lost; repeat the signal to stop anyway",
            );
        }
    });
    Ok(())
}
