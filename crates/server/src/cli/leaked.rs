//! `key revoke --leaked`: finds the keys of the store in a text of any length, and revokes them.

use super::{
    client::Client,
    failure::Failure,
    key_args::Revoke,
    output::{self, Key},
    table::terminal_width,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    path::Path,
    process::ExitCode,
};
use zeroize::Zeroizing;

/// The text of one request. It has less than 1,000 keys, the most that one request may find.
const PART_BYTES: usize = 48 * 1024;
/// Longer than a key in any form, so that a key between two parts is whole in the second one.
const OVERLAP_BYTES: usize = 128;

/// A key in the answer of the API.
#[derive(Deserialize)]
struct Found {
    key: Key,
    outcome: String,
}

/// The keys of all parts, each once.
#[derive(Default)]
struct Leaked {
    keys: Vec<(Found, Box<RawValue>)>,
    unknown: usize,
}

/// Shows the keys whose whole text is in the file, and revokes them unless this is a dry run. Exits with 1
/// if a key could not be revoked.
pub(crate) async fn run(
    client: &mut Client,
    file: &Path,
    options: &Revoke,
    json: bool,
) -> Result<ExitCode, Failure> {
    let path = if options.dry_run { "/v1/keys/leaked" } else { "/v1/keys/leaked?revoke=true" };
    let mut leaked = Leaked::default();
    let read = read_parts(client, file, path, &mut leaked).await;
    // After a failure the keys of the earlier parts are revoked, and are shown.
    if read.is_ok() || !leaked.keys.is_empty() {
        leaked.show(json)?;
    }
    read?;
    let is_done = |key: &Found| {
        options.dry_run || ["revoked", "already_inactive"].contains(&key.outcome.as_str())
    };
    let all_are_done = leaked.keys.iter().all(|(key, _)| is_done(key));
    Ok(if all_are_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn read_parts(
    client: &mut Client,
    file: &Path,
    path: &str,
    leaked: &mut Leaked,
) -> Result<(), Failure> {
    let failed = || Failure::io(format!("reading {}", file.display()));
    let mut input = open(file).map_err(failed())?;
    let mut text = Zeroizing::new(Vec::with_capacity(PART_BYTES));
    loop {
        let room = PART_BYTES - text.len();
        let count = (&mut input).take(room as u64).read_to_end(&mut text).map_err(failed())?;
        if !text.is_empty() {
            let answer = client.send_text(path, text.to_vec()).await?;
            leaked.add(answer.read()?)?;
        }
        if count < room {
            return Ok(());
        }
        let kept = text.len() - unfinished(&text);
        text.drain(..kept);
    }
}

/// Opens the file, or standard input without its buffer, which is not wiped.
fn open(file: &Path) -> io::Result<File> {
    if file == Path::new("-") {
        return Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?));
    }
    File::open(file)
}

/// Returns the length of the end of a part that may belong to a key in the next part.
fn unfinished(text: &[u8]) -> usize {
    let may_belong = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_+/=".contains(byte);
    text.iter().rev().take(OVERLAP_BYTES).take_while(may_belong).count()
}

#[derive(Deserialize)]
struct Part {
    keys: Vec<Box<RawValue>>,
    unknown: usize,
}

impl Leaked {
    fn add(&mut self, part: Part) -> Result<(), Failure> {
        self.unknown += part.unknown;
        for raw in part.keys {
            let found: Found = serde_json::from_str(raw.get()).map_err(|_| {
                Failure::failed("the response is from another version of the server")
            })?;
            if self.keys.iter().all(|(known, _)| known.key.id != found.key.id) {
                self.keys.push((found, raw));
            }
        }
        Ok(())
    }

    fn show(&self, json: bool) -> Result<(), Failure> {
        if json {
            #[derive(Serialize)]
            struct Listing<'l> {
                keys: Vec<&'l RawValue>,
                unknown: usize,
            }
            let keys = self.keys.iter().map(|(_, raw)| &**raw).collect();
            let text = serde_json::to_vec(&Listing { keys, unknown: self.unknown });
            return output::line(&text.unwrap_or_default());
        }
        if self.keys.is_empty() {
            output::say("no key of this store was found");
        } else {
            let rows = self.keys.iter().map(|(found, _)| (&found.key, result(&found.outcome)));
            let table = output::leaked_table(rows, jiff::Timestamp::now(), terminal_width());
            output::print(table.as_bytes())?;
        }
        for (Found { key, outcome }, _) in &self.keys {
            if outcome == "last_root_key" {
                output::say(&format!(
                    "{} ({}) is the last root key and was not revoked; replace it now: portcullis key rotate {}",
                    key.id, key.name, key.id
                ));
            }
        }
        if self.unknown > 0 {
            let text = if self.unknown == 1 { "text has" } else { "texts have" };
            output::say(&format!(
                "{} other {text} the form of a key, but not of a key of this store",
                self.unknown
            ));
        }
        Ok(())
    }
}

fn result(outcome: &str) -> &str {
    match outcome {
        "found" => "found",
        "revoked" => "revoked",
        "already_inactive" => "inactive before",
        "last_root_key" => "NOT revoked: last root key",
        _ => "NOT revoked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_that_may_belong_to_a_key_is_searched_again() {
        assert_eq!(unfinished(b"pcl_abc\n"), 0);
        assert_eq!(unfinished(b"key: pcl_abc"), 7);
        assert_eq!(unfinished(&[b'x'; 4096]), OVERLAP_BYTES);
    }
}
