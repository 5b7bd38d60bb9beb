//! Parses the command line and the environment of this process.

use super::args::Arguments;
use clap::{
    Command, CommandFactory, FromArgMatches,
    builder::Resettable,
    error::{ContextKind, ContextValue},
};
use std::{env, ffi::OsString, fmt::Write};

/// The commands by subject, in the order of the help.
const SUBJECTS: [(&str, &[&str]); 4] = [
    ("Keys", &["key", "apply", "import", "scopes", "policy", "verify"]),
    ("Server", &["init", "serve", "cluster"]),
    ("Audit log and backups", &["audit", "backup", "restore", "export", "doctor"]),
    ("This program", &["completions", "man", "help"]),
];

/// The first commands of a new user, and what each does.
const START: [(&str, &str); 4] = [
    ("portcullis serve", "serve the portal and the API on this host"),
    ("portcullis key create --name \"Till 4\" --scope api.read", "issue a key"),
    ("portcullis key list", "list the keys"),
    ("portcullis --help", "list all commands and options"),
];

/// Returns what the program prints without arguments.
pub(crate) fn start() -> String {
    let mut text =
        "Portcullis issues API keys, checks them, and revokes one at once.\n\n".to_owned();
    for (command, meaning) in START {
        let _ = writeln!(text, "{:2}{command:<56} {meaning}", "");
    }
    text
}

/// Parses these arguments and the environment of this process.
pub(crate) fn arguments(given: &[OsString]) -> Result<Arguments, clap::Error> {
    let mut command = by_subject(without_empty_variables(Arguments::command()));
    let matches = command.try_get_matches_from_mut(given);
    let mut matches = matches.map_err(|error| with_nested_command(error, &command))?;
    Arguments::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// An empty environment variable counts as absent: a compose file or a unit leaves one behind
/// where its own variable is not set.
fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let is_empty = arg.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { arg.env(Resettable::Reset) } else { arg }
    });
    command.mut_subcommands(without_empty_variables)
}

/// Groups the commands in the help. clap itself can group only options.
fn by_subject(mut command: Command) -> Command {
    // This adds the command `help`.
    command.build();
    let mut text = String::new();
    for (subject, names) in SUBJECTS {
        let _ = writeln!(text, "{subject}:");
        let commands = names.iter().filter_map(|name| command.find_subcommand(name));
        for each in commands.filter(|each| !each.is_hide_set()) {
            let about = each.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {:<12} {about}", each.get_name());
        }
        text.push('\n');
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{text}{{all-args}}{{after-help}}"
    );
    command
        .help_template(template)
        .override_usage("portcullis [OPTIONS] <COMMAND>")
        .mut_subcommands(|each| each.hide(true))
}

/// Adds the complete command to the error for a command such as `create`, which is one of `key`.
fn with_nested_command(mut error: clap::Error, command: &Command) -> clap::Error {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let of = |outer: &Command| {
        outer.find_subcommand(name).map(|_| format!("portcullis {} {name}", outer.get_name()))
    };
    if let Some(complete) = command.get_subcommands().find_map(of) {
        let usage = format!("the command is: {complete}").into();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![usage]));
        error.remove(ContextKind::SuggestedSubcommand);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_subject() {
        let mut command = Arguments::command();
        command.build();
        let mut named: Vec<_> = SUBJECTS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut all: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
        named.sort_unstable();
        all.sort_unstable();
        assert_eq!(named, all);
    }
}
