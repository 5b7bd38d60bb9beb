//! Reads keys from the API, page by page. The filters are in the body: a text may be a key.

use super::{client::Client, failure::Failure, key_args::List};
use axum::http::Method;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::ops::ControlFlow;

/// The largest page of the API.
const PAGE_SIZE: usize = 200;

/// Passes each page to `each`, until there is no other page or `each` breaks.
pub(crate) async fn each_page(
    client: &mut Client,
    options: &List,
    mut each: impl FnMut(Vec<Box<RawValue>>) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Listing {
        keys: Vec<Box<RawValue>>,
        next_page_token: Option<String>,
    }
    let mut query = options.filter.fields()?;
    query.insert("page_size".into(), PAGE_SIZE.into());
    query.insert("sort".into(), options.sort.as_str().into());
    loop {
        let page: Listing = client
            .send(Method::POST, "/v1/keys:search", Some(&Value::Object(query.clone())))
            .await?
            .read()?;
        let flow = each(page.keys)?;
        match page.next_page_token {
            Some(token) if flow.is_continue() => {
                query.insert("page_token".into(), token.into());
            }
            _ => return Ok(()),
        }
    }
}
