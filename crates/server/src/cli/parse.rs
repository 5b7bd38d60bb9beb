//! Parses the command line and the environment of this process.

use super::args::Arguments;
use clap::{Command, CommandFactory, FromArgMatches, builder::Resettable};
use std::env;

/// Parses the arguments and the environment of this process.
pub(crate) fn arguments() -> Result<Arguments, clap::Error> {
    let mut command = without_empty_variables(Arguments::command());
    let mut matches = command.try_get_matches_from_mut(env::args_os())?;
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
