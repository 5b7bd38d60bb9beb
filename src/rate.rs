//! The rate of a key: how many requests it may make in a span of time.

use std::{fmt, str::FromStr};

/// How many requests a key may make in a span of time.
///
/// A key that has been idle may make all requests of the span at once. After that it may make one whenever the
/// fraction of the span for one request has passed. So in any time it makes at most the requests of that time
/// and those of one span.
///
/// ```
/// # use portcullis::Rate;
/// let rate: Rate = "100/1m".parse()?;
/// assert_eq!((rate.requests(), rate.seconds()), (100, 60));
/// assert_eq!(rate.to_string(), "100/60s");
/// # Ok::<(), portcullis::InvalidRate>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    requests: u32,
    seconds: u32,
}

/// The values are no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 1000000 requests in 1 second to 1 day, such as 100/60s")]
pub struct InvalidRate;

impl Rate {
    const MAX_REQUESTS: u32 = 1_000_000;
    const MAX_SECONDS: u32 = 86_400;

    /// Creates a rate of 1 to 1,000,000 requests in 1 to 86,400 seconds.
    pub fn new(requests: u32, seconds: u32) -> Result<Self, InvalidRate> {
        let is_valid = (1..=Self::MAX_REQUESTS).contains(&requests)
            && (1..=Self::MAX_SECONDS).contains(&seconds);
        if is_valid { Ok(Self { requests, seconds }) } else { Err(InvalidRate) }
    }

    /// Returns the number of requests in the span.
    pub fn requests(self) -> u32 {
        self.requests
    }

    /// Returns the span in seconds.
    pub fn seconds(self) -> u32 {
        self.seconds
    }

    /// The time for one request in nanoseconds, rounded up: at least 1000.
    pub(crate) fn interval(self) -> u64 {
        (u64::from(self.seconds) * 1_000_000_000).div_ceil(self.requests.into())
    }

    /// A rate that both allow.
    pub(crate) fn meet(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        if Self::is_within(one, other) {
            return one;
        }
        if Self::is_within(other, one) {
            return other;
        }
        let (one, other) = (one?, other?);
        // One has fewer requests, the other more time for each.
        let (few, slow) = if one.requests < other.requests { (one, other) } else { (other, one) };
        let span = u64::from(few.requests) * u64::from(slow.seconds);
        let seconds = span.div_ceil(slow.requests.into());
        // Not above the span of the slow one.
        let seconds = u32::try_from(seconds).unwrap_or(slow.seconds);
        Some(Self { requests: few.requests, seconds })
    }

    /// Whether the other allows every request that this one allows. `None`: there is no limit.
    pub(crate) fn is_within(one: Option<Self>, other: Option<Self>) -> bool {
        let time = |rate: Self, requests: u32| u64::from(rate.seconds) * u64::from(requests);
        match (one, other) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => {
                one.requests <= other.requests
                    && time(one, other.requests) >= time(other, one.requests)
            }
        }
    }
}

/// In the form `100/60s`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.requests, self.seconds)
    }
}

/// The number of requests and the span, such as `100/60s`, `100/1m`, `5000/1h` or `10000/1d`.
impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { digits.parse::<u32>().ok() } else { None }
        };
        let read = || {
            let (requests, span) = text.split_once('/')?;
            let (count, unit) = span.split_at_checked(span.len().checked_sub(1)?)?;
            let unit = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                "d" => 86_400,
                _ => return None,
            };
            Some((number(requests)?, number(count)?.checked_mul(unit)?))
        };
        let (requests, seconds) = read().ok_or(InvalidRate)?;
        Self::new(requests, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rate_is_a_number_and_a_span() {
        for (text, requests, seconds) in [
            ("100/60s", 100, 60),
            ("1/1d", 1, 86_400),
            ("1000000/1s", 1_000_000, 1),
            ("5/2h", 5, 7200),
        ] {
            assert_eq!(text.parse(), Rate::new(requests, seconds));
        }
        for wrong in [
            "",
            "100",
            "100/",
            "/60s",
            "100/60",
            "0/60s",
            "100/0s",
            "1000001/60s",
            "100/2d",
            "-1/60s",
            "+1/60s",
            "100/60é",
            "100 / 60s",
            "100/s",
            "1e3/60s",
            "99999999999/60s",
            "1/99999999h",
        ] {
            assert_eq!(wrong.parse::<Rate>(), Err(InvalidRate), "{wrong}");
        }
    }

    fn rate() -> impl Strategy<Value = Option<Rate>> {
        proptest::option::of((1u32..40, 1u32..40).prop_map(|(n, s)| Rate::new(n, s).unwrap()))
    }

    proptest! {
        #[test]
        fn meet_of_two_rates_is_within_both(one in rate(), other in rate()) {
            let meet = Rate::meet(one, other);
            prop_assert!(Rate::is_within(meet, one) && Rate::is_within(meet, other));
            prop_assert_eq!(Rate::is_within(one, other), meet == one);
            prop_assert_eq!(meet, Rate::meet(other, one));
        }
    }
}
