//! Digests of keys, and the seals on stored values: every use of blake3.
//!
//! Without a pepper a digest is plain blake3 and the seals are checksums. They detect accidents and moved
//! records, but an attacker who can write to the directory can compute them. With a pepper all of them
//! are keyed, and that attacker can forge nothing.

use std::fmt;
use zeroize::Zeroizing;

/// The blake3 digest of a key's whole text, keyed if the deployment has a pepper.
///
/// Comparing two digests takes the same time wherever they differ.
///
/// A key has 190 random bits, so its digest does not reveal it. Still, `Debug` shows only the first bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(blake3::Hash);

impl Digest {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }

    /// Returns the 32 bytes.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The first 16 bytes as two words, which the index compares. An unknown key matches one of n keys with
    /// the probability n/2¹²⁸. The ledger contains all 32 bytes.
    #[inline]
    pub(crate) fn fingerprint(&self) -> [u64; 2] {
        let (words, _) = self.0.as_bytes().as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        [words.next().unwrap_or(0), words.next().unwrap_or(0)]
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({}…)", self.0.to_hex().get(..8).unwrap_or_default())
    }
}

/// Computes the digest of a key's text.
pub(crate) struct Digester(Option<Zeroizing<[u8; 32]>>);

impl Digester {
    /// Whether a pepper goes into the digests.
    pub(crate) fn is_keyed(&self) -> bool {
        self.0.is_some()
    }

    #[inline]
    pub(crate) fn digest(&self, key: &[u8]) -> Digest {
        Digest(match &self.0 {
            None => blake3::hash(key),
            Some(pepper) => blake3::keyed_hash(pepper, key),
        })
    }
}

/// A keyed hash for one purpose.
#[derive(Clone)]
pub(crate) struct Seal(Zeroizing<[u8; 32]>);

impl Seal {
    /// Hashes the parts, each preceded by its length, so that two lists of parts never have the same input.
    pub(crate) fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        *hasher.finalize().as_bytes()
    }

    /// Begins the hash of a stream.
    pub(crate) fn running(&self) -> Running {
        Running(blake3::Hasher::new_keyed(&self.0))
    }

    /// The first 16 bytes of [`hash`](Self::hash).
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut tag = [0; 16];
        tag.iter_mut().zip(self.hash(parts)).for_each(|(to, from)| *to = from);
        tag
    }
}

/// The keyed hash of a stream.
pub(crate) struct Running(blake3::Hasher);

