//! Timestamps as RFC 3339 text, as the API has them.

use portcullis::Timestamp;

/// Formats a timestamp in UTC.
pub fn format(timestamp: Timestamp) -> String {
    i64::try_from(timestamp.as_millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(|| "9999-12-30T22:00:00Z".into(), |timestamp| timestamp.to_string())
}

/// Parses a timestamp. Malformed text and times before 1970 give `None`.
pub fn parse(text: &str) -> Option<Timestamp> {
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(timestamp.as_millisecond()).ok().map(Timestamp::from_millis)
}

/// Parses the time at which a key expires: a timestamp, or a date such as `2030-01-31`, which means the
/// midnight at its end (UTC).
pub fn parse_expiry(text: &str) -> Option<Timestamp> {
    parse(text).or_else(|| end_of_day(text))
}

/// Parses a date, and returns the midnight at its end (UTC).
pub(crate) fn end_of_day(date: &str) -> Option<Timestamp> {
    let is_date = date.len() == "2030-01-31".len();
    let date: jiff::civil::Date = date.parse().ok().filter(|_| is_date)?;
    parse(&format!("{}T00:00:00Z", date.tomorrow().ok()?))
}

/// Formats the last day of an expiry, the inverse of [`end_of_day`].
pub(crate) fn last_day(expiry: Timestamp) -> String {
    let last = Timestamp::from_millis(expiry.as_millis().saturating_sub(1));
    format(last).get(..10).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_the_midnight_at_its_end() {
        assert_eq!(parse_expiry("2030-01-31"), parse("2030-02-01T00:00:00Z"));
        assert_eq!(parse_expiry("2028-02-29"), parse("2028-03-01T00:00:00Z"));
        assert_eq!(parse_expiry("2030-01-31T12:00:00Z"), parse("2030-01-31T12:00:00Z"));
        for wrong in ["2030-02-30", "20300131", "2030-1-31", "2030-01-31T12:00:00", "soon", ""] {
            assert_eq!(parse_expiry(wrong), None, "{wrong}");
        }
        for (time, day) in
            [("2030-02-01T00:00:00Z", "2030-01-31"), ("2030-01-31T00:00:01Z", "2030-01-31")]
        {
            assert_eq!(last_day(parse(time).unwrap()), day);
        }
    }

    #[test]
    fn formatted_timestamp_parses_to_the_same_value() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00Z"),
            (1_767_225_600_120, "2026-01-01T00:00:00.12Z"),
        ] {
            assert_eq!(format(Timestamp::from_millis(millis)), text);
            assert_eq!(parse(text), Some(Timestamp::from_millis(millis)));
        }
        assert_eq!(parse("2026-01-01T01:00:00+01:00"), parse("2026-01-01T00:00:00Z"));
    }

    #[test]
    fn malformed_timestamp_is_refused() {
        for text in ["", "tomorrow", "2026-01-01", "2026-01-01T00:00:00", "1969-12-31T23:59:59Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(!format(Timestamp::from_millis(u64::MAX)).is_empty());
    }
}
