//! Whether a run of a bench is measured.

/// Returns whether this run is measured. Cargo passes `--bench` to a measured run; any other run only
/// checks that the bench works.
pub(crate) fn is_measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}
