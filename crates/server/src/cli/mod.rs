//! The command line. Every command is a request to the same router that the server has: over the
//! control socket where a server runs, else over a store that the command opens itself.

mod args;
mod audit;
mod backup;
#[cfg(feature = "cluster")]
mod cluster;
mod delivery;
mod disk;
mod doctor;
mod door;
mod etcd;
mod failure;
mod init;
mod keys;
mod log;
mod output;
mod parse;
mod place;
mod process;
mod progress;
mod restore;
mod serve;
mod trail;
mod verify;

use args::{Arguments, Command, KeyCommand, Place};
use door::Door;
use failure::Failure;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// Runs the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    prepare().and_then(dispatch).unwrap_or_else(|failure| failure.tell())
}

fn prepare() -> Result<Arguments, Failure> {
    process::keep_to_itself()?;
    process::refuse_keys_as_arguments()?;
    parse::arguments().map_err(Failure::from)
}

fn dispatch(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { place, json, command } = arguments;
    match command {
        Command::Serve(options) => serve::run(&place, &options),
        Command::Init(options) => on_one_thread()?.block_on(init::run(&place, &options, json)),
        Command::Key(command) => with_door(&place, async |door| key(door, command, json).await),
        Command::Scopes => with_door(&place, async |door| keys::scopes(door, json).await),
        Command::Verify(options) => {
            with_door(&place, async |door| verify::run(door, &options, json).await)
        }
        Command::Audit(options) if options.verify => {
            on_one_thread()?.block_on(trail::verify(&place, &options, json))
        }
        Command::Audit(options) => with_door(&place, async |door| match &options.export {
            Some(file) => trail::export(door, &options, file).await,
            None if options.cut => trail::cut(door, &options.age, json).await,
            None => audit::run(door, &options, json).await,
        }),
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => {
            log::of_command();
            cluster::run(&place, &command, json)
        }
        #[cfg(not(feature = "cluster"))]
        Command::Cluster(_) => Err(place.etcd.refuse()),
        Command::Doctor(options) => {
            log::of_command();
            doctor::run(&place, &options, json)
        }
        Command::Backup(options) => on_one_thread()?.block_on(backup::run(&place, &options, json)),
        Command::Restore(options) => {
            log::of_command();
            restore::run(&place, &options, json)
        }
        Command::Export => with_door(&place, async |door| keys::export(door).await),
    }
}

async fn key(door: &mut Door, command: KeyCommand, json: bool) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::Create(options) => keys::create(door, options, json).await,
        KeyCommand::List(options) => keys::list(door, &options, json).await,
        KeyCommand::Show(options) => keys::show(door, &options.id, json).await,
        KeyCommand::Update(options) => keys::update(door, options, json).await,
        KeyCommand::Revoke(options) => keys::revoke(door, &options.id, json).await,
        KeyCommand::Rotate(options) => keys::rotate(door, &options, json).await,
        KeyCommand::Delete(options) => keys::delete(door, &options).await,
    }
}

/// Runs a command that asks the router.
fn with_door(
    place: &Place,
    work: impl AsyncFnOnce(&mut Door) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    on_one_thread()?.block_on(async { work(&mut Door::open(place).await?).await })
}

/// What a short command needs: one thread, and errors of the store on standard error.
fn on_one_thread() -> Result<Runtime, Failure> {
    log::of_command();
    Builder::new_current_thread().enable_all().build().map_err(Failure::io("starting"))
}
