//! The origin of a request, as far as it is known.

use std::net::IpAddr;

/// The origin of a request. It is a type, so that a request of unknown origin pays nothing for it.
pub(crate) trait Origin: Copy {
    /// The address of the client.
    fn address(self) -> Option<IpAddr>;
}

/// The address of the client is not known.
#[derive(Clone, Copy)]
pub(crate) struct Unknown;

impl Origin for Unknown {
    #[inline]
    fn address(self) -> Option<IpAddr> {
        None
    }
}

impl Origin for Option<IpAddr> {
    #[inline]
    fn address(self) -> Option<IpAddr> {
        self
    }
}
