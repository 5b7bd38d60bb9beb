//! Examines the disk: its free space, and whether a reserve is allocated.

use super::finding::Finding;
use crate::ledger::inspect::DirectoryState;

/// With less free space, a burst of changes may fill the disk.
const LOW_FREE_SPACE: u64 = 64 << 20;
/// With a smaller reserve, one batch of revocations may fill the disk.
const LEAST_RESERVE: u64 = 1 << 20;

pub(super) fn examine(state: &DirectoryState, findings: &mut Vec<Finding>) {
    if let Some(free) = state.free.filter(|free| *free < LOW_FREE_SPACE.max(state.database / 10)) {
        let text = format!("the disk has only {} MiB left", free >> 20);
        findings.push(Finding::fault(
            "disk",
            text,
            "free space; on a full disk only revocations and other stricter changes are written",
        ));
    }
    if state.can_reserve == Some(false) {
        let text = "the file system cannot allocate blocks ahead, so there is no disk reserve: a full disk ends all \
                    writing, revocations too";
        let remedy = "move the store to a file system that can, such as ext4 or XFS, or monitor its free space";
        findings.push(Finding::note("reserve", text, remedy));
    } else if state.reserve < LEAST_RESERVE && state.missing.is_empty() {
        let text = "no blocks are allocated for revocations on a full disk (or fewer than one batch needs)";
        let remedy = "open the store on a disk with free space, without --disk-reserve 0; a copy has no reserve until then";
        findings.push(Finding::note("reserve", text, remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Report, Severity};

    #[test]
    fn store_without_a_disk_reserve_is_noted() {
        let noted = |reserve, can_reserve| {
            let mut report = Report::default();
            let state = DirectoryState { reserve, can_reserve, ..DirectoryState::default() };
            examine(&state, &mut report.findings);
            let mut found = report.findings.into_iter();
            let note =
                found.next().map(|note| (note.code, note.severity, note.text.contains("cannot")));
            assert_eq!(found.next(), None);
            note
        };
        assert_eq!(noted(LEAST_RESERVE, Some(true)), None);
        assert_eq!(noted(LEAST_RESERVE, None), None);
        assert_eq!(noted(0, Some(true)), Some(("reserve", Severity::Note, false)));
        assert_eq!(noted(LEAST_RESERVE, Some(false)), Some(("reserve", Severity::Note, true)));
    }

    #[test]
    fn nearly_full_disk_is_reported() {
        let found = |free, database| {
            let mut report = Report::default();
            let reserve = LEAST_RESERVE;
            let state =
                DirectoryState { free: Some(free), database, reserve, ..DirectoryState::default() };
            examine(&state, &mut report.findings);
            report.findings.iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        assert_eq!(found(LOW_FREE_SPACE, 0), Vec::<&str>::new());
        assert_eq!(found(LOW_FREE_SPACE - 1, 0), ["disk"]);
        // A large database needs more.
        assert_eq!(found(LOW_FREE_SPACE, 20 * LOW_FREE_SPACE), ["disk"]);
    }
}
