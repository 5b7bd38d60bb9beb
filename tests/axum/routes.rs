//! Typed scopes, guarded routes, the extractor and the layer in a host's router.

use axum::{
    Extension, Router,
    body::Body,
    extract::{ConnectInfo, FromRef},
    http::{
        Method, Request, StatusCode,
        header::{AUTHORIZATION, CONTENT_LENGTH},
    },
    response::IntoResponse,
    routing::{get, post},
};
use http_body_util::BodyExt;
use portcullis::{
    Principal, Refusal, Store,
    web::{
        AdministrationApi, ApiKey, DataApi, Guarded, RequireScope, TypedScope,
        scopes::{
            AdminAccountCreate, AdminAccountList, AdminAccountUpdate, AdminConnectionDisconnect,
            AdminConnectionHealth, AdminEmbedToken, ApiRead, ApiWrite,
        },
    },
};
use portcullis_testkit::{basic, issue, new_key};
use std::net::{IpAddr, SocketAddr};
use tower::{Layer, ServiceExt, service_fn};
use tower_http::cors::CorsLayer;

/// Status, headers without the length, which a router adds, and body.
type Reply = (StatusCode, Vec<(String, String)>, Vec<u8>);

async fn read_reply(response: axum::response::Response) -> Reply {
    let (parts, body) = response.into_parts();
    let mut headers: Vec<_> = parts
        .headers
        .iter()
        .filter(|(name, _)| *name != CONTENT_LENGTH)
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (parts.status, headers, body.collect().await.unwrap().to_bytes().to_vec())
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.1.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

fn key(store: &Store, names: &[&str]) -> String {
    basic(&issue(store, new_key(store, "some", names)).1)
}

fn request(method: Method, path: &str, authorization: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Body::empty()).unwrap()
}

async fn send(app: &Router, method: Method, path: &str, authorization: Option<&str>) -> Reply {
    read_reply(app.clone().oneshot(request(method, path, authorization)).await.unwrap()).await
}

async fn status(app: &Router, method: Method, path: &str, key: Option<&str>) -> u16 {
    send(app, method, path, key).await.0.as_u16()
}

fn ledgers(store: &Store) -> Router {
    DataApi::new(store.clone())
        .route(ApiRead, "/ledgers", get(async |key: ApiKey<ApiRead>| key.id().to_string()))
        .route(ApiWrite, "/ledgers", post(async || "written"))
        .route(
            ApiRead,
            "/caller",
            get(async |caller: Extension<Principal>| caller.id().to_string()),
        )
        .into()
}

#[tokio::test]
async fn each_method_of_a_path_requires_its_own_scope() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let app = ledgers(&store);
    let (read, write) = (key(&store, &["api.read"]), key(&store, &["api.write"]));
    for (method, key, expected) in [
        (Method::GET, &read, 200),
        (Method::HEAD, &read, 200),
        (Method::POST, &read, 403),
        (Method::GET, &write, 403),
        (Method::HEAD, &write, 403),
        (Method::POST, &write, 200),
    ] {
        assert_eq!(status(&app, method.clone(), "/ledgers", Some(key)).await, expected, "{method}");
    }
    let (id, text) = issue(&store, new_key(&store, "some", &["api.read"]));
    let authorization = basic(&text);
    for path in ["/ledgers", "/caller"] {
        let reply = send(&app, Method::GET, path, Some(&authorization)).await;
        assert_eq!(reply.2, id.to_string().into_bytes(), "{path}");
    }
    store.revoke(id).unwrap();
    assert_eq!(status(&app, Method::GET, "/ledgers", Some(&authorization)).await, 401);
}

