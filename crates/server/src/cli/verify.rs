//! `verify`: is the key on standard input valid?

use super::{args::Verify, client::Client, failure::Failure, output, terminal_text::plain};
use axum::http::Method;
use serde::Deserialize;
use serde_json::json;
use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    process::ExitCode,
};

/// Far more than a key has.
const MOST_BYTES: u64 = 1024;
const REFUSED: u8 = 3;
const LACKS_SCOPE: u8 = 4;

/// Ends with 0, with 3 where the key is refused, with 4 where it lacks a scope that was asked for.
pub(crate) async fn run(
    client: &mut Client,
    asked: &Verify,
    json: bool,
) -> Result<ExitCode, Failure> {
    #[derive(Deserialize)]
    struct Verdict {
        code: String,
        key: Option<output::Key>,
    }
    let body = json!({"key": presented()?, "scopes": asked.scopes});
    let answer = client.send(Method::POST, "/v1/verify", Some(&body)).await?;
    let verdict: Verdict = answer.read()?;
    if json {
        output::line(answer.bytes())?;
    } else {
        let whose = verdict.key.map(|key| format!(" {} {}", key.id, key.name)).unwrap_or_default();
        output::line(plain(&format!("{}{whose}", verdict.code)).as_bytes())?;
    }
    Ok(match verdict.code.as_str() {
        "VALID" => ExitCode::SUCCESS,
        "INSUFFICIENT_SCOPE" => LACKS_SCOPE.into(),
        _ => REFUSED.into(),
    })
}

/// The key, read past the buffer of standard input. What is no text is no key either, and the
/// router says so.
fn presented() -> Result<String, Failure> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    let mut key = Vec::with_capacity(2048);
    input
        .and_then(|fd| File::from(fd).take(MOST_BYTES).read_to_end(&mut key))
        .map_err(Failure::io("reading the key from standard input"))?;
    Ok(str::from_utf8(key.trim_ascii()).unwrap_or_default().to_owned())
}
