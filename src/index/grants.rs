//! Numbers for distinct grants: many keys share few grants, and a number fits into a slot's word.

use super::word::{GRANTS, Word};
use crate::{networks::Networks, record::Standing, scope::Grant};
use std::{collections::HashMap, sync::OnceLock};

const CHUNKS: usize = GRANTS.ilog2() as usize;

/// An append-only list that is read without a lock. Chunk n has 2ⁿ grants. A key that is limited by more than
/// its scopes has an entry in its segment instead: see `limits`.
pub(super) struct Grants([OnceLock<Box<[OnceLock<Grant>]>>; CHUNKS]);

/// The number of each grant; `None` is [`Grant::All`].
#[derive(Default)]
pub(super) struct Numbers(HashMap<Option<[u64; 4]>, u64>);

impl Grants {
    pub(super) fn new() -> Self {
        Self([const { OnceLock::new() }; CHUNKS])
    }

    /// The grant in a slot's word; `None` for a slot without a key, and for a limited key.
    #[inline]
    pub(super) fn grant(&self, word: Word) -> Option<&Grant> {
        if word == Word::GONE {
            return None;
        }
        let (chunk, offset) = place(word.grant_number());
        self.0.get(chunk)?.get()?.get(offset)?.get()
    }

    /// The standing in the word of a key that is not limited.
    pub(super) fn standing(&self, word: Word) -> Option<Standing> {
        Some(word.standing(*self.grant(word)?, Networks::ANY, None))
    }

    /// The word for a standing, without its limits. A new grant gets a number. If no number is left, the word is
    /// inactive: the key is refused.
    pub(super) fn word(&self, standing: &Standing, numbers: &mut Numbers) -> Word {
        let bits = match standing.grant {
            Grant::All => None,
            Grant::Scopes(set) => Some(set.bits()),
        };
        let next = numbers.0.len() as u64;
        let number = *numbers.0.entry(bits).or_insert(next);
        let (chunk, offset) = place(number);
        let slot = self.0.get(chunk).map(|chunk| {
            chunk.get_or_init(|| {
                (0..1usize << chunk_bits(number)).map(|_| OnceLock::new()).collect()
            })
        });
        match slot.and_then(|chunk| chunk.get(offset)) {
            Some(slot) => {
                slot.get_or_init(|| standing.grant);
                Word::new(standing.active, standing.expiry, number)
            }
            None => Word::new(false, standing.expiry, 0),
        }
    }
}

fn chunk_bits(number: u64) -> u32 {
    (number + 1).ilog2()
}

#[inline]
fn place(number: u64) -> (usize, usize) {
    let chunk = chunk_bits(number);
    (chunk as usize, usize::try_from(number + 1 - (1 << chunk)).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::Expiry, scope::Catalogue};

    #[test]
    fn equal_grants_share_a_number_and_every_grant_is_found() {
        let catalogue = Catalogue::with_preset();
        let (grants, mut numbers) = (Grants::new(), Numbers::default());
        let all: Vec<Grant> = std::iter::once(Grant::All)
            .chain(
                (0..1u64 << 13)
                    .map(|bits| Grant::Scopes(catalogue.set_of_bits([bits, 0, 0, 0]).unwrap())),
            )
            .collect();
        for _ in 0..2 {
            for grant in &all {
                let (expiry, networks, rate) = (Expiry::Never, Networks::ANY, None);
                let standing = Standing { active: true, grant: *grant, expiry, networks, rate };
                let word = grants.word(&standing, &mut numbers);
                assert_eq!(grants.standing(word), Some(standing));
                assert_eq!(grants.grant(word.limited(word.number())), None);
            }
        }
        assert_eq!(numbers.0.len(), all.len());
        assert_eq!(grants.standing(Word::GONE), None);
    }

    #[test]
    fn consecutive_numbers_have_consecutive_places() {
        assert_eq!(
            (0..7).map(place).collect::<Vec<_>>(),
            [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)]
        );
    }
}
