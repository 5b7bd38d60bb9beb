//! From a listener to HTTP: how many connections, TLS only, and none whose client does not read.

mod connection;
mod limit;
mod plain_http;

pub(crate) use connection::{Active, Watched};
pub(crate) use limit::{ConnectionPermit, Limit};
pub(crate) use plain_http::{TlsOnly, refuse_forwarded_plain_http};
