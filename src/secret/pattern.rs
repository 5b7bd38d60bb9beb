//! The regular expression for secret scanners.

use super::{CHECK_DIGITS, Prefix, SECRET_DIGITS};
use crate::id::ID_DIGITS;

impl Prefix {
    /// Returns a regular expression that matches the keys of this prefix in any text, for a secret scanner.
    /// It needs word boundaries and repetition counts only, which RE2, PCRE and POSIX with GNU extensions
    /// have. [`Secret::is_well_formed`](crate::Secret::is_well_formed) also verifies the checksum.
    ///
    /// ```
    /// let pattern = portcullis::Prefix::default().pattern();
    /// assert_eq!(pattern, r"\bpcl_[0-9A-Za-z]{11}_[0-9A-Za-z]{38}\b");
    /// ```
    pub fn pattern(&self) -> String {
        let (prefix, random) = (self.as_str(), SECRET_DIGITS + CHECK_DIGITS);
        format!(r"\b{prefix}_[0-9A-Za-z]{{{ID_DIGITS}}}_[0-9A-Za-z]{{{random}}}\b")
    }
}
