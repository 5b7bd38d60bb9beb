//! Reads all keys from the API, page by page.

use super::{
    client::Client,
    failure::Failure,
    key_args::{List, YesNo},
};
use axum::http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{fmt::Write, ops::ControlFlow};

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
    let mut page_token = None;
    loop {
        let mut path = format!("/v1/keys?page_size={PAGE_SIZE}");
        let active = options.active.map(|active| (active == YesNo::Yes).to_string());
        for (name, value) in [
            ("active", &active),
            ("scope", &options.scope),
            ("owner", &options.owner),
            ("q", &options.search),
            ("page_token", &page_token),
        ] {
            if let Some(value) = value {
                let _ = write!(path, "&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
            }
        }
        let page: Listing = client.send(Method::GET, &path, None).await?.read()?;
        let flow = each(page.keys)?;
        page_token = page.next_page_token;
        if page_token.is_none() || flow.is_break() {
            return Ok(());
        }
    }
}
