//! A log line that a flood of bad keys cannot multiply.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

const PER_SECOND: u64 = 5;

/// Permits a few lines a second and counts the others. The counts may be off by a few where
/// threads meet, which a log forgives.
#[derive(Default)]
pub struct Sparingly {
    start: OnceLock<Instant>,
    second: AtomicU64,
    said: AtomicU64,
    unsaid: AtomicU64,
}

impl Sparingly {
    pub const fn new() -> Self {
        Self {
            start: OnceLock::new(),
            second: AtomicU64::new(0),
            said: AtomicU64::new(0),
            unsaid: AtomicU64::new(0),
        }
    }

    /// How many lines were left out since the last one, if this one may be written.
    pub fn permit(&self) -> Option<u64> {
        self.permit_at(self.start.get_or_init(Instant::now).elapsed().as_secs())
    }

    fn permit_at(&self, second: u64) -> Option<u64> {
        if self.second.swap(second, Relaxed) != second {
            self.said.store(0, Relaxed);
        }
        if self.said.fetch_add(1, Relaxed) < PER_SECOND {
            Some(self.unsaid.swap(0, Relaxed))
        } else {
            self.unsaid.fetch_add(1, Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_a_few_lines_and_then_says_how_many_it_left_out() {
        let log = Sparingly::new();
        let written = (0..100).filter(|_| log.permit_at(7).is_some()).count();
        assert_eq!(written, 5);
        assert_eq!(log.permit_at(8), Some(95));
        assert_eq!(log.permit_at(8), Some(0));
    }
}
