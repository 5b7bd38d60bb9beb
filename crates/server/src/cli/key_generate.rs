//! `key generate`: the text of a new key that no store has yet.

use super::{delivery, failure::Failure, key_args::Generate, output};
use portcullis::{Prefix, Secret};
use serde_json::json;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Prints only the text to standard output.
pub(crate) fn run(options: &Generate, json: bool) -> Result<ExitCode, Failure> {
    let prefix = Prefix::new(&options.prefix)
        .map_err(|error| Failure::usage(format!("--prefix: {error}")))?;
    delivery::check_standard_output()?;
    let secret = Secret::random(prefix).map_err(|error| Failure::failed(error.to_string()))?;
    let (id, line) = secret.reveal(|text| {
        let id = prefix.id_within(text).map(|id| id.to_string()).unwrap_or_default();
        let line = if json { json!({"id": id, "key": text}).to_string() } else { text.to_owned() };
        (id, Zeroizing::new(line + "\n"))
    });
    delivery::write(line.as_bytes()).map_err(Failure::io("writing to standard output"))?;
    output::say(&format!(
        "generated {id}; no store has it yet: declare it, and run portcullis apply"
    ));
    Ok(ExitCode::SUCCESS)
}
