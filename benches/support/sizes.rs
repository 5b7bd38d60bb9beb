//! The sizes for which a bench runs.

use super::run::is_measured;

/// Returns the sizes from the command line, or else these defaults. A run that is not measured has one
/// small size.
pub(crate) fn sizes(defaults: &[usize]) -> Vec<usize> {
    let given: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    match (is_measured(), given.is_empty()) {
        (false, _) => vec![1000],
        (true, true) => defaults.to_vec(),
        (true, false) => given,
    }
}
