//! The command line. Most commands are requests to the router of the API: over the control socket if a
//! server runs, or else over a store that the command opens itself.

mod apply;
mod apply_args;
mod args;
mod audit;
mod audit_export;
mod audit_follow;
mod backup;
mod bulk;
mod bulk_args;
mod client;
#[cfg(feature = "cluster")]
mod cluster;
mod create_many;
mod declared_file;
mod declared_plan;
mod delivery;
mod disk;
mod doctor;
mod etcd;
mod failure;
mod filter;
mod finding;
mod import;
mod import_rows;
mod init;
mod key_argument;
mod key_args;
mod key_generate;
mod key_pages;
mod keys;
mod leaked;
mod manual;
mod location;
mod log;
mod output;
mod owners;
mod parse;
mod policy;
mod process;
mod progress;
mod reach;
mod restore;
mod scanner_rules;
mod scopes;
mod secret_file;
mod serve;
mod table;
mod terminal_text;
mod values;
mod verify;

use args::{Arguments, Command, ScopesCommand};
use client::Client;
use failure::Failure;
use key_args::KeyCommand;
use location::Location;
use policy::PolicyCommand;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// Runs the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    prepare().and_then(dispatch).unwrap_or_else(|failure| failure.report())
}

fn prepare() -> Result<Arguments, Failure> {
    process::protect()?;
    let arguments = process::arguments()?;
    if arguments.len() < 2 {
        return Err(Failure::NoCommand(parse::start()));
    }
    parse::arguments(&arguments).map_err(Failure::from)
}

fn dispatch(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { location, json, command } = arguments;
    match command {
        Command::Serve(options) => serve::run(&location, &options),
        Command::Init(options) => on_one_thread()?.block_on(init::run(&location, &options, json)),
        Command::Key(KeyCommand::Generate(options)) => key_generate::run(&options, json),
        Command::Key(command) => {
            with_client(&location, async |client| key(client, command, json).await)
        }
        Command::Scopes { command, list } => {
            let command = command.unwrap_or(ScopesCommand::List(list));
            with_client(&location, async |client| scopes::run(client, &command, json).await)
        }
        Command::Policy { command } => {
            let command = command.unwrap_or(PolicyCommand::Show);
            with_client(&location, async |client| policy::run(client, &command, json).await)
        }
        Command::Verify(options) => {
            with_client(&location, async |client| verify::run(client, &options, json).await)
        }
        Command::Audit(options) if options.verify => {
            on_one_thread()?.block_on(audit_export::verify(&location, &options, json))
        }
        Command::Audit(options) if options.follow => {
            on_one_thread()?.block_on(audit_follow::run(&location, &options, json))
        }
        Command::Audit(options) => with_client(&location, async |client| match &options.export {
            Some(file) => audit_export::export(client, &options, file).await,
            None if options.prune => audit_export::prune(client, &options, json).await,
            None => audit::run(client, &options, json).await,
        }),
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => {
            log::of_command();
            cluster::run(&location, &command, json)
        }
        #[cfg(not(feature = "cluster"))]
        Command::Cluster(_) => Err(location.etcd.refuse()),
        Command::Doctor(options) => {
            on_one_thread()?.block_on(doctor::run(&location, &options, json))
        }
        Command::Backup(options) => {
            on_one_thread()?.block_on(backup::run(&location, &options, json))
        }
        Command::Restore(options) => {
            log::of_command();
            restore::run(&location, &options, json)
        }
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { dir } => manual::pages(&dir),
        Command::Export { digests } => {
            with_client(&location, async |client| keys::export(client, digests).await)
        }
        Command::Import(options) => {
            with_client(&location, async |client| import::run(client, &options, json).await)
        }
        Command::Apply(options) => {
            with_client(&location, async |client| apply::run(client, &options, json).await)
        }
    }
}

async fn key(client: &mut Client, command: KeyCommand, json: bool) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::Create(options) => keys::create(client, options, json).await,
        KeyCommand::Generate(options) => key_generate::run(&options, json),
        KeyCommand::List(options) => keys::list(client, &options, json).await,
        KeyCommand::Expiring(options) => keys::expiring(client, &options, json).await,
        KeyCommand::Bulk(command) => bulk::run(client, command, json).await,
        KeyCommand::Owners => owners::run(client, json).await,
        KeyCommand::Show(options) => keys::show(client, &options.id, json).await,
        KeyCommand::Update(options) => keys::update(client, options, json).await,
        KeyCommand::Reach(options) => reach::show(client, &options.id, json).await,
        KeyCommand::Revoke(options) => match &options.leaked {
            Some(file) => leaked::run(client, file, &options, json).await,
            None => reach::revoke(client, &options, json).await,
        },
        KeyCommand::Rotate(options) => keys::rotate(client, &options, json).await,
        KeyCommand::Delete(options) => keys::delete(client, &options).await,
        KeyCommand::ScannerRules(options) => scanner_rules::run(client, &options).await,
    }
}

/// Runs a command that sends requests to the router.
fn with_client(
    location: &Location,
    work: impl AsyncFnOnce(&mut Client) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    on_one_thread()?.block_on(async { work(&mut Client::open(location).await?).await })
}

/// Starts the log and the runtime of a short command.
fn on_one_thread() -> Result<Runtime, Failure> {
    log::of_command();
    Builder::new_current_thread().enable_all().build().map_err(Failure::io("starting"))
}
