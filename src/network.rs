//! Networks as operators write them: an address or a range.

use std::{fmt, net::IpAddr, str::FromStr};

/// An IPv4 address mapped to IPv6 begins with this number of fixed bits: `::ffff:0:0/96`.
const MAPPED_BITS: u32 = 96;

/// An address or a range of addresses, such as `10.0.0.0/8`.
///
/// A range of IPv4 addresses that are mapped to IPv6 is parsed as the IPv4 range. The bits after the prefix
/// are cleared.
///
/// ```
/// # use portcullis::Network;
/// let network: Network = "::ffff:10.0.0.0/104".parse()?;
/// assert!(network.contains("10.2.3.4".parse().unwrap()));
/// assert_eq!(network.to_string(), "10.0.0.0/8");
/// # Ok::<(), portcullis::ParseNetworkError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

/// The text is neither an address nor a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address or a range such as 10.0.0.0/8 is expected")]
pub struct ParseNetworkError;

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ParseNetworkError)?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), str::parse).map_err(|_| ParseNetworkError)?;
        match address {
            _ if bits > all => Err(ParseNetworkError),
            // Sources are compared in their own family, so a mapped range means IPv4.
            IpAddr::V6(mapped)
                if bits >= MAPPED_BITS
                    && let Some(v4) = mapped.to_ipv4_mapped() =>
            {
                Ok(Self::of(v4.into(), bits - MAPPED_BITS))
            }
            _ => Ok(Self::of(address, bits)),
        }
    }
}

/// In the form `10.0.0.0/8`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Network {
    /// The network of the first `bits` of an address.
    fn of(address: IpAddr, bits: u32) -> Self {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Self { address, bits }
    }

    /// The address and the length of the prefix, as they are stored.
    pub(crate) fn parts(self) -> (IpAddr, u8) {
        (self.address, u8::try_from(self.bits).unwrap_or(u8::MAX))
    }

    /// The network with these parts; `None` unless [`parts`](Self::parts) returns the same ones.
    pub(crate) fn of_parts(address: IpAddr, bits: u8) -> Option<Self> {
        let network: Self = format!("{address}/{bits}").parse().ok()?;
        (network.parts() == (address, bits)).then_some(network)
    }

    /// Whether another network contains all addresses of this one.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        other.bits <= self.bits && other.contains(self.address)
    }

    /// Returns whether an address is in the network. A mapped IPv4 address is plain only after
    /// [`IpAddr::to_canonical`].
    pub fn contains(&self, other: IpAddr) -> bool {
        let differs = |left: u128, right: u128, width: u32| {
            (left ^ right).checked_shr(width - self.bits).unwrap_or(0) != 0
        };
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                !differs(own.to_bits().into(), other.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => !differs(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_contains_the_addresses_with_its_prefix() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.128/25", "192.0.2.200", "192.0.2.1"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("::/0", "::1", "127.0.0.1"),
            ("::ffff:127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
            ("::ffff:0:0/96", "203.0.113.9", "::1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network:?}");
            assert!(!network.contains(outside.parse().unwrap()), "{network:?}");
        }
        for (text, shown) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("203.0.113.9/0", "0.0.0.0/0"),
            ("2001:db8::ffff/32", "2001:db8::/32"),
            ("::1/0", "::/0"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!((network.to_string().as_str(), network), (shown, shown.parse().unwrap()));
        }
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10/8", "proxy", "10.0.0.1/-1"] {
            assert_eq!(wrong.parse::<Network>(), Err(ParseNetworkError), "{wrong}");
        }
    }
}
