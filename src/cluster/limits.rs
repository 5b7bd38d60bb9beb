//! The size limit of a transaction of the consensus store.

use super::consensus::Transaction;
use crate::ledger::Commit;

/// Returns how many of these changes, from the first one on, fit into one transaction. It is at least 1:
/// every change fits.
pub(crate) fn fitting<'c>(commits: impl Iterator<Item = &'c Commit>) -> usize {
    let (mut values, mut bytes) = (0, 0);
    let fits = |commit: &&Commit| {
        let frames = commit.puts.iter().map(|put| put.frame.as_ref().map_or(0, Vec::len));
        values += 1 + commit.puts.len();
        bytes += commit.entry.len()
            + frames.sum::<usize>()
            + (1 + commit.puts.len()) * Transaction::WRITE_OVERHEAD;
        values <= Transaction::MAX_WRITES && bytes <= Transaction::MAX_BYTES
    };
    commits.take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::DbKey, id::KeyId, ledger::Put, time::Timestamp};

    fn change(puts: usize, bytes: usize) -> Commit {
        let put = |_| Put { key: DbKey::Use(KeyId::from_u64(1)), frame: Some(vec![0; bytes]) };
        let puts = (0..puts).map(put).collect();
        Commit { sequence: 1, at: Timestamp::default(), entry: vec![0; 300], head: [0; 32], puts }
    }

    #[test]
    fn batch_stays_within_the_limits_and_has_at_least_one_change() {
        let fit = |puts, bytes, count| {
            let changes: Vec<_> = (0..count).map(|_| change(puts, bytes)).collect();
            fitting(changes.iter())
        };
        assert_eq!([fit(1, 300, 60), fit(1, 300, 61), fit(2, 300, 90)], [60, 60, 40]);
        assert_eq!(fit(1, 100_000, 60), 10);
        assert_eq!([fit(500, 1, 3), fit(1, 2 << 20, 3)], [1, 1]);
    }
}
