//! All values of one kind.

use crate::{
    codec::Place,
    error::Error,
    ledger::engine::{Database, Doing, contained, misplaced},
};
use std::{ops::Bound, thread};

/// Keys and values that are read at once.
pub(super) type Batch = Vec<(sled::IVec, sled::IVec)>;
const BATCH_LENGTH: usize = 256;
/// More threads than this would wait for each other in the index.
const MOST_THREADS: usize = 8;

/// Gives each value under a prefix to `each`.
pub(super) fn scan(
    db: &Database,
    prefix: &[u8],
    mut each: impl FnMut(Place, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut values = contained(Doing::Opening, || Ok(db.get()?.scan_prefix(prefix)))?;
    while let Some((key, frame)) = contained(Doing::Opening, || values.next().transpose())? {
        each(Place::from_key(&key).ok_or_else(misplaced)?, &frame)?;
    }
    Ok(())
}

/// The same for many values whose keys are spread evenly, as digests are. One thread for each
/// processor reads a part of them and gives them to `each` in batches, which gathers in a value of
/// `begin`. Gives these values in the order of the parts.
pub(super) fn scan_abreast<G: Send>(
    db: &Database,
    prefix: &[u8],
    begin: impl Fn() -> G + Sync,
    each: impl Fn(&mut G, &Batch) -> Result<(), Error> + Sync,
) -> Result<Vec<G>, Error> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    thread::scope(|scope| {
        let parts = parts(prefix, threads).into_iter().map(|part| {
            thread::Builder::new()
                .name("portcullis-reader".into())
                .spawn_scoped(scope, || scan_part(db, part, begin(), &each))
                .map_err(|e| Error::io("starting a thread to read the store", e))
        });
        let parts = parts.collect::<Result<Vec<_>, Error>>()?;
        let unread = |_| Err(Error::damaged("the database cannot be read"));
        parts.into_iter().map(|part| part.join().unwrap_or_else(unread)).collect()
    })
}

fn scan_part<G>(
    db: &Database,
    part: Part,
    mut gathered: G,
    each: &impl Fn(&mut G, &Batch) -> Result<(), Error>,
) -> Result<G, Error> {
    let mut values = contained(Doing::Opening, || Ok(db.get()?.range(part)))?;
    loop {
        let batch: Batch = contained(Doing::Opening, || {
            values.by_ref().take(BATCH_LENGTH).collect::<sled::Result<_>>()
        })?;
        if batch.is_empty() {
            return Ok(gathered);
        }
        each(&mut gathered, &batch)?;
    }
}

/// From the first key of a part to the first of the next.
type Part = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// All keys under a prefix in so many parts, by the byte that follows it.
fn parts(prefix: &[u8], parts: usize) -> Vec<Part> {
    let bound = |part: usize| match u8::try_from(256 * part / parts) {
        Ok(0) => prefix.to_vec(),
        Ok(byte) => [prefix, &[byte]].concat(),
        Err(_) => after(prefix),
    };
    (0..parts)
        .map(|part| (Bound::Included(bound(part)), Bound::Excluded(bound(part + 1))))
        .collect()
}

/// The first key that is greater than all that begin so.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut after = prefix.to_vec();
    if let Some(last) = after.last_mut() {
        *last = last.saturating_add(1);
    }
    after
}

#[cfg(test)]
mod tests {
    use super::parts;
    use std::ops::RangeBounds;

    #[test]
    fn each_key_under_a_prefix_is_in_one_part_and_no_other_key_is() {
        let keys =
            (0..=u8::MAX).flat_map(|byte| [vec![byte], vec![b'k', byte], vec![b'k', byte, 9]]);
        for key in keys {
            for number in [1, 2, 3, 8] {
                let holding = parts(b"k", number).into_iter().filter(|part| part.contains(&key));
                assert_eq!(holding.count(), usize::from(key[0] == b'k'), "{key:?} of {number}");
            }
        }
    }

    #[test]
    fn the_parts_have_equally_many_keys() {
        for number in [1, 2, 3, 8] {
            for part in parts(b"k", number) {
                let keys = (0..=u8::MAX).filter(|byte| part.contains(&vec![b'k', *byte]));
                assert!([256 / number, 256_usize.div_ceil(number)].contains(&keys.count()));
            }
        }
    }
}
