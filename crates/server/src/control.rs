//! Accepts connections to the control socket.

use super::accept::MonitoredStream;
use axum::{Extension, middleware::AddExtension};
use axum_server::accept::Accept;
use portcullis_admin::{LocalUser, control::local_user};
use std::{
    future::{Ready, ready},
    io,
};
use tokio::net::UnixStream;
use tower::Layer;

/// Accepts only the server's own user and root.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnerOnly;

impl<S> Accept<MonitoredStream<UnixStream>, S> for OwnerOnly {
    type Stream = MonitoredStream<UnixStream>;
    type Service = AddExtension<S, LocalUser>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: MonitoredStream<UnixStream>, service: S) -> Self::Future {
        let user = local_user(stream.get_ref());
        ready(user.map(|user| (stream, Extension(user).layer(service))))
    }
}
