//! The log, on standard error.
//!
//! Only lines of the `portcullis` crates are written, at every level: the libraries below do not know
//! about keys, and print headers at low levels.

use std::{
    env,
    io::{self, IsTerminal},
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

/// Starts the log of a server.
pub(crate) fn of_server(level: LevelFilter, json: bool) {
    let lines = fmt::layer().with_writer(io::stderr);
    if json {
        start(lines.json(), level);
    } else {
        let is_plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        start(lines.with_ansi(io::stderr().is_terminal() && !is_plain), level);
    }
}

/// Starts the log of a short command: only errors.
pub(crate) fn of_command() {
    let lines = fmt::layer().with_writer(io::stderr).without_time().with_ansi(false);
    start(lines, LevelFilter::ERROR);
}

fn start<L>(lines: L, level: LevelFilter)
where
    L: Layer<tracing_subscriber::Registry> + Send + Sync,
{
    let ours = Targets::new().with_target("portcullis", level);
    tracing_subscriber::registry().with(lines.with_filter(ours)).init();
}
