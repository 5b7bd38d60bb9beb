//! The fields of a record that most keys lack, as a list: a record has only those that are set.

use crate::{
    imported::Imported,
    network::Network,
    networks::Networks,
    rate::Rate,
    record::{Change, Record},
};
use serde::{Deserialize, Serialize};

/// A field. A variant may be appended.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::codec) enum StoredExtra {
    Networks(Vec<StoredNetwork>),
    Rate(StoredRate),
    Imported(StoredImported),
}

/// How the digest of an imported key was computed.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(in crate::codec) enum StoredImported {
    Plaintext,
    Sha256,
    Sha256AfterBar,
    Sha512([u8; 32]),
}

impl From<Imported> for StoredImported {
    fn from(imported: Imported) -> Self {
        match imported {
            Imported::Plaintext => Self::Plaintext,
            Imported::Sha256 => Self::Sha256,
            Imported::Sha256AfterBar => Self::Sha256AfterBar,
            Imported::Sha512(rest) => Self::Sha512(rest),
        }
    }
}

impl From<StoredImported> for Imported {
    fn from(imported: StoredImported) -> Self {
        match imported {
            StoredImported::Plaintext => Self::Plaintext,
            StoredImported::Sha256 => Self::Sha256,
            StoredImported::Sha256AfterBar => Self::Sha256AfterBar,
            StoredImported::Sha512(rest) => Self::Sha512(rest),
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(in crate::codec) struct StoredRate {
    requests: u32,
    seconds: u32,
}

/// An address and the length of the prefix.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(in crate::codec) enum StoredNetwork {
    V4([u8; 4], u8),
    V6([u8; 16], u8),
}

/// The values of all fields. A field that is not set has no variant in the list.
#[derive(Default)]
pub(in crate::codec) struct Extras {
    pub(in crate::codec) networks: Networks,
    pub(in crate::codec) imported: Option<Imported>,
    pub(in crate::codec) rate: Option<Rate>,
}

impl Extras {
    pub(in crate::codec) fn of(record: &Record) -> Self {
        Self { networks: record.networks.clone(), rate: record.rate, imported: record.imported }
    }

    /// The list, in the order of the variants.
    pub(in crate::codec) fn into_stored(self) -> Vec<StoredExtra> {
        let Self { networks, rate, imported } = self;
        let networks = (!networks.is_any()).then(|| StoredExtra::Networks(stored(&networks)));
        let rate = rate.map(|rate| StoredExtra::Rate(rate.into()));
        let imported = imported.map(|imported| StoredExtra::Imported(imported.into()));
        networks.into_iter().chain(rate).chain(imported).collect()
    }

    /// The values of a list; `None` unless [`into_stored`](Self::into_stored) returns the same list.
    pub(in crate::codec) fn of_stored(list: &[StoredExtra]) -> Option<Self> {
        let (mut extras, mut previous) = (Self::default(), None);
        for (number, extra) in list.iter().map(|extra| (extra.number(), extra)) {
            match extra {
                StoredExtra::Networks(networks) if !networks.is_empty() => {
                    extras.networks = networks_of(networks)?;
                }
                StoredExtra::Networks(_) => return None,
                StoredExtra::Imported(imported) => extras.imported = Some((*imported).into()),
                StoredExtra::Rate(rate) => extras.rate = Some(rate.into_rate()?),
            }
            if previous.replace(number) >= Some(number) {
                return None;
            }
        }
        Some(extras)
    }
}

impl StoredExtra {
    fn number(&self) -> u8 {
        match self {
            Self::Networks(_) => 0,
            Self::Rate(_) => 1,
            Self::Imported(_) => 2,
        }
    }
}

impl From<Rate> for StoredRate {
    fn from(rate: Rate) -> Self {
        Self { requests: rate.requests(), seconds: rate.seconds() }
    }
}

impl StoredRate {
    fn into_rate(self) -> Option<Rate> {
        Rate::new(self.requests, self.seconds).ok()
    }
}

/// The changed fields before or after a change. No networks: they are removed.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct StoredExtraChange(Vec<ChangedExtra>);

/// A field as [`StoredExtra`] has it. A variant may be appended.
#[derive(Serialize, Deserialize)]
enum ChangedExtra {
    Networks(Vec<StoredNetwork>),
    Rate(Option<StoredRate>),
}

impl StoredExtraChange {
    pub(super) fn of(change: &Change) -> Self {
        let networks = change.networks.as_ref().map(|some| ChangedExtra::Networks(stored(some)));
        let rate = change.rate.map(|rate| ChangedExtra::Rate(rate.map(StoredRate::from)));
        Self(networks.into_iter().chain(rate).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the fields; `None` if one is not valid.
    pub(super) fn apply(&self, change: &mut Change) -> Option<()> {
        for extra in &self.0 {
            match extra {
                ChangedExtra::Networks(networks) => change.networks = Some(networks_of(networks)?),
                ChangedExtra::Rate(None) => change.rate = Some(None),
                ChangedExtra::Rate(Some(rate)) => change.rate = Some(Some(rate.into_rate()?)),
            }
        }
        Some(())
    }
}

fn stored(networks: &Networks) -> Vec<StoredNetwork> {
    let network = |network: &Network| match network.parts() {
        (std::net::IpAddr::V4(v4), bits) => StoredNetwork::V4(v4.octets(), bits),
        (std::net::IpAddr::V6(v6), bits) => StoredNetwork::V6(v6.octets(), bits),
    };
    networks.iter().map(network).collect()
}

/// `None` unless [`stored`] returns the same list.
fn networks_of(list: &[StoredNetwork]) -> Option<Networks> {
    let network = |network: &StoredNetwork| match *network {
        StoredNetwork::V4(octets, bits) => Network::of_parts(octets.into(), bits),
        StoredNetwork::V6(octets, bits) => Network::of_parts(octets.into(), bits),
    };
    let read: Vec<Network> = list.iter().map(network).collect::<Option<_>>()?;
    let networks: Networks = read.iter().copied().collect();
    networks.iter().eq(&read).then_some(networks)
}