impl Running {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of the stream so far.
    pub(crate) fn hash(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// All keyed hashes of one store, derived once when it is opened.
pub(crate) struct Seals {
    /// Digests of keys.
    pub(crate) digester: Digester,
    /// Frames of records and scope names.
    pub(crate) frame: Seal,
    /// The meta record.
    pub(crate) meta: Seal,
    /// The chain of the audit log.
    pub(crate) audit: Seal,
    /// The anchor.
    pub(crate) anchor: Seal,
    /// Backups as a whole.
    pub(crate) backup: Seal,
    /// Idempotent requests.
    pub(crate) request: Seal,
    /// Identifies the pepper in the meta record: all zero without one.
    pub(crate) pepper_check: [u8; 16],
}

impl Seals {
    /// Derives them from the pepper. `None` results in plain digests and checksums.
    pub(crate) fn derive(pepper: Option<&[u8]>) -> Self {
        let material = pepper.unwrap_or_default();
        let key = |purpose: &str| {
            Zeroizing::new(blake3::derive_key(&format!("portcullis 2026-11 {purpose}"), material))
        };
        let check = Seal(key("pepper check"));
        Self {
            digester: Digester(pepper.map(|_| key("digest"))),
            frame: Seal(key("frame")),
            meta: Seal(key("meta")),
            audit: Seal(key("trail")),
            anchor: Seal(key("anchor")),
            backup: Seal(key("backup")),
            request: Seal(key("request")),
            pepper_check: pepper.map_or([0; 16], |_| check.tag(&[])),
        }
    }
}

/// An order-free hash of a set: the sum of its members' hashes modulo 2²⁵⁶. A change of the set costs one
/// addition and one subtraction instead of a pass over the whole set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct SetHash([u64; 4]);

impl SetHash {
    pub(crate) fn insert(&mut self, member: [u8; 32]) {
        let mut carry = false;
        for (limb, word) in self.0.iter_mut().zip(limbs(member)) {
            let (sum, over) = limb.overflowing_add(word);
            let (sum, over_carry) = sum.overflowing_add(u64::from(carry));
            *limb = sum;
            carry = over || over_carry;
        }
    }

    pub(crate) fn remove(&mut self, member: [u8; 32]) {
        let mut borrow = false;
        for (limb, word) in self.0.iter_mut().zip(limbs(member)) {
            let (rest, under) = limb.overflowing_sub(word);
            let (rest, under_borrow) = rest.overflowing_sub(u64::from(borrow));
            *limb = rest;
            borrow = under || under_borrow;
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes
            .iter_mut()
            .zip(self.0.iter().flat_map(|limb| limb.to_le_bytes()))
            .for_each(|(to, from)| *to = from);
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(limbs(bytes))
    }
}

fn limbs(bytes: [u8; 32]) -> [u64; 4] {
    let (words, _) = bytes.as_chunks::<8>();
    let mut limbs = [0; 4];
    limbs.iter_mut().zip(words).for_each(|(to, from)| *to = u64::from_le_bytes(*from));
    limbs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_hash_does_not_depend_on_how_the_stream_is_split() {
        let seal = Seals::derive(None).frame;
        let hash = |parts: &[&[u8]]| {
            let mut running = seal.running();
            for part in parts {
                running.update(part);
            }
            running.hash()
        };
        assert_eq!(hash(&[b"one", b"two"]), hash(&[b"onetwo"]));
        assert_ne!(hash(&[b"onetwo"]), hash(&[b"one"]));
        assert_ne!(hash(&[b"onetwo"]), Seals::derive(None).audit.running().hash());
    }

    #[test]
    fn debug_shows_only_the_first_bytes_of_a_digest() {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(0..).for_each(|(byte, n)| *byte = n);
        let digest = Digest::from_bytes(bytes);
        assert_eq!(format!("{digest:?}"), "Digest(00010203…)");
        assert_eq!(digest.as_bytes()[30..], [30, 31]);
        assert_eq!(digest.fingerprint(), [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
    }
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn set_hash_depends_only_on_the_current_members(
            members: Vec<[u8; 32]>, other: [u8; 32],
        ) {
            let mut forward = SetHash::default();
            for member in &members {
                forward.insert(*member);
            }
            let mut backward = SetHash::default();
            backward.insert(other);
            for member in members.iter().rev() {
                backward.insert(*member);
            }
            backward.remove(other);
            prop_assert_eq!(forward, backward);
            prop_assert_eq!(SetHash::from_bytes(forward.to_bytes()), forward);
        }
    }

    #[test]
    fn set_hash_carries_over_all_limbs() {
        let mut set = SetHash::default();
        let mut one = [0; 32];
        one[0] = 1;
        set.remove(one);
        assert_eq!(set.to_bytes(), [0xff; 32]);
        set.insert(one);
        assert_eq!(set, SetHash::default());
    }

    #[test]
    fn pepper_changes_every_derived_key() {
        let (plain, peppered) = (Seals::derive(None), Seals::derive(Some(b"salt cellar")));
        assert_eq!(plain.digester.digest(b"x"), Digest(blake3::hash(b"x")));
        assert_ne!(plain.digester.digest(b"x"), peppered.digester.digest(b"x"));
        let pairs = [
            (&plain.frame, &peppered.frame),
            (&plain.meta, &peppered.meta),
            (&plain.audit, &peppered.audit),
            (&plain.anchor, &peppered.anchor),
            (&plain.backup, &peppered.backup),
        ];
        assert!(pairs.iter().all(|(one, other)| one.tag(&[]) != other.tag(&[])));
        assert_ne!(plain.pepper_check, peppered.pepper_check);
    }
}
