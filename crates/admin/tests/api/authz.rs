//! Forward authentication: the responses to a proxy.

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header::AUTHORIZATION},
    response::IntoResponse,
};
use http_body_util::BodyExt;
use portcullis::{Grant, Refusal, scope::catalogue};
use portcullis_admin::{forward_auth, router};
use portcullis_testkit::{basic, issue, new_key};
use tower::ServiceExt;

const IDENTITY: [&str; 4] = ["x-auth-key-id", "x-auth-key-name", "x-auth-scopes", "x-auth-owner"];

async fn bytes(response: axum::response::Response) -> (StatusCode, HeaderMap, Vec<u8>) {
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

async fn request(app: &Router, method: Method, uri: &str, key: &str) -> (u16, HeaderMap, Vec<u8>) {
    let builder = Request::builder()
        .method(method)
        .uri(uri)
        .header(AUTHORIZATION, key)
        // A proxy forwards the header of a page of another origin.
        .header("origin", "https://elsewhere.example")
        .header("x-auth-owner", "spoofed");
    let request = builder.body(Body::from("an ignored body")).unwrap();
    let (status, headers, body) = bytes(app.clone().oneshot(request).await.unwrap()).await;
    assert_eq!(headers["cache-control"], "no-store", "{uri}");
    let has_identity = IDENTITY.map(|name| headers.contains_key(name));
    assert_eq!(has_identity, [status == StatusCode::OK; 4], "{uri}");
    (status.as_u16(), headers, body)
}

#[tokio::test]
async fn response_identifies_the_key_in_four_headers() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let named =
        new_key(&store, "Käse\u{a0}100%", &["api.read", "api.write"]).with_owner("shop 17, Zürich");
    let (id, full) = issue(&store, named);
    let (_, bare) = issue(&store, new_key(&store, "till", &["api.read"]));
    let (_, root) = issue(&store, new_key(&store, "root", &[]).with_grant(Grant::All));
    let nested = Router::new().nest("/keys-admin", router(store.clone()));
    for (app, prefix) in
        [(router(store.clone()), ""), (forward_auth(store.clone()), ""), (nested, "/keys-admin")]
    {
        for uri in [
            "/authz?scope=api.read",
            "/authz/scope/api.read/data?scope=no",
            "/authz/scope/api.read/%ff",
        ] {
            let uri = format!("{prefix}{uri}");
            for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
                let (status, headers, body) = request(&app, method, &uri, &basic(&full)).await;
                assert_eq!((status, body.len()), (200, 0), "{uri}");
                assert_eq!(headers["x-auth-key-id"], id.to_string());
                assert_eq!(headers["x-auth-key-name"], "K%C3%A4se%C2%A0100%25");
                assert_eq!(headers["x-auth-scopes"], "api.read,api.write");
                assert_eq!(headers["x-auth-owner"], "shop%2017%2C%20Z%C3%BCrich");
            }
        }
        let uri = format!("{prefix}/authz?scope=api.read");
        let (_, headers, _) = request(&app, Method::GET, &uri, &basic(&bare)).await;
        assert_eq!(headers["x-auth-owner"], "");
        let (_, headers, _) = request(&app, Method::GET, &uri, &basic(&root)).await;
        assert_eq!(headers["x-auth-scopes"], "*");
    }
}

#[tokio::test]
async fn refusals_equal_those_of_other_routes_and_all_scopes_are_required() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let app = router(store.clone());
    let (id, read) = issue(&store, new_key(&store, "till", &["api.read"]));
    let read = basic(&read);
    let unauthorized = bytes(Refusal::Missing.into_response()).await;
    let lacks_write = Refusal::LacksScope(catalogue::API_WRITE);
    let forbidden = bytes(lacks_write.into_response()).await;
    for uri in [
        "/authz?scope=api.read&scope=api.write",
        "/authz?scope=api.write",
        "/authz/scope/api.read,api.write/x",
    ] {
        let (status, headers, body) = request(&app, Method::PUT, uri, &read).await;
        assert_eq!((status, &body), (403, &forbidden.2), "{uri}");
        assert!(!headers.contains_key("www-authenticate"));
    }
    for key in ["", "Basic", "Bearer x", &basic(b"pcl_nobody")] {
        let (status, headers, body) =
            request(&app, Method::GET, "/authz?scope=api.read", key).await;
        assert_eq!((status, &body), (401, &unauthorized.2), "{key}");
        assert_eq!(headers["www-authenticate"], unauthorized.1["www-authenticate"]);
    }
    assert_eq!(request(&app, Method::GET, "/authz?scope=api.read", &read).await.0, 200);
    store.revoke(id).unwrap();
    assert_eq!(request(&app, Method::GET, "/authz?scope=api.read", &read).await.0, 401);
}

#[tokio::test]
async fn invalid_request_of_the_proxy_returns_500_for_every_key() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let app = router(store.clone());
    let (_, root) = issue(&store, new_key(&store, "root", &[]).with_grant(Grant::All));
    for uri in [
        "/authz",
        "/authz?scope=",
        "/authz?scope=api.raed",
        "/authz?scope=*",
        "/authz?scope=api.read&scop=api.write",
        "/authz/scope/api.raed/x",
        "/authz/scope//x",
        "/authz/",
        "/authz/scope?scope=api.read",
    ] {
        for key in [&basic(&root), "Basic"] {
            let (status, _, body) = request(&app, Method::GET, uri, key).await;
            assert_eq!(status, 500, "{uri}");
            assert!(!body.is_empty());
        }
    }
}
