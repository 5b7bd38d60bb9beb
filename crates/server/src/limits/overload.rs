//! The limits on requests and connections, and the response when one is reached.

use axum::{
    http::{
        HeaderValue, StatusCode, Version,
        header::{CONNECTION, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use portcullis::web::Problem;

/// The limit that was reached, so that a request or connection was refused or a connection was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overload {
    /// A valid key has too many requests in flight.
    KeyRequests,
    /// The pool that valid keys share is used up.
    SharedRequests,
    /// One source has too many requests without a valid key in flight.
    SourceRequests,
    /// The pool of requests without a valid key is used up.
    OtherRequests,
    /// A valid key has too many bytes of unfinished bodies.
    KeyBodies,
    /// One source has too many bytes of unfinished bodies without a valid key.
    SourceBodies,
    /// There are too many bytes of unfinished bodies without a valid key.
    OtherBodies,
    /// There are too many connections.
    Connections,
    /// One source has too many connections.
    SourceConnections,
    /// The metrics listener has too many connections.
    MetricsConnections,
    /// The control socket has too many connections.
    ControlConnections,
    /// A client does not read its responses.
    UnreadResponses,
}

impl Overload {
    pub(crate) const ALL: [Self; 12] = [
        Self::KeyRequests,
        Self::SharedRequests,
        Self::SourceRequests,
        Self::OtherRequests,
        Self::KeyBodies,
        Self::SourceBodies,
        Self::OtherBodies,
        Self::Connections,
        Self::SourceConnections,
        Self::MetricsConnections,
        Self::ControlConnections,
        Self::UnreadResponses,
    ];

    /// Returns the name in metrics and in the log.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::KeyRequests => "key_requests",
            Self::SharedRequests => "shared_requests",
            Self::SourceRequests => "source_requests",
            Self::OtherRequests => "unauthenticated_requests",
            Self::KeyBodies => "key_bodies",
            Self::SourceBodies => "source_bodies",
            Self::OtherBodies => "unauthenticated_bodies",
            Self::Connections => "connections",
            Self::SourceConnections => "source_connections",
            Self::MetricsConnections => "metrics_connections",
            Self::ControlConnections => "control_connections",
            Self::UnreadResponses => "unread_answers",
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Self::KeyRequests => {
                "this key has too many requests in flight; wait for their responses, then try again"
            }
            Self::SourceRequests => {
                "this address has too many requests without a valid key in flight; try again in a moment"
            }
            Self::KeyBodies => {
                "this key has too many unfinished request bodies; finish them, then try again"
            }
            Self::SourceBodies => {
                "this address has too many unfinished request bodies without a valid key; try again in a moment"
            }
            _ => "too many requests are in flight; try again in a moment",
        }
    }

    /// Returns the response to the refused request. Over HTTP/1.1 it ends the connection, so that
    /// pipelined requests are not each answered as well.
    pub(crate) fn response(self, version: Version) -> Response {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", self.detail());
        let mut response =
            problem.with_header(RETRY_AFTER, HeaderValue::from_static("1")).into_response();
        if version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
