//! Before the router: where a request comes from, whether there is room for it, and whether its
//! source floods the server with bad keys.
//!
//! The key in a header is checked here and once more by the handler. That costs a fraction of a
//! microsecond, and keeps counting and limiting out of what a host embeds. Of a key in a body its
//! handler tells the guard.

use super::{
    flood::Floods,
    metrics::Metrics,
    source::{self, Network},
};
use crate::{
    Refusal, Store,
    admin::{
        doorkeeper::{AtTheDoor, Doorkeeper},
        sparingly::Sparingly,
    },
    web,
    web::Problem,
};
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time::timeout};

/// Each request under way may hold a body of the largest size and wait for the disk.
const REQUESTS: usize = 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

static LIMITED: Sparingly = Sparingly::new();

/// What a check of a key came to.
pub(super) enum Verdict {
    Valid,
    Refused(Refusal),
}

impl Verdict {
    pub(super) const ALL: [&'static str; 8] = [
        "valid",
        "missing",
        "malformed",
        "ambiguous",
        "unknown",
        "inactive",
        "expired",
        "unavailable",
    ];

    fn of(checked: Result<(), Refusal>) -> Self {
        checked.map_or_else(Self::Refused, |()| Self::Valid)
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Refused(refusal) => refusal.code(),
        }
    }

    /// Whether somebody tried a key that is none. Nobody learns which kind of none.
    fn is_bad_key(&self) -> bool {
        !matches!(self, Self::Valid | Self::Refused(Refusal::Missing | Refusal::Unavailable))
    }
}

/// What stands before the router.
pub(super) struct Guard {
    store: Store,
    metrics: Metrics,
    floods: Option<Floods>,
    trusted: Vec<Network>,
    requests: Semaphore,
    /// How long a request may take until its answer begins.
    patience: Duration,
    is_draining: AtomicBool,
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
            floods: Floods::new(max_bad_keys),
            trusted,
            requests: Semaphore::new(REQUESTS),
            patience: REQUEST_TIMEOUT,
            is_draining: AtomicBool::new(false),
        }
    }

    /// From now on the server says that it is not ready.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Relaxed);
    }

    /// Where the request came from. From here on that is its peer, in the trail as well.
    fn locate(&self, request: &mut Request) -> Option<IpAddr> {
        let ConnectInfo(peer) = *request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        let source = source::of(peer.ip(), request.headers(), &self.trusted);
        if source != peer.ip() {
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(source, 0)));
        }
        Some(source)
    }

    /// Checks the key that the request has, if it has one.
    fn check(&self, request: &Request) -> Option<Verdict> {
        if !request.headers().contains_key(AUTHORIZATION) {
            return None;
        }
        let start = Instant::now();
        let verdict = Verdict::of(web::authenticate(&self.store, request.headers()).map(|_| ()));
        self.metrics.checked(&verdict, Some(start.elapsed()));
        Some(verdict)
    }

    /// Notes a bad key. How many seconds its source has to wait, if it sent too many.
    fn slowed(&self, source: Option<IpAddr>) -> Option<u64> {
        let wait = self.floods.as_ref()?.note(source?).err()?;
        self.metrics.limited.inc();
        if let Some(unsaid) = LIMITED.permit() {
            let peer = source.map(tracing::field::display);
            tracing::warn!(peer, unsaid, "too many bad keys; answered with 429");
        }
        Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }
}

impl Doorkeeper for Guard {
    fn note(&self, verdict: Result<(), &Refusal>, source: Option<IpAddr>) -> Option<u64> {
        let verdict = Verdict::of(verdict.map_err(Refusal::clone));
        self.metrics.checked(&verdict, None);
        if verdict.is_bad_key() { self.slowed(source) } else { None }
    }
}

/// nginx makes 500 of a 429 in its auth request, and there the proxy is the peer.
fn is_never_slowed(path: &str) -> bool {
    path == "/authz" || path.starts_with("/authz/")
}

/// The middleware.
pub(super) async fn stand(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    let source = guard.locate(&mut request);
    if guard.is_draining.load(Relaxed) && request.uri().path() == "/readyz" {
        return unavailable("the server is about to stop").into_response();
    }
    let Ok(_room) = guard.requests.try_acquire() else {
        return unavailable("too many requests are under way; try again in a moment")
            .with_header(RETRY_AFTER, HeaderValue::from_static("1"))
            .into_response();
    };
    let verdict = guard.check(&request);
    if verdict.as_ref().is_some_and(Verdict::is_bad_key)
        && !is_never_slowed(request.uri().path())
        && let Some(wait) = guard.slowed(source)
    {
        return too_many(wait);
    }
    let door: AtTheDoor = guard.clone();
    request.extensions_mut().insert(door);
    let Ok(response) = timeout(guard.patience, next.run(request)).await else {
        let detail = "the request took too long and its outcome is unknown; look, then try again";
        return unavailable(detail).into_response();
    };
    // Who is asked for a key has sent none. A login's 401 asks for nothing, and is counted already.
    if verdict.is_none() && response.headers().contains_key(WWW_AUTHENTICATE) {
        guard.metrics.checked(&Verdict::Refused(Refusal::Missing), None);
    }
    response
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
    use axum::{Router, body::Body, middleware, routing::get};
    use tower::ServiceExt;

    /// The answer to a request for `path` behind this guard; `/never` is never answered.
    async fn ask(guard: Guard, path: &str) -> Response {
        let stand = middleware::from_fn_with_state(Arc::new(guard), stand);
        let never = std::future::pending::<StatusCode>;
        let app = Router::new().route("/", get(StatusCode::OK)).route("/never", get(never));
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        app.layer(stand).oneshot(request).await.unwrap()
    }

    fn guard() -> Guard {
        let store = Store::in_memory().unwrap();
        let metrics = Metrics::new(&store);
        Guard::new(store, metrics, Vec::new(), NonZeroU32::MIN)
    }

    #[tokio::test]
    async fn one_request_too_many_is_told_to_come_back() {
        assert_eq!(ask(guard(), "/").await.status(), StatusCode::OK);
        let full = Guard { requests: Semaphore::new(0), ..guard() };
        let answer = ask(full, "/").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_answered_all_the_same() {
        let hasty = Guard { patience: Duration::from_millis(10), ..guard() };
        assert_eq!(ask(hasty, "/never").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
