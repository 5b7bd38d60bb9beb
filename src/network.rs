//! Networks as operators write them: an address or a range.

use std::{net::IpAddr, str::FromStr};

/// An IPv4 address mapped to IPv6 begins with this number of fixed bits: `::ffff:0:0/96`.
const MAPPED_BITS: u32 = 96;

/// An address or a range of addresses, such as `10.0.0.0/8`.
///
/// A range of IPv4 addresses that are mapped to IPv6 is parsed as the IPv4 range.
///
/// ```
/// # use portcullis::Network;
/// let network: Network = "::ffff:10.0.0.0/104".parse()?;
/// assert!(network.contains("10.2.3.4".parse().unwrap()));
/// # Ok::<(), portcullis::ParseNetworkError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
                Ok(Self { address: v4.into(), bits: bits - MAPPED_BITS })
            }
            _ => Ok(Self { address, bits }),
        }
    }
}

impl Network {
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
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10/8", "proxy", "10.0.0.1/-1"] {
            assert_eq!(wrong.parse::<Network>(), Err(ParseNetworkError), "{wrong}");
        }
    }
}
