//! `POST /v1/leaks`: signed reports of a secret-scanning service, which revoke the leaked keys in them.
//!
//! A request passes these steps in order. The first failure decides the response.
//!
//! | step | failure | response |
//! |---|---|---|
//! | take one of the few places | all are taken | 503 |
//! | read the two headers | one is absent or given twice | 400 |
//! | find the public key | its identifier is unknown: the file is outdated | 503 |
//! | read the body | it is too large, too slow or incomplete | 413, 408, 400 |
//! | verify the signature of the body | it is not valid | 403 |
//! | parse the report | it is not a list of at most 1,000 tokens | 400, 413 |
//! | revoke each key whose whole text is a token | a change cannot be written | 503 |
//!
//! A signed report has no time and no receiver, so every reader of it can send it again. So the response
//! says nothing about a token unless the operator asks for it, and a repeated report changes nothing.
//!
//! Secret: the body. It is wiped, and never logged.

mod public_keys;
mod report;

pub use self::public_keys::LeakKeysError;

use self::{
    public_keys::PublicKeys,
    report::{Finding, MAX_TOKENS},
};
use super::{
    api_error::ApiError,
    blocking,
    body::{self, MAX_TEXT_BYTES},
    caller,
    leaked::{Outcome, revoke_each},
    rate_limited_log::RateLimitedLog,
    wire,
};
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER},
    middleware,
    response::{IntoResponse, Response},
    routing::post,
};
use data_encoding::{BASE64, HEXLOWER};
use portcullis::{
    Acting, Actor, Error, Store,
    web::{self, Problem},
};
use serde::Serialize;
use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::Semaphore;

const IDENTIFIER: &str = "github-public-key-identifier";
const SIGNATURE: &str = "github-public-key-signature";
/// Reports that are read at once: each may take 1 MiB.
const PLACES: usize = 16;

/// Receives reports of leaked keys by the partner protocol of GitHub's secret scanning.
///
/// A report is a signed list of tokens. Each token that contains the whole text of an active key revokes the
/// key. The audit log has [`Actor::SecretScanning`] as the actor. The last root key is not revoked; the log has
/// an error with the remedy.
///
/// ```no_run
/// use portcullis_admin::{LeakReports, router};
/// # fn run(store: portcullis::Store) -> Result<(), portcullis_admin::LeakKeysError> {
/// let leaks = LeakReports::open("secret-scanning-keys.json")?;
/// let app = router(store.clone()).merge(leaks.router(store));
/// # let _: axum::Router = app;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LeakReports {
    inner: Arc<Inner>,
    has_feedback: bool,
}

#[derive(Debug)]
struct Inner {
    keys: PublicKeys,
    places: Arc<Semaphore>,
    reports: [AtomicU64; REPORT_RESULTS.len()],
    tokens: [AtomicU64; TOKEN_RESULTS.len()],
}

/// The results of reports, in the order of [`ReportResult`].
const REPORT_RESULTS: [&str; 5] =
    ["accepted", "unknown_identifier", "bad_signature", "malformed", "overload"];

#[derive(Clone, Copy)]
enum ReportResult {
    Accepted,
    UnknownIdentifier,
    BadSignature,
    Malformed,
    Overload,
}

/// The results of tokens: those of keys, and that of a token without a key.
const TOKEN_RESULTS: [&str; 5] =
    ["revoked", "already_inactive", "last_root_key", "failed", "unknown"];

impl LeakReports {
    /// Reads the public keys of the service: a file with the response of
    /// `https://api.github.com/meta/public_keys/secret_scanning`. The file is read again when it changes.
    pub fn open(keys: impl Into<PathBuf>) -> Result<Self, LeakKeysError> {
        let inner = Inner {
            keys: PublicKeys::open(keys.into())?,
            places: Arc::new(Semaphore::new(PLACES)),
            reports: Default::default(),
            tokens: Default::default(),
        };
        Ok(Self { inner: Arc::new(inner), has_feedback: false })
    }

    /// Says in each response which tokens are keys of the store. Every reader of a signed report can send it
    /// again, and learn the same. Call this before [`router`](Self::router).
    #[must_use]
    pub fn with_feedback(self) -> Self {
        Self { has_feedback: true, ..self }
    }

    /// Returns the router with `POST /v1/leaks`. It needs no key: the signature authenticates a report.
    pub fn router(&self, store: Store) -> Router {
        Router::new()
            .route("/v1/leaks", post(receive))
            .layer(middleware::from_fn(web::require_complete_body))
            .with_state((self.clone(), store))
    }

    /// Returns the number of reports with each result since the start: `accepted`,
    /// `unknown_identifier`, `bad_signature`, `malformed`, `overload`.
    pub fn report_counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        counts(REPORT_RESULTS, &self.inner.reports)
    }

    /// Returns the number of reported tokens with each result since the start: `revoked`,
    /// `already_inactive`, `last_root_key`, `failed`, `unknown`.
    pub fn token_counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        counts(TOKEN_RESULTS, &self.inner.tokens)
    }

    fn count_report(&self, result: ReportResult) {
        count(&self.inner.reports, result as usize);
    }

    fn count_token(&self, outcome: Option<Outcome>) {
        let result = match outcome {
            Some(Outcome::Revoked) => 0,
            Some(Outcome::AlreadyInactive) => 1,
            Some(Outcome::LastRootKey) => 2,
            Some(Outcome::Failed) => 3,
            Some(Outcome::Found) | None => 4,
        };
        count(&self.inner.tokens, result);
    }
}