#[tokio::test]
async fn router_layer_and_extractor_refuse_with_the_same_bytes() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let guarded = ledgers(&store);
    let layered: Router = Router::new()
        .route("/ledgers", get(async || "ledgers"))
        .route_layer(RequireScope::new(store.clone(), ApiRead));
    let extracted: Router = Router::new()
        .route("/ledgers", get(async |_: ApiKey<ApiRead>| "ledgers"))
        .with_state(store.clone());
    let (id, inactive) = issue(&store, new_key(&store, "some", &["api.read"]));
    store.revoke(id).unwrap();
    let inactive = basic(&inactive);
    let unauthorized = read_reply(Refusal::Missing.into_response()).await;
    assert_eq!(header(&unauthorized, "cache-control"), Some("no-store"));
    assert!(header(&unauthorized, "www-authenticate").unwrap().starts_with("Basic realm="));
    let forbidden = read_reply(Refusal::LacksScope(ApiRead::SCOPE).into_response()).await;
    assert_eq!(header(&forbidden, "www-authenticate"), None);
    let write = key(&store, &["api.write"]);
    for app in [guarded, layered, extracted] {
        for value in [None, Some(inactive.as_str()), Some("Basic"), Some("Bearer x"), Some("")] {
            assert_eq!(send(&app, Method::GET, "/ledgers", value).await, unauthorized, "{value:?}");
        }
        let twice = Request::get("/ledgers")
            .header(AUTHORIZATION, key(&store, &["api.read"]))
            .header(AUTHORIZATION, key(&store, &["api.read"]));
        let twice = app.clone().oneshot(twice.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(read_reply(twice).await, unauthorized);
        assert_eq!(send(&app, Method::GET, "/ledgers", Some(&write)).await, forbidden);
    }
}

#[tokio::test]
async fn optional_key_may_be_missing_but_not_invalid() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let greet = async |key: Option<ApiKey<ApiRead>>| if key.is_some() { "back" } else { "hello" };
    let app = Router::new().route("/", get(greet)).with_state(store.clone());
    let read = key(&store, &["api.read"]);
    assert_eq!(send(&app, Method::GET, "/", None).await.2, b"hello");
    assert_eq!(send(&app, Method::GET, "/", Some(&read)).await.2, b"back");
    assert_eq!(status(&app, Method::GET, "/", Some("Basic eA==")).await, 401);
    assert_eq!(status(&app, Method::GET, "/", Some("")).await, 401);
    let write = key(&store, &["api.write"]);
    assert_eq!(status(&app, Method::GET, "/", Some(&write)).await, 403);
}

