//! Handing a new key's text to the caller: refused beforehand where nobody can receive it, and
//! undone or reported where the handing over fails.
//!
//! The text exists once. A key that was created and could not be shown would work, and nobody
//! would have it.

use super::{client::Answer, failure::Failure, output};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, OFlags, fcntl_getfl, fstat, stat},
};
use serde::Deserialize;
use std::{io, os::fd::AsFd, process};
use tokio::signal::unix::{SignalKind, signal};

/// A new key whose text reached nobody.
pub(crate) struct Undelivered {
    /// The key's id, unless the answer did not say it.
    pub(crate) id: Option<String>,
    /// What failed.
    pub(crate) why: String,
}

/// Standard output, as it was before a key was created.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// As far as can be known, what is written is kept or read.
    Some,
    /// The caller redirected standard output to the null device.
    NobodyByChoice,
}

/// Checks that standard output can take a key, before one is created.
///
/// The Rust runtime opens the null device, for reading and writing, in the place of a standard
/// output that was closed; a shell's `>/dev/null` opens it for writing only. The first is refused,
/// the second is the caller's own decision.
pub(crate) fn check_standard_output() -> Result<Reader, Failure> {
    let refuse = |what: &str| {
        Failure::failed(format!(
            "{what}, so that the new key would reach nobody; nothing was changed: send standard output to a file or \
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
        return Err(refuse("nobody reads standard output any more"));
    }
    Ok(if is_null { Reader::NobodyByChoice } else { Reader::Some })
}

/// Writes a key's text to standard output, and to the disk where that is a file.
pub(crate) fn write(text: &[u8]) -> io::Result<()> {
    output::write(text)?;
    let output = io::stdout();
    if FileType::from_raw_mode(fstat(&output)?.st_mode) == FileType::RegularFile {
        rustix::fs::fsync(output.as_fd())?;
    }
    Ok(())
}

/// Shows a key that was just created: its text alone, or the whole answer as JSON.
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
    let fate = match reader {
        Reader::Some => "the key is shown only this once",
        Reader::NobodyByChoice => "standard output is /dev/null, so nobody has this key",
    };
    output::say(&format!("made {} ({}); {fate}", key.id, key.name));
    Ok(())
}

/// The key that an answer shows.
pub(crate) fn new_key(answer: &Answer) -> Result<output::Key, Undelivered> {
    #[derive(Deserialize)]
    struct OnlyId {
        id: String,
    }
    let id = || answer.read::<OnlyId>().ok().map(|key| key.id);
    match answer.read::<output::Key>() {
        Ok(key) if key.secret.is_some() => Ok(key),
        Ok(key) => {
            let why = "the server made the key and did not say it".to_owned();
            Err(Undelivered { id: Some(key.id), why })
        }
        Err(_) => Err(Undelivered { id: id(), why: "the server is of another version".to_owned() }),
    }
}

impl Undelivered {
    /// A failure that names the key and what to do about it, such as `rotate it with: …`.
    pub(crate) fn failure(&self, what: &str, remedy: impl FnOnce(&str) -> String) -> Failure {
        Failure::failed(match &self.id {
            Some(id) => {
                format!("{}; {what} {id}, and nobody has its text: {}", self.why, remedy(id))
            }
            None => format!(
                "{}; {what} a key, and nobody has its text: find it with key list, which shows the newest first, \
                 and revoke it",
                self.why
            ),
        })
    }
}

/// What to do about a key that nobody has and that must not simply end.
pub(crate) fn rotate_again(id: &str) -> String {
    format!("put another one in its location with: portcullis key rotate {id}")
}

/// Keeps a first SIGINT, SIGTERM or SIGHUP from ending the process between the creation of a key
/// and its handing over. A second one ends it. To be called within a tokio runtime.
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
                    "stopped without waiting; the key may have been created, and nobody has its text: look with key list",
                );
                process::exit(128 + number.as_raw_value());
            }
            is_first = false;
            output::say(
                "waiting for the answer, without which the new key would be lost; repeat the signal to stop all the same",
            );
        }
    });
    Ok(())
}
