//! Conformance of the server to `/openapi.json`: of each operation here, and of a running server by
//! schemathesis, which generates requests from the description.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use portcullis_admin::router;
use portcullis_testkit::{basic, issue, needs, new_key, serving::Home};
use serde_json::{Value, json};
use std::process::Command;
use tower::ServiceExt;

async fn ask(app: &axum::Router, method: &str, path: &str, key: &[u8]) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method.to_uppercase().as_str())
        .uri(path)
        .header("authorization", basic(key))
        .body(Body::empty())
        .unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn every_operation_documents_its_required_scope() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let app = router(store.clone());
    let (status, document) = ask(&app, "get", "/openapi.json", b"").await;
    assert_eq!(status, StatusCode::OK);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["components"]["securitySchemes"]["key"]["scheme"], "basic");
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let place = format!("{method} {path}");
            // A new key for each operation: one of them revokes it.
            let (_, weak) = issue(&store, new_key(&store, "weak", &[]));
            let path = path.replace("{id}", "key_00000000000").replace("{scopes}", "api.read");
            let path = path.replace("{name}", "ledger.close");
            if path.starts_with("/authz") {
                let (status, answer) =
                    ask(&app, method, &format!("{path}?scope=api.read"), &weak).await;
                assert_eq!(status, StatusCode::FORBIDDEN, "{place}");
                assert_eq!(answer["required_scopes"], json!(["api.read"]), "{place}");
                continue;
            }
            let (status, answer) = ask(&app, method, &path, &weak).await;
            match &operation["security"] {
                security if security == &json!([]) => {
                    assert!(["get /healthz", "get /readyz"].contains(&place.as_str()), "{place}");
                    assert_eq!(status, StatusCode::OK, "{place}");
                }
                security if operation["x-required-scopes"].is_null() => {
                    assert_eq!(security, &json!([{"key": []}]), "{place}");
                    let is_for_all = place.ends_with(" /v1/whoami");
                    let expected = if is_for_all { StatusCode::OK } else { StatusCode::FORBIDDEN };
                    let is_roots =
                        place.ends_with(" /v1/scopes/{name}") || place == "put /v1/policy";
                    assert!(is_for_all || is_roots, "{place}");
                    assert_eq!(status, expected, "{place}");
                }
                security => {
                    assert_eq!(security, &json!([{"key": []}]), "{place}");
                    assert_eq!(status, StatusCode::FORBIDDEN, "{place}");
                    assert_eq!(
                        answer["required_scopes"], operation["x-required-scopes"],
                        "{place}"
                    );
                    for status in ["401", "403", "503"] {
                        let content = &operation["responses"][status]["content"];
                        assert!(content["application/problem+json"].is_object(), "{place}");
                    }
                }
            }
        }
    }
    assert_eq!(operations, 30 + usize::from(cfg!(feature = "cluster")));
}

#[needs("schemathesis")]
#[test]
fn schemathesis_finds_no_server_error_and_no_undocumented_response() {
    let home = Home::new();
    let key = home.done(&["init", "--scopes=financial-data"]);
    let server = home.serve(&["--behind-proxy"]);
    let conformance = "status_code_conformance,content_type_conformance,\
        response_headers_conformance,response_schema_conformance,ignored_auth";
    let strict = format!("{conformance},not_a_server_error,unsupported_method");
    // Forward auth accepts every method, and 500 reports an invalid request of the proxy.
    // A stream has no end, and the tool cannot write JSON lines.
    for (selection, paths, checks) in [
        ("--exclude-path-regex", "^/(authz|v1/audit/stream|v1/keys:batch)", strict.as_str()),
        ("--include-path-regex", "^/authz", conformance),
    ] {
        let run = Command::new("schemathesis")
            .args(["run", &format!("{}/openapi.json", server.url), "--auth", &format!("{key}:")])
            .args(["--phases", "coverage,fuzzing", "--max-examples", "30", "--checks", checks])
            .args(["--no-shrink", selection, paths])
            .current_dir(home.room())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    }
}