#[tokio::test]
async fn unknown_path_method_and_preflight_need_no_key() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let app = ledgers(&store);
    let read = key(&store, &["api.read"]);
    for key in [None, Some(read.as_str()), Some("Basic")] {
        assert_eq!(status(&app, Method::GET, "/nothing", key).await, 404);
        for method in [Method::PUT, Method::OPTIONS] {
            let refused = send(&app, method, "/ledgers", key).await;
            assert_eq!(refused.0, StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(header(&refused, "allow"), Some("GET,HEAD,POST"));
        }
    }
    let app = app.layer(CorsLayer::permissive());
    let preflight = Request::options("/ledgers")
        .header("origin", "https://elsewhere.example")
        .header("access-control-request-method", "POST");
    let preflight = app.clone().oneshot(preflight.body(Body::empty()).unwrap()).await.unwrap();
    let preflight = read_reply(preflight).await;
    assert_eq!(preflight.0, StatusCode::OK);
    assert_eq!(header(&preflight, "access-control-allow-origin"), Some("*"));
    let refused = send(&app, Method::GET, "/ledgers", None).await;
    assert_eq!(refused.0, StatusCode::UNAUTHORIZED);
    assert_eq!(header(&refused, "access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn fallback_of_a_guarded_path_is_not_called() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let methods = get(async || "guarded").fallback(async || "unguarded");
    let app: Router = DataApi::new(store).route(ApiRead, "/", methods).into();
    assert_eq!(status(&app, Method::PUT, "/", None).await, 405);
    assert_eq!(status(&app, Method::GET, "/", None).await, 401);
}

#[test]
#[should_panic(expected = "route_layer before any routes")]
fn route_without_a_method_panics() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let _ = DataApi::new(store).route(ApiRead, "/", axum::routing::any(async || "all"));
}

#[tokio::test]
async fn extractor_refuses_a_key_of_another_store() {
    let (outer, inner) = (
        portcullis_testkit::builder().in_memory().unwrap(),
        portcullis_testkit::builder().in_memory().unwrap(),
    );
    let app = Router::new()
        .route("/", get(async |_: ApiKey<ApiRead>| "inner"))
        .with_state(inner.clone())
        .route_layer(RequireScope::new(outer.clone(), ApiRead));
    assert_eq!(status(&app, Method::GET, "/", Some(&key(&outer, &["api.read"]))).await, 401);
    assert_eq!(status(&app, Method::GET, "/", Some(&key(&inner, &["api.read"]))).await, 401);
}

#[tokio::test]
async fn state_may_contain_the_store() {
    #[derive(Clone)]
    struct Platform {
        keys: Store,
    }
    impl FromRef<Platform> for Store {
        fn from_ref(platform: &Platform) -> Self {
            platform.keys.clone()
        }
    }
    let platform = Platform { keys: portcullis_testkit::builder().in_memory().unwrap() };
    let read = key(&platform.keys, &["api.read"]);
    let handler = async |_: ApiKey<ApiRead>| "ledgers";
    let app: Router = Guarded::new(platform).route(ApiRead, "/", get(handler)).into();
    assert_eq!(status(&app, Method::GET, "/", Some(&read)).await, 200);
    assert_eq!(status(&app, Method::GET, "/", None).await, 401);
}

#[tokio::test]
async fn layer_guards_any_tower_service() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let inner = service_fn(async |request: Request<()>| {
        let id = request.extensions().get::<Principal>().unwrap().id();
        Ok::<_, std::io::Error>(axum::http::Response::new(http_body_util::Full::new(
            axum::body::Bytes::from(id.to_string()),
        )))
    });
    let service = RequireScope::new(store.clone(), ApiWrite).layer(inner);
    let (id, text) = issue(&store, new_key(&store, "some", &["api.write"]));
    let request = Request::builder().header(AUTHORIZATION, basic(&text)).body(()).unwrap();
    let accepted = read_reply(service.clone().oneshot(request).await.unwrap()).await;
    assert_eq!(accepted.2, id.to_string().into_bytes());
    assert_eq!(service.oneshot(Request::new(())).await.unwrap().status(), 401);
}

#[tokio::test]
async fn every_documented_scope_grants_access_to_its_route_only() {
    fn ok() -> axum::routing::MethodRouter<Store> {
        get(async || "ok")
    }
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let administration: Router = AdministrationApi::new(store.clone())
        .route(AdminAccountCreate, "/admin.account.create", ok())
        .route(AdminAccountList, "/admin.account.list", ok())
        .route(AdminAccountUpdate, "/admin.account.update", ok())
        .route(AdminConnectionDisconnect, "/admin.connection.disconnect", ok())
        .route(AdminConnectionHealth, "/admin.connection.health", ok())
        .route(AdminEmbedToken, "/admin.embed.token", ok())
        .into();
    let data: Router = DataApi::new(store.clone())
        .route(ApiRead, "/api.read", ok())
        .route(ApiWrite, "/api.write", ok())
        .into();
    let app = administration.merge(data);
    let entries = store.catalogue().entries().iter().map(|entry| entry.scope.as_str());
    let names: Vec<_> = entries.filter(|name| !name.starts_with("admin.key.")).collect();
    assert_eq!(names.len(), 8);
    for granted in &names {
        let key = key(&store, &[granted]);
        for required in &names {
            let expected = if granted == required { 200 } else { 403 };
            let actual = status(&app, Method::GET, &format!("/{required}"), Some(&key)).await;
            assert_eq!(actual, expected, "a key with {granted} at {required}");
        }
    }
}

