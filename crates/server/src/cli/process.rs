//! Protects the secrets in this process: no core image, no readable files, no keys as arguments.

use super::{failure::Failure, output};
use portcullis::{KeyId, Secret};
use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask},
};
use std::{
    env,
    ffi::{OsStr, OsString},
    io,
};

/// The commands after `key` whose first argument names a key.
const TAKING_ID: [&str; 5] = ["show", "update", "revoke", "rotate", "delete"];

/// Closes new files to other users, and keeps other processes of the user from reading this one's memory,
/// alive or as a core image.
pub(crate) fn protect() -> Result<(), Failure> {
    umask(Mode::RWXG | Mode::RWXO);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| Failure::io("disabling core images")(io::Error::from(error)))
}

/// Returns the arguments. Refuses a key in an argument or in a variable of this program: every user of the
/// host can read arguments, the shell's history keeps them, and an error would repeat both.
///
/// Directly after a command such as `key revoke`, a whole key becomes its id, since an operator who revokes
/// a leaked key may have nothing else. Anywhere else it is refused.
pub(crate) fn arguments() -> Result<Vec<OsString>, Failure> {
    let has_key = |text: &OsStr| Secret::occurs_in(&text.to_string_lossy());
    let mut arguments: Vec<OsString> = env::args_os().collect();
    let place = arguments.windows(2).position(|pair| {
        matches!(pair, [key, act] if key == "key" && TAKING_ID.iter().any(|name| act == name))
    });
    if let Some(argument) = place.and_then(|place| arguments.get_mut(place + 2))
        && let Some(id) = argument.to_str().and_then(id_of_key)
    {
        output::say(&format!(
            "warning: a whole key was passed as an argument; only its id {id} is used. Other users of this host \
             could read it, and the shell's history keeps it: rotate the key if it stays in use"
        ));
        *argument = id.to_string().into();
    }
    if arguments.iter().skip(1).any(|argument| has_key(argument)) {
        return Err(Failure::usage(
            "a key was passed as an argument, where others can read it; pass it on standard input, and replace it \
             if others could have seen it",
        ));
    }
    let variable = env::vars_os().find(|(name, value)| {
        name.as_encoded_bytes().starts_with(b"PORTCULLIS_") && has_key(value)
    });
    match variable {
        Some((name, _)) => Err(Failure::usage(format!(
            "a key is in the environment variable {}, which takes none; pass it on standard input",
            name.display()
        ))),
        None => Ok(arguments),
    }
}

/// Returns the id of a whole key.
fn id_of_key(text: &str) -> Option<KeyId> {
    let digits = text.split('_').nth(1).filter(|_| Secret::is_well_formed(text))?;
    format!("key_{digits}").parse().ok()
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
