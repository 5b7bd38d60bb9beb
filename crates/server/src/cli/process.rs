//! Protects the secrets in this process: no core image, no readable files, no keys as arguments.

use super::failure::Failure;
use portcullis::Secret;
use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask},
};
use std::{env, io};

/// Closes new files to other users, and keeps other processes of the user from reading this one's memory,
/// alive or as a core image.
pub(crate) fn protect() -> Result<(), Failure> {
    umask(Mode::RWXG | Mode::RWXO);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| Failure::io("disabling core images")(io::Error::from(error)))
}

/// Refuses a key among the arguments: every user of the machine can read them, the shell's history keeps
/// them, and an error would repeat them.
pub(crate) fn refuse_keys_as_arguments() -> Result<(), Failure> {
    let is_key = |text: &str| text.split(['=', ':', '/']).any(Secret::is_well_formed);
    if env::args_os().skip(1).any(|argument| argument.to_str().is_some_and(is_key)) {
        return Err(Failure::usage(
            "a key was passed as an argument, where others can read it; pass it on standard input, and replace it \
             if others could have seen it",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{dumpable_behavior, getrlimit};

    #[test]
    fn process_is_not_dumpable() {
        protect().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }
}
