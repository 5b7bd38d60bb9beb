//! The progress bar of a long command.

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use portcullis::backup::Progress;
use std::io::{self, IsTerminal};

/// A progress bar on standard error, hidden unless that is a terminal.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new() -> Self {
        let shown = io::stderr().is_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self(ProgressBar::with_draw_target(None, target))
    }

    /// Shows how many of all values are done.
    pub(crate) fn report(&self, progress: Progress) {
        if self.0.length() != Some(progress.all) {
            self.0.set_length(progress.all);
            let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {eta}");
            self.0.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        self.0.set_position(progress.done);
    }

    /// Shows a number of bytes, of an unknown total.
    pub(crate) fn bytes(&self, count: u64) {
        self.0.set_message(HumanBytes(count).to_string());
        self.0.set_style(
            ProgressStyle::with_template("{spinner} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        self.0.tick();
    }

    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}
