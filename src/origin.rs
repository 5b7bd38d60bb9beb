//! The origin of a request, as far as it is known.

use std::net::IpAddr;

/// The origin of a request. It is a type, so that a request of unknown origin pays nothing for it.
pub(crate) trait Origin: Copy {
    /// The address of the client.
    fn address(self) -> Option<IpAddr>;

    /// Whether it is a request that counts towards the rate of its key.
    fn counts(self) -> bool {
        true
    }
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

/// A key is checked again, or for somebody else: that is no request of the key.
#[derive(Clone, Copy)]
pub(crate) struct Uncounted(pub(crate) Option<IpAddr>);

impl Origin for Uncounted {
    fn address(self) -> Option<IpAddr> {
        self.0
    }

    fn counts(self) -> bool {
        false
    }
}

impl Origin for Option<IpAddr> {
    #[inline]
    fn address(self) -> Option<IpAddr> {
        self
    }
}
