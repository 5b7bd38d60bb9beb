//! Reads all values of one kind, with one thread or with several.

use crate::{
    codec::DbKey,
    error::Error,
    ledger::engine::{Database, Doing, contained, misplaced},
};
use std::{ops::Bound, thread};

/// Keys and values that are read in one step.
pub(super) type Batch = Vec<(sled::IVec, sled::IVec)>;
const BATCH_LENGTH: usize = 256;
/// More threads would wait for each other in the index.
const MAX_THREADS: usize = 8;

/// Passes each value under a prefix to `each`.
pub(super) fn scan(
    db: &Database,
    prefix: &[u8],
    mut each: impl FnMut(DbKey, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut values = contained(Doing::Opening, || Ok(db.get()?.scan_prefix(prefix)))?;
    while let Some((key, frame)) = contained(Doing::Opening, || values.next().transpose())? {
        each(DbKey::from_bytes(&key).ok_or_else(misplaced)?, &frame)?;
    }
    Ok(())
}

/// Reads all values under a prefix with one thread per processor. The keys must be evenly distributed,
/// as digests are. Each thread reads one key range. It passes batches to `each`, together with an
/// accumulator that `begin` creates. Returns the accumulators in the order of the ranges.
pub(super) fn parallel_scan<A: Send>(
    db: &Database,
    prefix: &[u8],
    begin: impl Fn() -> A + Sync,
    each: impl Fn(&mut A, &Batch) -> Result<(), Error> + Sync,
) -> Result<Vec<A>, Error> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    thread::scope(|scope| {
        let threads = ranges(prefix, threads).into_iter().map(|range| {
            thread::Builder::new()
                .name("portcullis-reader".into())
                .spawn_scoped(scope, || scan_range(db, range, begin(), &each))
                .map_err(|e| Error::io("starting a thread to read the store", e))
        });
        let threads = threads.collect::<Result<Vec<_>, Error>>()?;
        let panicked = |_| Err(Error::damaged("the database cannot be read"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    })
}

fn scan_range<A>(
    db: &Database,
    range: KeyRange,
    mut accumulator: A,
    each: &impl Fn(&mut A, &Batch) -> Result<(), Error>,
) -> Result<A, Error> {
    let mut values = contained(Doing::Opening, || Ok(db.get()?.range(range)))?;
    loop {
        let batch: Batch = contained(Doing::Opening, || {
            values.by_ref().take(BATCH_LENGTH).collect::<sled::Result<_>>()
        })?;
        if batch.is_empty() {
            return Ok(accumulator);
        }
        each(&mut accumulator, &batch)?;
    }
}

/// From the first key of a range to the first key of the next range.
type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Splits the keys under a prefix into `count` ranges, by the byte after the prefix.
fn ranges(prefix: &[u8], count: usize) -> Vec<KeyRange> {
    let bound = |range: usize| match u8::try_from(256 * range / count) {
        Ok(0) => prefix.to_vec(),
        Ok(byte) => [prefix, &[byte]].concat(),
        Err(_) => after(prefix),
    };
    (0..count)
        .map(|range| (Bound::Included(bound(range)), Bound::Excluded(bound(range + 1))))
        .collect()
}

/// The first key after all keys with this prefix.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut after = prefix.to_vec();
    if let Some(last) = after.last_mut() {
        *last = last.saturating_add(1);
    }
    after
}

#[cfg(test)]
mod tests {
    use super::ranges;
    use std::ops::RangeBounds;

    #[test]
    fn every_key_under_the_prefix_is_in_exactly_one_range() {
        let keys =
            (0..=u8::MAX).flat_map(|byte| [vec![byte], vec![b'k', byte], vec![b'k', byte, 9]]);
        for key in keys {
            for number in [1, 2, 3, 8] {
                let holding = ranges(b"k", number).into_iter().filter(|range| range.contains(&key));
                assert_eq!(holding.count(), usize::from(key[0] == b'k'), "{key:?} of {number}");
            }
        }
    }

    #[test]
    fn ranges_have_equally_many_keys() {
        for number in [1, 2, 3, 8] {
            for range in ranges(b"k", number) {
                let keys = (0..=u8::MAX).filter(|byte| range.contains(&vec![b'k', *byte]));
                assert!([256 / number, 256_usize.div_ceil(number)].contains(&keys.count()));
            }
        }
    }
}
