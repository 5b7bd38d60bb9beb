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

#[cfg(test)]
mod tests {
    use super::*;

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
