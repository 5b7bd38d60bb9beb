//! The failures of a command, and their exit codes.

use super::terminal_text::escape_lines;
use portcullis::Error;
use serde::Deserialize;
use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

/// A failure, printed to standard error before the command ends.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command could not be executed.
    Failed(String),
    /// The arguments are wrong.
    Usage(String),
    /// Another process has the store open and does not respond.
    Unreachable(String),
    /// The reader of standard output is gone. The command ends with success.
    ReaderGone,
    /// The program was started without a command. This text shows how to start.
    NoCommand(String),
    /// An error of clap, printed by clap.
    Arguments(clap::Error),
}

impl Failure {
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub(crate) fn unreachable(text: impl Into<String>) -> Self {
        Self::Unreachable(text.into())
    }

    /// Returns a failure of a system call while `doing` something.
    pub(crate) fn io<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |error| Self::Failed(format!("{doing}: {}", error.into()))
    }

    /// Returns the failure for an error response of the router.
    pub(crate) fn answer(status: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
        }
        let text = serde_json::from_slice(body)
            .map_or_else(|_| format!("the server answered {status}"), |p: Problem| p.detail);
        match status {
            400 | 413 | 422 => Self::Usage(text),
            _ => Self::Failed(text),
        }
    }

    /// Returns the same failure with another text.
    pub(crate) fn with_context(self, text: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Failed(failed) => Self::Failed(text(failed)),
            Self::Usage(failed) => Self::Usage(text(failed)),
            Self::Unreachable(failed) => Self::Unreachable(text(failed)),
            other => other,
        }
    }

    fn code(&self) -> ExitCode {
        match self {
            Self::ReaderGone => ExitCode::SUCCESS,
            Self::Failed(_) => ExitCode::FAILURE,
            Self::Usage(_) | Self::NoCommand(_) => ExitCode::from(2),
            Self::Unreachable(_) => ExitCode::from(5),
            Self::Arguments(error) => u8::try_from(error.exit_code()).unwrap_or(2).into(),
        }
    }

    /// Prints the failure to standard error, or the requested help to standard output, and returns the
    /// exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let printed = match self {
            Self::ReaderGone => Ok(()),
            Self::NoCommand(start) => io::stderr().write_all(start.as_bytes()),
            Self::Arguments(error) => error.print(),
            failure => writeln!(io::stderr(), "error: {}", escape_lines(&failure.to_string())),
        };
        match printed {
            // The help is the output of its command.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
            _ => self.code(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text)
            | Self::Usage(text)
            | Self::Unreachable(text)
            | Self::NoCommand(text) => f.write_str(text),
            Self::ReaderGone => f.write_str("standard output has no reader"),
            Self::Arguments(error) => error.fmt(f),
        }
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        Self::Arguments(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Locked { .. } => Self::Unreachable(error.to_string()),
            Error::Invalid { .. } | Error::UnknownScope(_) => Self::Usage(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
