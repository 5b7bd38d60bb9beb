//! The name of a scope, and the plane that the name belongs to.

use std::{borrow::Cow, fmt, str::FromStr};

const MAX_SCOPE_LEN: usize = 64;

/// The API that a scope belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plane {
    /// Scopes that start with `admin.`: used only within the Administration API.
    Administration,
    /// All others.
    Data,
}

/// The name of one permission, such as `api.read`:
/// `[a-z][a-z0-9]*(\.[a-z][a-z0-9_-]*)+`, at most 64 bytes.
///
/// ```
/// use portcullis::{Plane, Scope};
/// let scope: Scope = "ledger.close-year".parse().unwrap();
/// assert_eq!(scope.plane(), Plane::Data);
/// assert!("Ledger".parse::<Scope>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(Cow<'static, str>);

impl Scope {
    /// Creates a scope from a name in the program. In a constant, a malformed name does not compile.
    ///
    /// ```
    /// use portcullis::Scope;
    /// const CLOSE_YEAR: Scope = Scope::from_static("ledger.close-year");
    /// ```
    ///
    /// ```compile_fail
    /// use portcullis::Scope;
    /// const CLOSE_YEAR: Scope = Scope::from_static("Ledger.close-year");
    /// ```
    ///
    /// # Panics
    /// Panics outside of a constant if the name is malformed.
    pub const fn from_static(name: &'static str) -> Self {
        assert!(
            is_well_formed(name),
            "a scope is lower-case words joined by dots, such as api.read"
        );
        Self(Cow::Borrowed(name))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the API that it belongs to.
    pub fn plane(&self) -> Plane {
        Plane::of(&self.0)
    }
}

impl Plane {
    /// Returns the API that a scope of this name belongs to.
    pub const fn of(name: &str) -> Self {
        match name.as_bytes() {
            [b'a', b'd', b'm', b'i', b'n', b'.', ..] => Self::Administration,
            _ => Self::Data,
        }
    }
}

/// Whether a name is words of lower-case letters and digits joined by dots. From the second word on,
/// `_` and `-` are allowed as well.
const fn is_well_formed(name: &str) -> bool {
    let mut rest = name.as_bytes();
    if rest.len() > MAX_SCOPE_LEN {
        return false;
    }
    let (mut dots, mut begins) = (0, true);
    while let [byte, after @ ..] = rest {
        match *byte {
            b'a'..=b'z' => begins = false,
            b'0'..=b'9' if !begins => {}
            b'_' | b'-' if !begins && dots > 0 => {}
            b'.' if !begins => {
                dots += 1;
                begins = true;
            }
            _ => return false,
        }
        rest = after;
    }
    dots > 0 && !begins
}

impl AsRef<str> for Scope {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(name: &str) -> Result<Self, ParseScopeError> {
        if is_well_formed(name) {
            Ok(Self(Cow::Owned(name.to_owned())))
        } else {
            Err(ParseScopeError)
        }
    }
}

/// The text is not a scope name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scope is words of lower-case letters and digits joined by dots, such as api.read, at most 64 bytes"
)]
pub struct ParseScopeError;

#[cfg(test)]
mod tests {
    use super::Scope;

    #[test]
    fn malformed_scope_names_are_refused() {
        for good in ["a.b", "api2.read_all", "x.y-z.w9"] {
            assert!(good.parse::<Scope>().is_ok(), "{good}");
        }
        let long = format!("a.{}", "b".repeat(63));
        for bad in [
            "", "a", "a.", ".a", "a..b", "A.b", "a.B", "1a.b", "a.1", "a_b.c", "a._b", "a.b ", "*",
            &long,
        ] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }
}
