//! `Idempotency-Key`: a request to make a key that is sent twice makes one.
//!
//! The secret is shown once, so the answer to the second is the record with `"key": null`.

use super::{caller::Caller, denied::Denied, keys::created, wire};
use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};
use portcullis::{
    Acting, Error, Idempotency, Outcome, Store,
    web::{FieldError, Problem},
};

const NAME: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MOST_BYTES: usize = 255;

/// How a request that makes a key is to be done.
pub(crate) enum Manner {
    /// However often it is sent, as often it is done.
    Each,
    /// Once for all that is sent under this name.
    Once { key: Vec<u8>, route: String, payload: Bytes },
}

impl Manner {
    /// What the headers say.
    pub(crate) fn read(
        headers: &HeaderMap,
        route: String,
        payload: Bytes,
    ) -> Result<Self, Problem> {
        let mut keys = headers.get_all(NAME).iter();
        let Some(key) = keys.next() else { return Ok(Self::Each) };
        let key = key.as_bytes();
        let is_one = (1..=MOST_BYTES).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
        if !is_one || keys.next().is_some() {
            let detail = "must be one header of 1 to 255 visible ASCII characters";
            return Err(Problem::invalid(vec![FieldError::parameter("Idempotency-Key", detail)]));
        }
        Ok(Self::Once { key: key.to_vec(), route, payload })
    }

    /// Does it and answers; `collection` is the path below which keys are found.
    pub(crate) async fn answer(
        self,
        store: &Store,
        caller: &Caller,
        collection: &str,
        work: impl FnOnce(Acting<'_>, Option<&Idempotency<'_>>) -> Result<Outcome, Error>
        + Send
        + 'static,
    ) -> Result<Response, Denied> {
        let outcome = caller.act(store, move |acting| match self {
            Self::Each => work(acting, None),
            Self::Once { key, route, payload } => {
                let request = Idempotency { key: &key, route: &route, payload: &payload };
                work(acting, Some(&request))
            }
        });
        match outcome.await? {
            Outcome::Issued(issued) => {
                let location = format!("{collection}/{}", issued.record.id);
                Ok(created(wire::issued(store, issued), &location))
            }
            Outcome::Before(record) => {
                let mut response = wire::not_again(store, &record);
                response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
                Ok(response)
            }
        }
    }
}
