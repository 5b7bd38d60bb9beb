//! The address that a request came from: its peer, or the address that a trusted proxy reports.

use axum::http::{HeaderMap, HeaderName};
use portcullis::Network;
use std::net::{IpAddr, Ipv6Addr};

/// An IPv6 client has at least a network with a prefix of this many bits.
const SOURCE_BITS: u32 = 64;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the address that a request came from. This is the peer. If the peer is a trusted proxy, it is
/// the last address in `X-Forwarded-For` that is not trusted. Addresses to the left of that one are
/// ignored, because the client could have written them.
pub(super) fn source_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    let mut source = peer.to_canonical();
    let lines = headers.get_all(FORWARDED_FOR);
    let hops = lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let hops: Vec<&[u8]> = hops.collect();
    for hop in hops.into_iter().rev() {
        if !is_trusted(source) {
            break;
        }
        // Addresses to the left of a malformed one are not trusted either.
        let Some(address) = address(hop) else { break };
        source = address;
    }
    source
}

/// Parses `192.0.2.1`, `192.0.2.1:1234`, `2001:db8::1` or `[2001:db8::1]:1234`.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(hop.trim_ascii()).ok()?;
    let with_port = || text.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    let in_brackets = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let found = text.parse().ok().or_else(with_port).or_else(in_brackets);
    found.map(|address: IpAddr| address.to_canonical())
}

/// Returns the network that counts as one source: the whole address of IPv4, the first 64 bits of IPv6.
pub(super) fn source_network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << (128 - SOURCE_BITS));
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn source_is_the_last_untrusted_hop() {
        let trusted = ["::ffff:10.0.0.0/104", "::1"].map(|network| network.parse().unwrap());
        for (peer, lines, source) in [
            ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            ("::ffff:10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("::1", &["[2001:db8::1]"], "2001:db8::1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
            }
            let found = source_address(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(found, source.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        }
    }
}
