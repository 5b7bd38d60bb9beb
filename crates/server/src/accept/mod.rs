//! From a listener to HTTP: limits connections, refuses plain HTTP and ends connections that do not read.

mod connection;
mod exposed;
mod limit;
mod plain_http;

pub(crate) use connection::{ActiveRequest, MonitoredStream};
pub(crate) use exposed::ExposedKeys;
pub(crate) use limit::{ConnectionLimit, ConnectionPermit};
pub(crate) use plain_http::{TlsOnly, refuse_forwarded_plain_http};
