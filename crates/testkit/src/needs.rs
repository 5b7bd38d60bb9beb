//! The second check of `#[needs]`, when the test runs.

#[path = "../../needs/src/need.rs"]
mod need;

/// Panics if one of the needs is missing.
#[track_caller]
pub fn check_needs(needs: &[&str]) {
    let missing = needs.iter().find_map(|text| need::Need::parse(text).missing());
    if let Some(reason) = missing {
        panic!("{reason}");
    }
}
