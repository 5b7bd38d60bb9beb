//! The checks before the router: the source of a request, its key, the limits.
//!
//! A request passes these steps in order. The first failure decides the response.
//!
//! | step | failure | response |
//! |---|---|---|
//! | find the source: the peer, or the address from a trusted proxy | | |
//! | count the request on its connection | | |
//! | check the head | ambiguous head | 400 |
//! | authenticate the key in the header | none here: the handler refuses | |
//! | check for shutdown, for `/readyz` only | the server drains | 503 |
//! | count a bad key, except for `/authz` | its source sent too many | 429, or 401 with a session |
//! | admit the request, except a probe | too many requests of its account | 503 |
//! | reserve memory for the body, except for a probe | too many bytes of its account | 503 |
//! | run the handler | no response within 30 seconds | 503 |
//!
//! Then the guard adds the security headers. The permit and the count are held until the client has
//! received the response. An unread body is discarded without a permit (see `request_body`).
//!
//! Each key is authenticated once: the handler takes the outcome from the request's extensions. The
//! handler of a login reports the key in its body to the guard.

use super::{
    accept::ConnectionPermit,
    headers,
    key_check::KeyCheck,
    limits::{Account, Admission, BadKeyLimiter, Overload, Permit},
    metrics::Metrics,
    request_body::{self, RequestBody, Rest},
    response_body::{self, RequestResources},
    source::source_address,
};
use axum::{
    body::{Body, HttpBody},
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderValue, StatusCode, Version,
        header::{COOKIE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use axum_server::ConnectionShutdown;
use portcullis::{
    KeyId, Network, Principal, Refusal, Store,
    web::{Authentication, Problem, has_credential},
};
use portcullis_admin::{LoginLimiter, RateLimitedLog, SharedLoginLimiter};
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// The prefix of the name of the portal's session cookie.
const SESSION_COOKIE_PREFIX: &[u8] = b"__Host-portcullis";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

static BAD_KEYS_LOG: RateLimitedLog = RateLimitedLog::new();

/// The state of the checks.
pub(super) struct Guard {
    store: Store,
    metrics: Metrics,
    bad_keys: Option<BadKeyLimiter>,
    trusted: Vec<Network>,
    admission: Arc<Admission>,
    /// How long a request may take until its response begins.
    response_timeout: Duration,
    is_draining: AtomicBool,
    hsts: Option<HeaderValue>,
}

impl Guard {
    pub(super) fn new(
        store: Store,
        metrics: Metrics,
        trusted: Vec<Network>,
        max_bad_keys: NonZeroU32,
    ) -> Self {
        Self {
            store,
            metrics,
            bad_keys: BadKeyLimiter::new(max_bad_keys),
            trusted,
            admission: Admission::new(),
            response_timeout: REQUEST_TIMEOUT,
            is_draining: AtomicBool::new(false),
            hsts: None,
        }
    }

    /// Tells browsers to use only HTTPS for this many seconds.
    pub(super) fn with_hsts(mut self, seconds: Option<u32>) -> Self {
        self.hsts = headers::hsts(seconds);
        self
    }

    /// Makes `/readyz` report that the server is not ready.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Relaxed);
    }

    /// Finds the address that a request came from and sets it as the request's peer, which the audit log
    /// records.
    fn locate(&self, request: &mut Request) -> Option<IpAddr> {
        let ConnectInfo(peer) = *request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        let source = source_address(peer.ip(), request.headers(), &self.trusted);
        if source != peer.ip() {
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(source, 0)));
        }
        Some(source)
    }

    /// Authenticates the request's key, if the request has one. A probe needs none.
    fn check_key(&self, request: &mut Request) -> Option<KeyCheck> {
        if is_probe(request.uri().path()) || !has_credential(&self.store, request.headers()) {
            return None;
        }
        let start = Instant::now();
        let (headers, extensions) = (request.headers(), request.extensions());
        let authentication = Authentication::new(&self.store, headers, extensions);
        let outcome = authentication.outcome().map(Principal::id);
        let check = KeyCheck::of(outcome.map_err(Refusal::clone));
        self.metrics.record_check(&check, Some(start.elapsed()));
        request.extensions_mut().insert(authentication);
        Some(check)
    }

    /// Records a bad key. Returns how many seconds its source must wait, if it sent too many.
    fn limit_bad_key(&self, source: Option<IpAddr>) -> Option<u64> {
        let wait = self.bad_keys.as_ref()?.record(source?).err()?;
        self.metrics.limited.inc();
        if let Some(suppressed) = BAD_KEYS_LOG.permit() {
            let peer = source.map(tracing::field::display);
            tracing::warn!(peer, suppressed, "too many bad keys; responded with 429");
        }
        Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }
}

impl LoginLimiter for Guard {
    fn record(&self, checked: Result<KeyId, &Refusal>, source: Option<IpAddr>) -> Option<u64> {
        let check = KeyCheck::of(checked.map_err(Refusal::clone));
        self.metrics.record_check(&check, None);
        if check.is_bad_key() { self.limit_bad_key(source) } else { None }
    }
}

/// Whether bad keys for this path are never limited. For the auth requests of nginx the peer is the proxy,
/// and nginx turns a 429 into a 500.
fn is_never_limited(path: &str) -> bool {
    path == "/authz" || path.starts_with("/authz/")
}

/// Whether the request has a cookie of the portal, valid or not.
fn has_session(request: &Request) -> bool {
    let mut cookies = request.headers().get_all(COOKIE).iter();
    cookies.any(|line| {
        line.as_bytes()
            .windows(SESSION_COOKIE_PREFIX.len())
            .any(|part| part == SESSION_COOKIE_PREFIX)
    })
}