fn count(counters: &[AtomicU64], index: usize) {
    if let Some(counter) = counters.get(index) {
        counter.fetch_add(1, Relaxed);
    }
}

fn counts<const N: usize>(
    names: [&'static str; N],
    counters: &[AtomicU64; N],
) -> impl Iterator<Item = (&'static str, u64)> {
    names.into_iter().zip(counters.each_ref().map(|counter| counter.load(Relaxed)))
}

/// The response about one token, if the operator asks for it.
#[derive(Serialize)]
struct Feedback<'t> {
    /// The SHA-256 hash of the token, in lower-case hexadecimal digits.
    token_hash: String,
    token_type: &'t str,
    label: &'static str,
}

async fn receive(
    State((leaks, store)): State<(LeakReports, Store)>,
    request: Request,
) -> Result<Response, ApiError> {
    let Ok(place) = Arc::clone(&leaks.inner.places).try_acquire_owned() else {
        leaks.count_report(ReportResult::Overload);
        let detail = "too many reports are being read; send this one again";
        return Err(unavailable(detail)
            .with_header(RETRY_AFTER, HeaderValue::from_static("1"))
            .into());
    };
    let (parts, body) = request.into_parts();
    let source = caller::peer(&parts.extensions);
    let (Some(identifier), Some(signature)) =
        (only(&parts.headers, IDENTIFIER), only(&parts.headers, SIGNATURE))
    else {
        leaks.count_report(ReportResult::Malformed);
        let detail = "a report has the headers Github-Public-Key-Identifier and Github-Public-Key-Signature, each once";
        return Err(malformed(detail));
    };
    let reader = leaks.clone();
    let keys = blocking::run(move || Ok(reader.inner.keys.current())).await?;
    let Some(key) = keys.get(identifier) else {
        leaks.count_report(ReportResult::UnknownIdentifier);
        log_unknown(source);
        return Err(unavailable("the public key of this report is unknown here").into());
    };
    let body = body::read_wiped(body, MAX_TEXT_BYTES).await?;
    let is_signed = BASE64
        .decode(signature.as_bytes())
        .is_ok_and(|signature| key.verify_sig(&body, &signature).is_ok());
    if !is_signed {
        leaks.count_report(ReportResult::BadSignature);
        let detail = "the signature is not that of this body";
        return Err(Problem::new(StatusCode::FORBIDDEN, "bad-signature", detail).into());
    }
    blocking::run(move || {
        let _place = place;
        Ok(leaks.handle(&store, source, &body))
    })
    .await?
}

impl LeakReports {
    /// Revokes the keys in a report whose signature is verified.
    fn handle(
        &self,
        store: &Store,
        source: Option<IpAddr>,
        body: &[u8],
    ) -> Result<Response, ApiError> {
        let Some(findings) = report::findings(body) else {
            self.count_report(ReportResult::Malformed);
            return Err(malformed("a report is a JSON list of objects that have a token"));
        };
        if findings.len() > MAX_TOKENS {
            self.count_report(ReportResult::Malformed);
            let detail =
                format!("the report has more than {MAX_TOKENS} tokens and nothing was changed");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail).into());
        }
        self.count_report(ReportResult::Accepted);
        let acting = store.acting_as(Actor::SecretScanning);
        let acting = source.map_or(acting, |address| acting.with_address(address));
        let (mut feedback, mut has_failed) = (Vec::new(), false);
        for finding in &findings {
            let outcomes = self.revoke(&acting, finding)?;
            has_failed |= outcomes.contains(&Outcome::Failed);
            if self.has_feedback {
                feedback.push(finding.feedback(!outcomes.is_empty()));
            }
        }
        if has_failed {
            let detail = "not every key could be revoked; send the report again";
            return Err(unavailable(detail).into());
        }
        Ok(if self.has_feedback {
            wire::json(&feedback)
        } else {
            StatusCode::NO_CONTENT.into_response()
        })
    }

    fn revoke(&self, acting: &Acting<'_>, finding: &Finding<'_>) -> Result<Vec<Outcome>, Error> {
        let leaked = acting.find_leaked(finding.token.as_bytes())?;
        if leaked.records.is_empty() {
            self.count_token(None);
        }
        let done = revoke_each(acting, leaked.records);
        for (record, outcome) in &done {
            self.count_token(Some(*outcome));
            finding.log(record.id, *outcome);
        }
        Ok(done.into_iter().map(|(_, outcome)| outcome).collect())
    }
}

impl Finding<'_> {
    fn feedback(&self, is_key: bool) -> Feedback<'_> {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.token.as_bytes());
        Feedback {
            token_hash: HEXLOWER.encode(hash.as_ref()),
            token_type: &self.r#type,
            label: if is_key { "true_positive" } else { "false_positive" },
        }
    }
}

/// The only value of a header.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn malformed(detail: &str) -> ApiError {
    Problem::new(StatusCode::BAD_REQUEST, "malformed-report", detail).into()
}

fn unavailable(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
}

/// Logs a report with an unknown public key, so that an outdated file is noticed.
fn log_unknown(source: Option<IpAddr>) {
    static UNKNOWN: RateLimitedLog = RateLimitedLog::new();
    if let Some(suppressed) = UNKNOWN.permit() {
        let source = source.map(tracing::field::display);
        tracing::error!(
            source,
            suppressed,
            "a report of leaked keys has an unknown public key and was not read; replace the file of --leak-keys if \
             the service has new keys"
        );
    }
}
