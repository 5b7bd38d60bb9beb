//! Moments as RFC 3339 text.

use portcullis::Timestamp;

/// The moment as text, in UTC.
pub(crate) fn to_text(moment: Timestamp) -> String {
    i64::try_from(moment.as_millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(|| "9999-12-30T22:00:00Z".into(), |moment| moment.to_string())
}

/// The moment that the text means, unless it is none or lies before 1970.
pub(crate) fn from_text(text: &str) -> Option<Timestamp> {
    let moment: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(moment.as_millisecond()).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_its_text() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00Z"),
            (1_767_225_600_120, "2026-01-01T00:00:00.12Z"),
        ] {
            assert_eq!(to_text(Timestamp::from_millis(millis)), text);
            assert_eq!(from_text(text), Some(Timestamp::from_millis(millis)));
        }
        assert_eq!(from_text("2026-01-01T01:00:00+01:00"), from_text("2026-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in ["", "tomorrow", "2026-01-01", "2026-01-01T00:00:00", "1969-12-31T23:59:59Z"] {
            assert_eq!(from_text(text), None, "{text}");
        }
        assert!(!to_text(Timestamp::from_millis(u64::MAX)).is_empty());
    }
}