/// Whether the path is a probe. Probes need no permit, so that a full server does not look dead.
fn is_probe(path: &str) -> bool {
    path == "/healthz" || path == "/readyz"
}

impl Guard {
    /// Returns the permit of a request and reserves memory for its body. A probe needs neither.
    fn admit(
        &self,
        account: Account,
        request: &Request,
        body: Option<&mut RequestBody>,
    ) -> Result<Option<Permit>, Overload> {
        if is_probe(request.uri().path()) {
            return Ok(None);
        }
        let permit = self.admission.admit(account)?;
        if let Some(body) = body {
            body.count(
                self.admission.reserve(account, request_body::reserved_bytes(request.headers()))?,
            );
        }
        Ok(Some(permit))
    }

    /// Returns the response to a request that is refused before any handler sees it.
    fn refuse(
        &self,
        request: &Request,
        check: Option<&KeyCheck>,
        source: Option<IpAddr>,
    ) -> Option<Response> {
        let path = request.uri().path();
        if self.is_draining.load(Relaxed) && path == "/readyz" {
            return Some(unavailable("the server is about to stop").into_response());
        }
        let is_bad = check.is_some_and(KeyCheck::is_bad_key) && !is_never_limited(path);
        let wait = if is_bad { self.limit_bad_key(source)? } else { return None };
        match check {
            // After a 401 the browser forgets the bad key that it sends beside its session.
            Some(KeyCheck::Refused(refusal)) if has_session(request) => {
                Some(refusal.clone().into_response())
            }
            _ => Some(too_many(wait)),
        }
    }
}

/// The middleware that applies a guard to each request.
pub(super) async fn middleware(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    let source = guard.locate(&mut request);
    let version = request.version();
    let connection = request.extensions().get::<ConnectionPermit>();
    let active = connection.map(|permit| {
        permit.connection().begin_request(request.extensions().get::<ConnectionShutdown>())
    });
    let mut held = RequestResources { permit: None, active };
    let rest = (version == Version::HTTP_2 && !request.body().is_end_stream()).then(Rest::default);
    let mut response = guard.respond(request, next, source, &mut held, rest.clone()).await;
    if let Some(rest) = rest.and_then(|rest| rest.take()) {
        held.permit = None;
        request_body::discard(rest).await;
    }
    headers::add(response.headers_mut(), guard.hsts.as_ref());
    response_body::hold_until_sent(response, held, version)
}

impl Guard {
    async fn respond(
        self: &Arc<Self>,
        mut request: Request,
        next: Next,
        source: Option<IpAddr>,
        held: &mut RequestResources,
        rest: Option<Rest>,
    ) -> Response {
        // From here on, the part of the body that no handler reads is discarded.
        let body = std::mem::take(request.body_mut());
        let mut body =
            (!body.is_end_stream()).then(|| RequestBody::new(body, request.headers(), rest));
        if let Err(problem) = headers::check(request.version(), request.headers()) {
            return problem.into_response();
        }
        let check = self.check_key(&mut request);
        if let Some(refused) = self.refuse(&request, check.as_ref(), source) {
            return refused;
        }
        let account = match check {
            Some(KeyCheck::Valid(id)) => Account::Key(id),
            _ => Account::of_source(source),
        };
        match self.admit(account, &request, body.as_mut()) {
            Ok(permit) => held.permit = permit,
            Err(overload) => {
                self.metrics.record_overload(overload, source);
                return overload.response(request.version());
            }
        }
        if let Some(body) = body {
            *request.body_mut() = Body::new(body);
        }
        let limiter: SharedLoginLimiter = self.clone();
        request.extensions_mut().insert(limiter);
        let Ok(response) = timeout(self.response_timeout, next.run(request)).await else {
            let detail = "the request took too long and its outcome is unknown; check it before you try again";
            return unavailable(detail).into_response();
        };
        // A challenge means that the request had no key. The 401 of a login has no challenge and is
        // already counted.
        if check.is_none() && response.headers().contains_key(WWW_AUTHENTICATE) {
            self.metrics.record_check(&KeyCheck::Refused(Refusal::Missing), None);
        }
        response
    }
}

fn unavailable(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
}

fn too_many(seconds: u64) -> Response {
    let detail = "too many bad keys came from this address; a valid key is not affected";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-bad-keys", detail)
        .with_header(RETRY_AFTER, HeaderValue::from(seconds))
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, body::Body, routing::get};
    use tower::ServiceExt;

    /// Returns the response to a request for `path` behind this guard. `/never` never responds.
    async fn get_path(guard: Guard, path: &str) -> Response {
        let guarded = axum::middleware::from_fn_with_state(Arc::new(guard), middleware);
        let never = std::future::pending::<StatusCode>;
        let app = Router::new().route("/", get(StatusCode::OK)).route("/never", get(never));
        let request =
            Request::builder().uri(path).header("host", "here").body(Body::empty()).unwrap();
        app.layer(guarded).oneshot(request).await.unwrap()
    }

    fn guard() -> Guard {
        let store = Store::builder()
            .scopes(portcullis::scope::catalogue::financial_data())
            .in_memory()
            .unwrap();
        let metrics = Metrics::new(&store);
        Guard::new(store, metrics, Vec::new(), NonZeroU32::MIN)
    }

    #[tokio::test]
    async fn request_that_takes_too_long_gets_503() {
        let guard = Guard { response_timeout: Duration::from_millis(10), ..guard() };
        assert_eq!(get_path(guard, "/never").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
