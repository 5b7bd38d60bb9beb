//! `key create --from`: creates many keys, and writes their texts to a new file.

use super::{bulk, client::Client, failure::Failure, output, output::Key};
use axum::http::Method;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
};

/// The most keys and bytes of a request.
const MAX_KEYS: usize = 100;
const MAX_BYTES: usize = 48 * 1024;

/// Creates the keys of a file with one JSON object a line, in batches. Each batch is in the new file, and on
/// disk, before the next is created. The keys of a batch that cannot be written are revoked.
pub(crate) async fn run(client: &mut Client, from: &Path, to: &Path) -> Result<ExitCode, Failure> {
    let text = fs::read_to_string(from);
    let text = text.map_err(Failure::io(format!("reading {}", from.display())))?;
    let lines: Vec<(usize, &str)> =
        (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return Err(Failure::usage(format!("{} has no line with a key", from.display())));
    }
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let mut file = options.map_err(Failure::io(format!("creating {}", to.display())))?;
    let (mut created, mut rest) = (0, &lines[..]);
    while let Some((first, _)) = rest.first() {
        let (batch, after) = rest.split_at(batch_length(rest));
        let body: String = batch.iter().flat_map(|(_, line)| [line, "\n"]).collect();
        let done = |failure: Failure| {
            let so_far = match created {
                0 => "no key was created".to_owned(),
                _ => format!("the keys of the lines before {first} are in {}", to.display()),
            };
            let named = format!("the batch that begins at line {first} of {}", from.display());
            failure.with_context(|text| format!("{named}: {text}; {so_far}"))
        };
        let answer = client.send_lines(Method::POST, "/v1/keys:batch", body).await.map_err(done)?;
        if let Err(error) = write(&mut file, answer.bytes()) {
            let ids = ids(answer.bytes());
            let revoked = match bulk::revoke(client, &ids).await {
                Ok(()) => "they were revoked".to_owned(),
                Err(failure) => {
                    format!("revoking them failed as well ({failure}); revoke {}", ids.join(" "))
                }
            };
            let to = to.display();
            return Err(done(Failure::failed(format!(
                "its keys could not be written to {to} ({error}); {revoked}"
            ))));
        }
        created += batch.len();
        rest = after;
    }
    output::say(&format!(
        "created {}; their texts are in {}, and shown only this once",
        output::keys(created as u64),
        to.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn batch_length(lines: &[(usize, &str)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, line): &&(usize, &str)| {
        bytes += line.len() + 1;
        bytes <= MAX_BYTES
    };
    lines.iter().take(MAX_KEYS).take_while(fits).count().max(1)
}

fn write(file: &mut File, lines: &[u8]) -> io::Result<()> {
    file.write_all(lines)?;
    file.sync_data()
}

fn ids(lines: &[u8]) -> Vec<String> {
    let keys = lines.split(|byte| *byte == b'\n');
    keys.filter_map(|line| Some(serde_json::from_slice::<Key>(line).ok()?.id)).collect()
}
