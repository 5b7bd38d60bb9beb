//! The command line. Every command is a request to the same router that the server has: over the
//! control socket where a server runs, else over a store that the command opens itself.

mod args;
mod audit;
mod backup;
#[cfg(feature = "cluster")]
mod cluster;
mod delivery;
mod doctor;
mod door;
mod etcd;
mod failure;
mod init;
mod keys;
mod log;
mod output;
mod place;
mod process;
mod progress;
mod restore;
mod serve;
mod trail;
mod verify;

use args::{Arguments, Command, KeyCommand};
use clap::Parser;
use door::Door;
use failure::Failure;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// Runs the command that the process was started with.
pub(crate) fn run() -> ExitCode {
    match prepare().and_then(dispatch) {
        Ok(code) => code,
        Err(failure) => {
            failure.tell();
            failure.code()
        }
    }
}

fn prepare() -> Result<Arguments, Failure> {
    process::keep_to_itself()?;
    process::refuse_keys_as_arguments()?;
    Arguments::try_parse().map_err(Failure::from)
}

fn dispatch(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { place, json, command } = arguments;
    match command {
        Command::Serve(options) => serve::run(&place, &options),
        Command::Doctor(options) => {
            log::of_command();
            doctor::run(&place, &options, json)
        }
        Command::Audit(options) if options.verify => {
            on_one_thread()?.block_on(trail::verify(&place, &options, json))
        }
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => {
            log::of_command();
            cluster::run(&place, &command, json)
        }
        #[cfg(not(feature = "cluster"))]
        Command::Cluster(_) => Err(place.etcd.refuse()),
        Command::Init(options) => on_one_thread()?.block_on(init::run(&place, &options, json)),
        Command::Backup(options) => on_one_thread()?.block_on(backup::run(&place, &options, json)),
        Command::Restore(options) => {
            log::of_command();
            restore::run(&place, &options, json)
        }
        command => on_one_thread()?.block_on(async {
            let mut door = Door::open(&place).await?;
            match command {
                Command::Key(KeyCommand::Create(o)) => keys::create(&mut door, o, json).await,
                Command::Key(KeyCommand::List(o)) => keys::list(&mut door, &o, json).await,
                Command::Key(KeyCommand::Show(o)) => keys::show(&mut door, &o.id, json).await,
                Command::Key(KeyCommand::Update(o)) => keys::update(&mut door, o, json).await,
                Command::Key(KeyCommand::Revoke(o)) => keys::revoke(&mut door, &o.id, json).await,
                Command::Key(KeyCommand::Rotate(o)) => keys::rotate(&mut door, &o, json).await,
                Command::Key(KeyCommand::Delete(o)) => keys::delete(&mut door, &o).await,
                Command::Scopes => keys::scopes(&mut door, json).await,
                Command::Audit(options) => match &options.export {
                    Some(file) => trail::export(&mut door, &options, file).await,
                    None if options.cut => trail::cut(&mut door, &options.age, json).await,
                    None => audit::run(&mut door, &options, json).await,
                },
                Command::Verify(options) => verify::run(&mut door, &options, json).await,
                Command::Export => keys::export(&mut door).await,
                Command::Serve(_)
                | Command::Init(_)
                | Command::Doctor(_)
                | Command::Backup(_)
                | Command::Restore(_)
                | Command::Cluster(_) => Ok(ExitCode::SUCCESS),
            }
        }),
    }
}

/// What a short command needs: one thread, and errors of the store on standard error.
fn on_one_thread() -> Result<Runtime, Failure> {
    log::of_command();
    Builder::new_current_thread().enable_all().build().map_err(Failure::io("starting"))
}
