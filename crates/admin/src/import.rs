//! `POST /v1/import` and `GET /v1/digests`: moving keys in and out, for local users of this host only.

use super::{
    api_error::ApiError, batch::JSON_LINES, body, caller::Caller, fields::Fields, json_body,
    key_request::new_key, query, wire,
};
use axum::{
    body::{Body, Bytes},
    extract::State,
    http::HeaderMap,
    response::Response,
};
use portcullis::{
    Acting, Error, ImportOptions, ImportOutcome, ImportedDigest, ImportedSecret, NewKey, Store,
    list::ListQuery,
};
use serde::Serialize;
use zeroize::Zeroizing;

/// The result of an import.
#[derive(Default, Serialize)]
struct Report {
    /// The number of keys that were imported; in a dry run, that would be.
    imported: usize,
    /// The number of keys that the store had already.
    present: usize,
    refused: Vec<Refused>,
}

/// A line that was refused.
#[derive(Serialize)]
struct Refused {
    /// The number of the line in the body, from 1.
    line: usize,
    detail: String,
}

/// Imports the keys of a body: one JSON object a line, as a new key, with `key` (its text) or with `digest` and
/// `algorithm`. Each line is imported, refused or left alone by itself.
pub(crate) async fn import(
    State(store): State<Store>,
    caller: Caller,
    parameters: query::Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut options = ImportOptions::default();
    query::each(parameters, "dry_run and accept_pruned_log", |name, value| {
        let flag = match name {
            "dry_run" => &mut options.dry_run,
            "accept_pruned_log" => &mut options.accept_pruned_log,
            _ => return Ok(false),
        };
        *flag = value.parse().map_err(|_| "must be true or false")?;
        Ok(true)
    })?;
    json_body::check_type(&headers, &[JSON_LINES])?;
    let body = body::read(body).await?;
    let (mut report, mut keys, mut lines) = (Report::default(), Vec::new(), Vec::new());
    let numbered = (1..).zip(body.split(|byte| *byte == b'\n'));
    for (line, text) in numbered.filter(|(_, text)| !text.trim_ascii().is_empty()) {
        match read(&store, body.slice_ref(text)) {
            Ok(key) => {
                keys.push(key);
                lines.push(line);
            }
            Err(error) => report.refused.push(Refused { line, detail: detail(error) }),
        }
    }
    let outcomes = caller.act(&store, move |acting| acting.import(keys, options)).await?;
    for (line, outcome) in lines.into_iter().zip(outcomes) {
        match outcome {
            Ok(ImportOutcome::Present(_)) => report.present += 1,
            Ok(_) => report.imported += 1,
            Err(error) => report.refused.push(Refused { line, detail: detail(error.into()) }),
        }
    }
    report.refused.sort_by_key(|refused| refused.line);
    Ok(wire::json(&report))
}

fn read(store: &Store, line: Bytes) -> Result<(NewKey, ImportedSecret), ApiError> {
    let mut fields = Fields::parse(line)?;
    let key = fields.plain_text("key").map(Zeroizing::new);
    let (digest, algorithm) = (fields.plain_text("digest"), fields.plain_text("algorithm"));
    let new = new_key(store, fields)?;
    let secret = match (key, digest) {
        (Some(key), None) if algorithm.is_none() => ImportedSecret::Plaintext(key),
        (None, Some(digest)) => {
            ImportedSecret::Digest(ImportedDigest::parse(&digest, algorithm.as_deref())?)
        }
        _ => {
            let detail = "give either key, or digest and where needed algorithm";
            return Err(json_body::wrong_body(detail).into());
        }
    };
    Ok((new, secret))
}

fn detail(error: ApiError) -> String {
    match error {
        ApiError::Problem(problem) => problem.detail().to_owned(),
        ApiError::Refused(refusal) => refusal.to_string(),
    }
}

/// A key with its digest, for another system.
#[derive(Serialize)]
struct Leaving<'r> {
    #[serde(flatten)]
    key: wire::Key<'r>,
    algorithm: &'static str,
    /// Hexadecimal.
    digest: String,
}

#[derive(Serialize)]
struct LeavingPage<'r> {
    keys: Vec<Leaving<'r>>,
    next_page_token: Option<String>,
}

/// Lists the keys with their digests, oldest first.
pub(crate) async fn digests(
    State(store): State<Store>,
    caller: Caller,
    parameters: query::Parameters,
) -> Result<Response, ApiError> {
    let mut page_token = None;
    query::each(parameters, "page_token", |name, value| {
        let is_known = name == "page_token";
        if is_known {
            page_token = Some(value.to_owned());
        }
        Ok(is_known)
    })?;
    let read = move |acting: Acting<'_>| {
        let mut query = ListQuery::default().with_page_size(100);
        query.page_token = page_token;
        let page = acting.list(&query)?;
        let digests = page.records.iter().map(|record| acting.digest_of(record.id));
        let digests = digests.collect::<Result<Vec<_>, Error>>()?;
        Ok((page, digests))
    };
    let (page, digests) = caller.read_many(&store, read).await?;
    let keys = page.records.iter().zip(digests).map(|(record, digest)| Leaving {
        key: wire::Key::new(&store, record),
        algorithm: digest.algorithm,
        digest: digest.hex,
    });
    Ok(wire::json(&LeavingPage { keys: keys.collect(), next_page_token: page.next_page_token }))
}
