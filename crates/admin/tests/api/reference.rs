//! The reference of the API for people, at `/docs`.

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use http_body_util::BodyExt;
use portcullis_admin::router;
use serde_json::Value;
use tower::ServiceExt;

async fn get(app: &Router, path: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes().to_vec();
    (parts.status, parts.headers, String::from_utf8(bytes).unwrap())
}

/// The text of the page as a browser shows it.
fn unescaped(page: &str) -> String {
    page.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

#[tokio::test]
async fn page_describes_every_operation_of_the_document() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let nested = Router::new().nest("/admin", router(store.clone()));
    for (app, base) in [(router(store.clone()), ""), (nested, "/admin")] {
        let (_, _, document) = get(&app, &format!("{base}/openapi.json")).await;
        let document: Value = serde_json::from_str(&document).unwrap();
        let (status, headers, page) = get(&app, &format!("{base}/docs")).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let page = unescaped(&page);
        for (path, item) in document["paths"].as_object().unwrap() {
            assert!(page.contains(&format!("<code>{path}</code>")), "{path}");
            for operation in item.as_object().unwrap().values() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
                let summary = operation["summary"].as_str().unwrap();
                assert!(page.contains(&format!("<h3>{summary}</h3>")), "{summary}");
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    let name = parameter["name"].as_str().unwrap();
                    assert!(page.contains(&format!("<code>{name}</code>")), "{name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn links_of_the_page_are_relative_and_lead_somewhere() {
    let app =
        Router::new().nest("/admin", router(portcullis_testkit::builder().in_memory().unwrap()));
    let (_, _, page) = get(&app, "/admin/docs").await;
    let links: Vec<_> =
        page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(links.len() > 30, "{links:?}");
    for link in links {
        if let Some(id) = link.strip_prefix('#') {
            assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{link}");
        } else {
            let (status, headers, _) = get(&app, &format!("/admin/{link}")).await;
            assert_eq!(status, StatusCode::OK, "{link}");
            assert!(!headers["content-type"].is_empty());
        }
    }
    for forbidden in ["<script", "<style", "style=\"", "src=\"", "url("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[tokio::test]
async fn browser_that_asks_for_an_unknown_path_gets_a_page_and_a_program_a_problem() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let app = Router::new().nest("/admin", router(store));
    let ask = async |method: &str, accept: &str| {
        let request = Request::builder().method(method).uri("/admin/nowhere");
        let request = request.header("accept", accept).body(Body::empty());
        let response = app.clone().oneshot(request.unwrap()).await.unwrap();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let policy = response.headers().contains_key("content-security-policy");
        let bytes = response.into_body().collect().await.unwrap().to_bytes().to_vec();
        (content_type, policy, String::from_utf8(bytes).unwrap())
    };
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let (content_type, policy, page) = ask("GET", browser).await;
    assert!(content_type == "text/html; charset=utf-8" && policy, "{content_type}");
    assert!(page.contains(r#"href="/admin/docs""#) && !page.contains("nowhere"), "{page}");
    for (method, accept) in [("GET", "*/*"), ("GET", "application/json"), ("POST", browser)] {
        let (content_type, _, body) = ask(method, accept).await;
        assert_eq!(content_type, "application/problem+json", "{method} {accept}");
        assert!(body.contains("urn:portcullis:not-found"), "{body}");
    }
}
