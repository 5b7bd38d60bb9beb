//! A log statement that a flood of requests cannot multiply.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

const LINES_PER_SECOND: u64 = 5;

/// Permits a few lines a second and counts the lines that it suppresses. Concurrent threads can
/// make the counts wrong by a few, which is good enough for a log.
///
/// ```
/// use portcullis_admin::RateLimitedLog;
/// static REFUSALS: RateLimitedLog = RateLimitedLog::new();
/// if let Some(suppressed) = REFUSALS.permit() {
///     eprintln!("refused a key; {suppressed} earlier lines were suppressed");
/// }
/// ```
#[derive(Default, Debug)]
pub struct RateLimitedLog {
    start: OnceLock<Instant>,
    /// The second, since `start`, to which `written` applies.
    second: AtomicU64,
    written: AtomicU64,
    suppressed: AtomicU64,
}

impl RateLimitedLog {
    /// Creates a log statement that has written nothing.
    pub const fn new() -> Self {
        Self {
            start: OnceLock::new(),
            second: AtomicU64::new(0),
            written: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Returns how many lines were suppressed since the last one, if a line may be written now.
    pub fn permit(&self) -> Option<u64> {
        self.permit_at(self.start.get_or_init(Instant::now).elapsed().as_secs())
    }

    fn permit_at(&self, second: u64) -> Option<u64> {
        if self.second.swap(second, Relaxed) != second {
            self.written.store(0, Relaxed);
        }
        if self.written.fetch_add(1, Relaxed) < LINES_PER_SECOND {
            Some(self.suppressed.swap(0, Relaxed))
        } else {
            self.suppressed.fetch_add(1, Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_writes_a_few_lines_and_then_reports_how_many_were_suppressed() {
        let log = RateLimitedLog::new();
        let written = (0..100).filter(|_| log.permit_at(7).is_some()).count();
        assert_eq!(written, 5);
        assert_eq!(log.permit_at(8), Some(95));
        assert_eq!(log.permit_at(8), Some(0));
    }
}
