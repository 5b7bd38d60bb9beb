//! The `/openapi.json` of a running server passes the recommended rules of Redocly and Spectral.
//!
//! It needs Node and `npm ci --prefix crates/server/tests/openapi_lint`.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper function fails the test by panicking"
)]

use portcullis_testkit::{WORKSPACE, needs, serving::Home};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

#[needs(
    "node",
    "Redocly CLI and Spectral (npm ci --prefix crates/server/tests/openapi_lint): cd crates/server/tests/openapi_lint/node_modules && test -x .bin/redocly -a -x .bin/spectral"
)]
#[test]
fn document_has_no_findings() {
    let home = Home::new();
    home.done(&["init", "--scopes=financial-data"]);
    let server = home.serve(&["--behind-proxy"]);
    let place = home.room();
    let document = reqwest::blocking::get(format!("{}/openapi.json", server.url)).unwrap();
    assert!(document.status().is_success());
    fs::write(place.join("openapi.json"), document.text().unwrap()).unwrap();
    fs::write(place.join("redocly.yaml"), "extends: [recommended]\n").unwrap();
    fs::write(place.join("spectral.yaml"), "extends: [\"spectral:oas\"]\n").unwrap();
    let redocly = lint(&place, "redocly", &["--config=redocly.yaml", "--format=json"]);
    assert_eq!(redocly["problems"], json!([]), "{redocly:#}");
    let spectral = ["--ruleset=spectral.yaml", "--format=json", "--quiet", "--fail-severity=hint"];
    let spectral = lint(&place, "spectral", &spectral);
    assert_eq!(spectral, json!([]), "{spectral:#}");
}

/// Runs a linter on the document. Returns its report.
fn lint(place: &Path, program: &str, arguments: &[&str]) -> Value {
    let programs = Path::new(WORKSPACE).join("crates/server/tests/openapi_lint/node_modules/.bin");
    let run = Command::new(programs.join(program))
        .args(["lint", "openapi.json"])
        .args(arguments)
        .current_dir(place)
        .env("REDOCLY_TELEMETRY", "off")
        .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
        .output()
        .unwrap();
    let report = serde_json::from_slice(&run.stdout);
    report.unwrap_or_else(|_| panic!("{program}: {}", String::from_utf8_lossy(&run.stderr)))
}
