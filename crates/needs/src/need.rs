//! One need of a test, and the check of it. The attribute and the testkit share this file.

use std::process::{Command, Stdio};

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A program, or a name with a shell command that succeeds if the need is met.
pub(crate) struct Need<'a> {
    name: &'a str,
    command: Option<&'a str>,
}

impl<'a> Need<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        match text.split_once(": ") {
            Some((name, command)) => Self { name, command: Some(command) },
            None => Self { name: text, command: None },
        }
    }

    /// Returns why a test with this need cannot run, or `None` if it can.
    pub(crate) fn missing(&self) -> Option<String> {
        let (script, reason) = match self.command {
            Some(command) => (command.to_owned(), format!("needs {}", self.name)),
            // Debian installs servers in a directory that is not on a user's PATH.
            None => (
                format!("PATH=\"$PATH:/usr/sbin\"; command -v {}", self.name),
                format!("{} is not installed", self.name),
            ),
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(WORKSPACE);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let is_met = shell.status().is_ok_and(|status| status.success());
        (!is_met).then_some(reason)
    }
}
