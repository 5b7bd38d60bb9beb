//! The networks that a key can be used from.

use crate::network::Network;
use std::{fmt, net::IpAddr, sync::Arc};

/// The networks that a key can be used from. Without networks a key can be used from everywhere.
///
/// The networks are sorted, and one that another contains is left out.
///
/// ```
/// use portcullis::{Network, Networks};
/// let networks: Networks =
///     ["192.0.2.0/24", "192.0.2.7"].map(|text| text.parse::<Network>().unwrap()).into_iter().collect();
/// assert_eq!(networks.iter().map(|network| network.to_string()).collect::<Vec<_>>(), ["192.0.2.0/24"]);
/// assert!(networks.admit("192.0.2.9".parse().ok()));
/// assert!(!networks.admit(None), "the address is not known");
/// assert!(Networks::ANY.admit(None));
/// ```
// `None`: no restriction. An empty list, which only a meet has, admits nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Networks(Option<Arc<[Network]>>);

impl Networks {
    /// No restriction: the key can be used from everywhere.
    pub const ANY: Self = Self(None);
    /// The most networks that a key can have.
    pub const MAX: usize = 16;

    /// Returns whether there is no restriction.
    pub fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the networks. There are none if there is no restriction.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Network> {
        self.0.as_deref().unwrap_or_default().iter()
    }

    /// Returns whether a request from this address is admitted. `None`: the address is not known, which only
    /// a key without networks admits.
    pub fn admit(&self, address: Option<IpAddr>) -> bool {
        let Some(networks) = &self.0 else { return true };
        let address = address.map(|address| address.to_canonical());
        address.is_some_and(|address| networks.iter().any(|network| network.contains(address)))
    }

    /// Whether no address at all is admitted, which only a meet can be.
    pub(crate) fn admit_nothing(&self) -> bool {
        self.0.as_ref().is_some_and(|networks| networks.is_empty())
    }

    /// The addresses of both.
    pub(crate) fn meet(&self, other: &Self) -> Self {
        let (Some(mine), Some(theirs)) = (&self.0, &other.0) else {
            return if self.is_any() { other.clone() } else { self.clone() };
        };
        // Two networks are disjoint, or one contains the other.
        let within = |some: &[Network], others: &[Network]| -> Vec<Network> {
            let is_within = |network: &&Network| others.iter().any(|o| network.is_within(o));
            some.iter().filter(is_within).copied().collect()
        };
        Self::exactly([within(mine, theirs), within(theirs, mine)].concat())
    }

    /// Whether the other admits every address that this one admits.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let (mine, theirs) = match (&self.0, &other.0) {
            (_, None) => return true,
            (None, Some(_)) => return false,
            (Some(mine), Some(theirs)) => (mine, theirs),
        };
        mine.iter().all(|network| theirs.iter().any(|other| network.is_within(other)))
    }

    fn exactly(mut networks: Vec<Network>) -> Self {
        // A network comes before those that it contains.
        networks.sort_unstable();
        networks.dedup_by(|next, kept| next.is_within(kept));
        Self(Some(networks.into()))
    }
}

/// An empty list means no restriction.
impl FromIterator<Network> for Networks {
    fn from_iter<T: IntoIterator<Item = Network>>(networks: T) -> Self {
        let networks: Vec<_> = networks.into_iter().collect();
        if networks.is_empty() { Self::ANY } else { Self::exactly(networks) }
    }
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("ANY"),
            Some(networks) => {
                f.debug_list().entries(networks.iter().map(Network::to_string)).finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    fn shown(networks: &Networks) -> Vec<String> {
        networks.iter().map(Network::to_string).collect()
    }

    #[test]
    fn networks_are_sorted_and_one_within_another_is_left_out() {
        let some =
            networks(&["2001:db8::/32", "10.1.0.0/16", "10.0.0.0/8", "192.0.2.7", "10.9.9.9"]);
        assert_eq!(shown(&some), ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
        assert_eq!(some, networks(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]));
        assert_eq!(networks(&[]), Networks::ANY);
    }

    #[test]
    fn address_is_admitted_in_its_canonical_form() {
        let some = networks(&["192.0.2.0/24", "2001:db8::/32"]);
        for (address, is_admitted) in [
            ("192.0.2.9", true),
            ("::ffff:192.0.2.9", true),
            ("192.0.3.9", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(some.admit(address.parse().ok()), is_admitted, "{address}");
        }
        assert!(!some.admit(None) && Networks::ANY.admit(None));
    }

    #[test]
    fn meet_without_a_common_address_admits_nothing() {
        let none = networks(&["192.0.2.0/24"]).meet(&networks(&["198.51.100.0/24"]));
        assert!(
            none.admit_nothing()
                && !none.is_any()
                && !none.admit("192.0.2.1".parse().ok())
                && !none.admit(None)
        );
        assert!(none.is_within(&networks(&["203.0.113.0/24"])) && !Networks::ANY.is_within(&none));
        assert_eq!(none.meet(&Networks::ANY), none);
    }

    fn some() -> impl Strategy<Value = Networks> {
        let network = (any::<bool>(), 0u8..8, 0u8..8).prop_map(|(is_v6, bits, high)| {
            let text = if is_v6 {
                format!("{high:x}000::/{bits}")
            } else {
                format!("{}.0.0.0/{bits}", high << 5)
            };
            text.parse::<Network>().unwrap()
        });
        prop::collection::vec(network, 0..4).prop_map(|networks| networks.into_iter().collect())
    }

    proptest! {
        #[test]
        fn meet_admits_what_both_admit(one in some(), other in some(), high in 0u8..=255, is_v6: bool) {
            let address = if is_v6 { format!("{high:x}00::1") } else { format!("{high}.2.3.4") };
            let address = address.parse().ok();
            let meet = one.meet(&other);
            prop_assert_eq!(meet.admit(address), one.admit(address) && other.admit(address));
            prop_assert!(meet.is_within(&one) && meet.is_within(&other));
            prop_assert_eq!(one.is_within(&other), meet == one);
            prop_assert!(!one.is_within(&other) || !one.admit(address) || other.admit(address));
        }
    }
}
