//! The information that a member publishes when it joins, and the list of members.
//!
//! The information has these fields. Numbers are big-endian, texts are UTF-8.
//!
//! | field | type |
//! |---|---|
//! | the number of the format, 1 | u8 |
//! | the freshness in milliseconds | u32 |
//! | the time of the join, in milliseconds since the epoch | u64 |
//! | the length of the version, and the version | u8, text |
//! | the replica's name | text, to the end |

use super::consensus::{MemberId, MemberList, MemberRow, Revision};
use crate::{
    error::{Error, Field},
    ledger::{About, Member},
    time::Timestamp,
};
use std::time::{Duration, SystemTime};

/// The longest freshness. It also counts for a member whose information cannot be read.
pub(crate) const MAX_FRESHNESS: Duration = Duration::from_mins(1);
/// The shortest freshness: with less, a replica would spend its time on proofs.
const MIN_FRESHNESS: Duration = Duration::from_millis(100);
/// The bytes of a name.
const MAX_NAME_BYTES: usize = 128;
const FORMAT: u8 = 1;

/// The name and the freshness of a replica.
#[derive(Clone, Debug)]
pub struct Replica {
    name: String,
    freshness: Duration,
}

impl Replica {
    /// Names the replica for operators: at most 128 bytes without control characters. Several replicas
    /// may have the same name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), freshness: Duration::from_secs(3) }
    }

    /// Sets how long a proof of freshness stays valid: a tenth of a second to a minute, by default three
    /// seconds.
    ///
    /// A replica that cannot reach the consensus store refuses every request after this time. A revocation
    /// waits for a silent replica slightly longer than the freshness of that replica. If the nodes of the
    /// consensus store are far apart, use five to ten seconds.
    #[must_use]
    pub fn freshness(mut self, freshness: Duration) -> Self {
        self.freshness = freshness;
        self
    }

    /// Returns the information that the member publishes; an error if a value is outside its limits.
    pub(crate) fn info(self) -> Result<MemberInfo, Error> {
        let Self { name, freshness } = self;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            let reason = "must have 1 to 128 bytes and no control characters";
            return Err(Error::invalid(Field::Replica, reason));
        }
        if !(MIN_FRESHNESS..=MAX_FRESHNESS).contains(&freshness) {
            let reason = "must be a tenth of a second to 60 seconds";
            return Err(Error::invalid(Field::Freshness, reason));
        }
        let about = About {
            name: name.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            joined_at: Timestamp::default(),
        };
        Ok(MemberInfo { about, freshness })
    }
}

/// The information that a member publishes about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberInfo {
    pub(crate) about: About,
    /// How long a proof of this member stays valid. Other replicas wait this long for its gate to
    /// shut.
    pub(crate) freshness: Duration,
}

