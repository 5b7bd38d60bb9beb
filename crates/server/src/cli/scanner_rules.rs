//! `key scanner-rules`: the rule by which a secret scanner finds the keys of a store.

use super::{
    client::Client,
    failure::Failure,
    key_args::{Scanner, ScannerRules},
    output,
};
use axum::http::Method;
use portcullis::Prefix;
use serde::Deserialize;
use std::process::ExitCode;

/// Prints the rule for the prefix of the store.
pub(crate) async fn run(client: &mut Client, options: &ScannerRules) -> Result<ExitCode, Failure> {
    #[derive(Deserialize)]
    struct Local {
        prefix: String,
    }
    let local: Local = client.send(Method::GET, "/v1/whoami", None).await?.read()?;
    let prefix = Prefix::new(&local.prefix).map_err(|error| Failure::failed(error.to_string()))?;
    output::print(rule(options.scanner, prefix).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Formats the rule. The ids and hints of keys are no secrets, so the expression needs the whole key.
fn rule(scanner: Scanner, prefix: Prefix) -> String {
    let (name, pattern) = (prefix.as_str(), prefix.pattern());
    match scanner {
        Scanner::Gitleaks => format!(
            r#"[[rules]]
id = "portcullis-{name}"
description = "Portcullis API key with the prefix {name}"
regex = '''{pattern}'''
keywords = ["{name}_"]
"#
        ),
        Scanner::Trufflehog => format!(
            r"detectors:
  - name: portcullis-{name}
    keywords:
      - {name}_
    regex:
      key: '{pattern}'
"
        ),
    }
}
