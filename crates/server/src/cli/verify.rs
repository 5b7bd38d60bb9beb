//! `verify`: authenticates the key on standard input.

use super::{args::Verify, client::Client, failure::Failure, output, terminal_text::escape};
use axum::http::Method;
use serde::Deserialize;
use serde_json::json;
use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    process::ExitCode,
};

/// Far more than the longest key.
const MAX_KEY_BYTES: u64 = 1024;
const REFUSED: u8 = 3;
const LACKS_SCOPE: u8 = 4;

/// Exits with 0, with 3 if the key is refused, and with 4 if it lacks a required scope.
pub(crate) async fn run(
    client: &mut Client,
    options: &Verify,
    json: bool,
) -> Result<ExitCode, Failure> {
    #[derive(Deserialize)]
    struct Verification {
        code: String,
        key: Option<output::Key>,
    }
    let mut body = json!({"key": presented()?, "scopes": options.scopes});
    if let (Some(address), Some(body)) = (options.address, body.as_object_mut()) {
        body.insert("address".into(), address.to_string().into());
    }
    let answer = client.send(Method::POST, "/v1/verify", Some(&body)).await?;
    let verified: Verification = answer.read()?;
    if json {
        output::line(answer.bytes())?;
    } else {
        let key = verified.key.map(|key| format!(" {} {}", key.id, key.name)).unwrap_or_default();
        output::line(escape(&format!("{}{key}", verified.code)).as_bytes())?;
    }
    Ok(match verified.code.as_str() {
        "VALID" => ExitCode::SUCCESS,
        "INSUFFICIENT_SCOPE" => LACKS_SCOPE.into(),
        _ => REFUSED.into(),
    })
}

/// Reads the key without the buffer of standard input, which is not wiped. Bytes that are not UTF-8 become
/// an empty key, which the router refuses.
fn presented() -> Result<String, Failure> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    let mut key = Vec::with_capacity(2048);
    input
        .and_then(|fd| File::from(fd).take(MAX_KEY_BYTES).read_to_end(&mut key))
        .map_err(Failure::io("reading the key from standard input"))?;
    Ok(str::from_utf8(key.trim_ascii()).unwrap_or_default().to_owned())
}
