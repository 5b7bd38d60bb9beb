//! Why a command ends without having done what it was asked, and its exit code.

use super::terminal_text::plain_lines;
use portcullis::Error;
use serde::Deserialize;
use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

/// What a command says on standard error before it ends.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be done.
    Failed(String),
    /// It was asked wrongly.
    Usage(String),
    /// Another process has the store, and does not answer.
    Unreachable(String),
    /// Nobody reads standard output any more: there is nobody to fail for.
    Unread,
    /// The arguments; clap says it best.
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

    /// A failure of the operating system while `doing` something.
    pub(crate) fn io<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |error| Self::Failed(format!("{doing}: {}", error.into()))
    }

    /// What the router said no with.
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

    fn code(&self) -> ExitCode {
        match self {
            Self::Unread => ExitCode::SUCCESS,
            Self::Failed(_) => ExitCode::FAILURE,
            Self::Usage(_) => ExitCode::from(2),
            Self::Unreachable(_) => ExitCode::from(5),
            Self::Arguments(error) => u8::try_from(error.exit_code()).unwrap_or(2).into(),
        }
    }

    /// Says it on standard error, or the help that was asked for on standard output, and gives the
    /// exit code.
    pub(crate) fn tell(&self) -> ExitCode {
        let told = match self {
            Self::Unread => Ok(()),
            Self::Arguments(error) => error.print(),
            failure => writeln!(io::stderr(), "error: {}", plain_lines(&failure.to_string())),
        };
        match told {
            // The help is the output of its command.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
            _ => self.code(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Usage(text) | Self::Unreachable(text) => f.write_str(text),
            Self::Unread => f.write_str("nobody reads standard output"),
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
