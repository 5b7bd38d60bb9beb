//! How far a long command has come, for whoever watches.

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use portcullis::backup::Progress;
use std::io::{self, IsTerminal};

/// A line on standard error, where that is a terminal.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new() -> Self {
        let shown = io::stderr().is_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self(ProgressBar::with_draw_target(None, target))
    }

    /// So many of so many values.
    pub(crate) fn tell(&self, told: Progress) {
        if self.0.length() != Some(told.all) {
            self.0.set_length(told.all);
            let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {eta}");
            self.0.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        self.0.set_position(told.done);
    }

    /// So many bytes of nobody knows how many.
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