impl MemberInfo {
    /// Returns the same information with the current time as its joining time.
    pub(super) fn joining(&self) -> Self {
        let mut info = self.clone();
        info.about.joined_at = SystemTime::now().into();
        info
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { about: About { name, version, joined_at }, freshness } = self;
        // Rounded up: a shorter wait would not be safe.
        let millis = freshness.as_nanos().div_ceil(1_000_000);
        let mut bytes = vec![FORMAT];
        bytes.extend(u32::try_from(millis).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(joined_at.as_millis().to_be_bytes());
        let length = u8::try_from(version.len()).unwrap_or(u8::MAX);
        bytes.push(length);
        bytes.extend(version.bytes().take(length.into()));
        bytes.extend(name.bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[FORMAT], rest) = bytes.split_first_chunk()? else { return None };
        let (millis, rest) = rest.split_first_chunk()?;
        let (joined, rest) = rest.split_first_chunk()?;
        let (&[length], rest) = rest.split_first_chunk()?;
        let (version, name) = rest.split_at_checked(length.into())?;
        let about = About {
            name: str::from_utf8(name).ok()?.into(),
            version: str::from_utf8(version).ok()?.into(),
            joined_at: Timestamp::from_millis(u64::from_be_bytes(*joined)),
        };
        let freshness = Duration::from_millis(u32::from_be_bytes(*millis).into());
        Some(Self { about, freshness })
    }
}

/// Returns how long a proof of a member stays valid at most.
pub(super) fn freshness(member: &MemberRow) -> Duration {
    MemberInfo::decode(&member.info).map_or(MAX_FRESHNESS, |info| info.freshness)
}

/// Returns the members, sorted by name.
pub(super) fn listed(list: MemberList, this: Option<MemberId>) -> Vec<Member> {
    let epoch = list.epoch.unwrap_or_default();
    let describe = |member: MemberRow| Member {
        incarnation: member.id.to_string().into(),
        freshness: freshness(&member),
        about: MemberInfo::decode(&member.info).map(|info| info.about),
        applied: member.applied.0,
        behind: if member.applied >= epoch { 0 } else { distance(member.applied, epoch) },
        is_fenced: member.is_fenced,
        is_this: this == Some(member.id),
    };
    let mut members: Vec<_> = list.members.into_iter().map(describe).collect();
    let place = |member: &Member| {
        let about = member.about.as_ref().map(|about| (about.name.clone(), about.joined_at));
        (about, member.incarnation.clone())
    };
    members.sort_by_cached_key(place);
    members
}

fn distance(Revision(from): Revision, Revision(to): Revision) -> u64 {
    to.saturating_sub(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn replica_with_invalid_name_or_freshness_is_refused() {
        let field = |replica: Replica| match replica.info() {
            Ok(_) => None,
            Err(Error::Invalid { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(field(Replica::named("till-4")), None);
        assert_eq!(field(Replica::named("é".repeat(64))), None);
        for name in ["", "a\nb", &"é".repeat(65)] {
            assert_eq!(field(Replica::named(name)), Some(Field::Replica), "{name:?}");
        }
        let fresh = |millis| field(Replica::named("a").freshness(Duration::from_millis(millis)));
        assert_eq!([fresh(100), fresh(60_000)], [None, None]);
        assert_eq!([fresh(99), fresh(60_001)], [Some(Field::Freshness); 2]);
    }

    fn known() -> MemberInfo {
        let about = About {
            name: "till-4 é".into(),
            version: "0.1.0".into(),
            joined_at: Timestamp::from_millis(0x0102_0304_0506),
        };
        MemberInfo { about, freshness: Duration::from_secs(3) }
    }

    #[test]
    fn member_information_encoding_is_stable() {
        let bytes = known().encode();
        let expected =
            [&b"\x01\0\0\x0b\xb8\0\0\x01\x02\x03\x04\x05\x06\x050.1.0"[..], "till-4 é".as_bytes()];
        assert_eq!(bytes, expected.concat());
        assert_eq!(MemberInfo::decode(&bytes), Some(known()));
        let odd = MemberInfo { freshness: Duration::from_nanos(3_000_000_001), ..known() };
        let decoded = MemberInfo::decode(&odd.encode()).unwrap();
        assert_eq!(decoded.freshness, Duration::from_millis(3001));
    }

    #[test]
    fn unreadable_information_counts_as_the_longest_freshness() {
        let bytes = known().encode();
        for end in 0..bytes.len() - "till-4 é".len() {
            assert_eq!(MemberInfo::decode(&bytes[..end]), None, "{end}");
        }
        for other in [&b"name of an older format"[..], b"\x02\0\0\x0b\xb8", b""] {
            assert_eq!(MemberInfo::decode(other), None);
        }
        assert_eq!(MemberInfo::decode(&[&bytes[..], &[0xff]].concat()), None, "a name is text");
        let (id, revision, applied) = (MemberId([0; 16]), Revision(1), Revision(0));
        let row = MemberRow { id, info: Vec::new(), revision, is_fenced: false, applied };
        assert_eq!(freshness(&row), MAX_FRESHNESS);
        assert_eq!(freshness(&MemberRow { info: bytes, ..row }), Duration::from_secs(3));
    }

    #[test]
    fn members_are_listed_by_name_including_unreadable_ones() {
        let info = |name: &str| {
            let mut info = Replica::named(name).info().unwrap();
            info.about.joined_at = Timestamp::from_secs(7);
            info.encode()
        };
        let member = |id: u8, info, applied| MemberRow {
            id: MemberId([id; 16]),
            info,
            revision: Revision(3),
            is_fenced: id == 2,
            applied: Revision(applied),
        };
        let members =
            vec![member(1, info("b"), 20), member(2, info("a"), 13), member(3, Vec::new(), 0)];
        let list = MemberList { revision: Revision(30), epoch: Some(Revision(17)), members };
        let listed = listed(list, Some(MemberId([1; 16])));
        let name = |m: &Member| m.about.as_ref().map(|about| about.name.to_string());
        let seen: Vec<_> =
            listed.iter().map(|m| (name(m), m.behind, m.is_fenced, m.is_this)).collect();
        let named = |name: &str| Some(name.to_owned());
        let expected =
            [(None, 17, false, false), (named("a"), 4, true, false), (named("b"), 0, false, true)];
        assert_eq!(seen, expected);
        assert_eq!(
            [listed[0].freshness, listed[1].freshness],
            [MAX_FRESHNESS, Duration::from_secs(3)]
        );
        assert_eq!(listed[1].incarnation.as_ref(), "02".repeat(16));
    }
}