mod host {
    portcullis::scopes! {
        /// Permits closing a year.
        pub(crate) LedgerClose = "ledger.close-year", "close a year";
        pub(crate) AdminLedgerOpen = "admin.ledger.open";
    }
}

#[tokio::test]
async fn host_can_define_its_own_scopes() {
    let store = Store::builder().scopes(host::registry()).in_memory().unwrap();
    let close = store.catalogue().entries().last().unwrap();
    assert_eq!(close.scope, host::AdminLedgerOpen::SCOPE);
    let app: Router = Guarded::new(store.clone())
        .route(host::LedgerClose, "/close", post(async || "closed"))
        .into();
    let other: Router = Guarded::new(store.clone())
        .route(host::AdminLedgerOpen, "/open", post(async || "opened"))
        .into();
    let app = app.merge(other);
    let key = key(&store, &["ledger.close-year"]);
    assert_eq!(status(&app, Method::POST, "/close", Some(&key)).await, 200);
    assert_eq!(status(&app, Method::POST, "/open", Some(&key)).await, 403);
}

#[tokio::test]
async fn key_with_networks_needs_the_address_of_the_client_in_the_request() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let networks = ["192.0.2.0/24".parse::<portcullis::Network>().unwrap()].into_iter().collect();
    let new = new_key(&store, "bound", &["api.read"]).with_networks(networks);
    let value = basic(&issue(&store, new).1);
    let app: Router = DataApi::new(store.clone())
        .route(ApiRead, "/data", get(async |_: ApiKey<ApiRead>| "data"))
        .into();
    let extracted = Router::new().route("/data", get(async |_: ApiKey<ApiRead>| "data"));
    let extracted = extracted.with_state(store);
    for app in [app, extracted] {
        let from = async |address: Option<&str>| {
            let mut request = request(Method::GET, "/data", Some(&value));
            if let Some(address) = address {
                let address: IpAddr = address.parse().unwrap();
                request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address, 4711)));
            }
            app.clone().oneshot(request).await.unwrap().status()
        };
        assert_eq!(from(Some("192.0.2.7")).await, StatusCode::OK);
        assert_eq!(from(Some("::ffff:192.0.2.7")).await, StatusCode::OK);
        assert_eq!(from(Some("198.51.100.7")).await, StatusCode::UNAUTHORIZED);
        assert_eq!(from(None).await, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn nested_layers_count_one_request_and_a_limited_key_gets_429() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let rate = portcullis::Rate::new(2, 3600).unwrap();
    let new = new_key(&store, "limited", &["api.read"]).with_rate(rate);
    let value = basic(&issue(&store, new).1);
    let app: Router = DataApi::new(store.clone())
        .route(ApiRead, "/data", get(async |_: ApiKey<ApiRead>| "data"))
        .into();
    let app = app.route_layer(RequireScope::new(store.clone(), ApiRead));
    let app = app.route_layer(RequireScope::new(store, ApiRead));
    for _ in 0..2 {
        assert_eq!(send(&app, Method::GET, "/data", Some(&value)).await.0, StatusCode::OK);
    }
    let limited = send(&app, Method::GET, "/data", Some(&value)).await;
    assert_eq!(limited.0, StatusCode::TOO_MANY_REQUESTS);
    // Some of the 1800 s may have passed.
    let wait = header(&limited, "retry-after").unwrap();
    assert!((1700..=1800).contains(&wait.parse::<u32>().unwrap()), "{wait}");
    assert_eq!(header(&limited, "ratelimit-policy"), Some(r#""perkey";q=2;w=3600"#));
    assert_eq!(header(&limited, "ratelimit"), Some(&*format!(r#""perkey";r=0;t={wait}"#)));
    assert_eq!(header(&limited, "www-authenticate"), None);
}
