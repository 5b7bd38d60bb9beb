//! The state that all pages share.

use super::session::Sessions;
use crate::{bulk::Counted, origin::Origin};
use portcullis::Store;
use std::{ops::Deref, sync::Arc};

/// The state of a portal's router.
#[derive(Clone)]
pub(crate) struct PortalState(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) sessions: Sessions,
    pub(crate) counted: Counted,
    /// The origin under which browsers reach the portal, if it is configured.
    pub(crate) origin: Option<Origin>,
    /// The name of the session cookie.
    pub(crate) cookie: String,
}

impl PortalState {
    pub(crate) fn new(store: Store, origin: Option<Origin>) -> Self {
        // Services on other ports of the local host share its cookies.
        let cookie = match origin.as_ref().and_then(Origin::loopback_port) {
            Some(port) => format!("__Host-portcullis-{port}"),
            None => "__Host-portcullis".into(),
        };
        Self(Arc::new(Inner {
            store,
            sessions: Sessions::default(),
            counted: Counted::default(),
            origin,
            cookie,
        }))
    }
}

impl Deref for PortalState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
