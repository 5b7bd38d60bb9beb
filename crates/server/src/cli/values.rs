//! Parses and formats the values of options; an invalid value is refused with the reason.

use clap::ValueEnum;
use std::{net::SocketAddr, time::Duration};

pub(crate) use portcullis_admin::rfc3339::format as rfc3339;

/// A longer delay is a typing error: service managers wait for minutes at most.
const MAX_DRAIN_SECONDS: u32 = 86_400;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum YesNo {
    Yes,
    No,
}

/// Returns the time after this many seconds.
pub(crate) fn from_now(seconds: u32) -> Result<String, String> {
    jiff::Timestamp::now()
        .checked_add(Duration::from_secs(seconds.into()))
        .map(|end| end.to_string())
        .map_err(|_| "--expires-in: too long".to_owned())
}

/// Parses an entry of metadata, as `NAME=TEXT`.
pub(crate) fn metadata_entry(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "an entry of metadata is NAME=TEXT".into())
}

/// Parses a duration, in seconds.
pub(crate) fn seconds(text: &str) -> Result<u32, String> {
    let unit = |last| match last {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        'w' => Some(7 * 86_400),
        _ => None,
    };
    let (digits, unit) = text
        .char_indices()
        .next_back()
        .and_then(|(at, last)| Some((text.get(..at)?, unit(last)?)))
        .filter(|(digits, _)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
        .ok_or("a duration is a number and s, m, h, d or w, such as 90d")?;
    let count = digits.parse::<u32>().ok().and_then(|count| count.checked_mul(unit));
    count.ok_or_else(|| "a duration is at most 7101w, which is 136 years".into())
}

/// Parses the time for which a server still serves after the signal to stop.
pub(crate) fn drain_delay(text: &str) -> Result<u32, String> {
    let delay = seconds(text)?;
    if delay > MAX_DRAIN_SECONDS { Err("a server drains for at most 1d".into()) } else { Ok(delay) }
}

/// Parses an address to listen on.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let reason = match text.rsplit_once(':') {
        _ if text.contains('/') => "a URL is not an address to listen on",
        None => "it has no port",
        Some((_, port)) if port.parse::<u16>().is_err() => "a port is a number from 0 to 65535",
        Some(("", _)) => "it has no IP address; 0.0.0.0 or [::] means all",
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
            "an IPv6 address needs brackets"
        }
        Some(_) => "names are not resolved; give an IP address",
    };
    Err(format!("{reason}; use an address such as 127.0.0.1:8443 or [::1]:8443"))
}

/// Parses a moment, as the API does (RFC 3339).
pub(crate) fn moment(text: &str) -> Result<String, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) if at < jiff::Timestamp::UNIX_EPOCH => Err("it is before 1970".into()),
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("a moment has a date, a time and a zone, such as 2030-01-31T12:00:00Z, and is not after \
                       9999-12-30T22:00:00Z"
            .into()),
    }
}

/// Parses the time at which a key expires, as the API does: a moment, or a date, which means the midnight
/// at its end (UTC).
pub(crate) fn expiry(text: &str) -> Result<String, String> {
    match portcullis_admin::rfc3339::parse_expiry(text) {
        Some(_) => Ok(text.to_owned()),
        None => moment(text).map_err(|why| format!("{why}; or give a date such as 2030-01-31, which means the midnight at its end (UTC)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_a_moment_or_a_date() {
        assert!(expiry("2030-01-31").is_ok() && expiry("2030-01-31T12:00:00Z").is_ok());
        for wrong in ["soon", "2030-02-30", "2030-01-31T12:00:00"] {
            assert!(expiry(wrong).unwrap_err().contains("a date such as"), "{wrong}");
        }
    }

    #[test]
    fn duration_is_a_number_and_a_unit() {
        assert_eq!(seconds("90d"), Ok(90 * 86_400));
        assert_eq!(seconds("30m"), Ok(1800));
        assert_eq!(seconds("7101w"), Ok(7101 * 7 * 86_400));
        for wrong in ["", "d", "90", "90 d", "-1d", "+1d", "1.5h", "9é"] {
            assert!(seconds(wrong).unwrap_err().contains("such as 90d"), "{wrong}");
        }
        for long in ["7102w", "99999999w", "4294967296s", "99999999999999999999s"] {
            assert!(seconds(long).unwrap_err().contains("at most"), "{long}");
        }
        assert_eq!(drain_delay("1d"), Ok(86_400));
        assert!(drain_delay("25h").unwrap_err().contains("at most 1d"));
    }

    #[test]
    fn malformed_address_is_refused_with_the_reason() {
        assert!(address("127.0.0.1:0").is_ok() && address("[::]:8443").is_ok());
        for (wrong, reason) in [
            ("", "no port"),
            ("8443", "no port"),
            ("127.0.0.1", "no port"),
            (":8443", "no IP address"),
            ("localhost:8443", "not resolved"),
            ("127.0.0.1:65536", "0 to 65535"),
            ("::1:8443", "brackets"),
            ("[::1]", "0 to 65535"),
            ("https://127.0.0.1:8443", "URL"),
        ] {
            let error = address(wrong).unwrap_err();
            assert!(error.contains(reason), "{wrong}: {error}");
        }
    }

    #[test]
    fn malformed_moment_is_refused_with_the_reason() {
        assert!(moment("2030-01-31T12:00:00Z").is_ok());
        assert!(moment("9999-12-30T22:00:00Z").is_ok());
        for (wrong, reason) in [
            ("soon", "such as"),
            ("2030-01-31", "a time and a zone"),
            ("2030-01-31T12:00:00", "a zone"),
            ("9999-12-31T23:59:59Z", "not after"),
            ("1969-12-31T23:59:59Z", "before 1970"),
        ] {
            let error = moment(wrong).unwrap_err();
            assert!(error.contains(reason), "{wrong}: {error}");
        }
    }
}
