//! `key owners`: lists the owners of keys.

use super::{
    client::Client,
    failure::Failure,
    output,
    table::{aligned, terminal_width},
};
use axum::http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Deserialize)]
struct Page {
    owners: Vec<Value>,
    next_after: Option<String>,
}

pub(crate) async fn run(client: &mut Client, json: bool) -> Result<ExitCode, Failure> {
    let (mut owners, mut path) = (Vec::new(), "/v1/owners?limit=1000".to_owned());
    loop {
        let page: Page = client.send(Method::GET, &path, None).await?.read()?;
        owners.extend(page.owners);
        let Some(after) = page.next_after else { break };
        let after = utf8_percent_encode(&after, NON_ALPHANUMERIC);
        path = format!("/v1/owners?limit=1000&after={after}");
    }
    if json {
        output::line(json!({ "owners": owners }).to_string().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let heading = ["OWNER", "ACTIVE", "INACTIVE"].map(str::to_owned);
    let rows = owners.iter().map(|owner| {
        let number = |field: &str| owner[field].to_string();
        let name = owner["owner"].as_str().unwrap_or_default().to_owned();
        [name, number("active"), number("inactive")]
    });
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    output::print(aligned(rows.iter(), terminal_width()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
