//! The web origin of a service, which distinguishes its own pages from those of other sites.

use axum::http::{HeaderValue, Uri};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The scheme, host and port of a service, such as `https://keys.example.com`.
///
/// Plain `http` is accepted only for the local host. Its names (`localhost`, `127.0.0.1`, `[::1]`)
/// are equivalent.
///
/// ```
/// use portcullis_admin::Origin;
/// let origin: Origin = "https://Keys.example.com:443/".parse().unwrap();
/// assert_eq!(origin.to_string(), "https://keys.example.com");
/// assert!("http://keys.example.com".parse::<Origin>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    text: String,
    is_loopback: bool,
}

/// The text is not the origin of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; an origin is https, a host and optionally a port, such as https://keys.example.com; http is accepted only for the local host"
)]
pub struct ParseOriginError(&'static str);

impl Origin {
    /// Returns whether an `Origin` header names this origin.
    pub(crate) fn matches(&self, header: &HeaderValue) -> bool {
        if header == self.text.as_str() {
            return true;
        }
        let other = header.to_str().ok().and_then(|text| text.parse::<Self>().ok());
        self.is_loopback
            && other.is_some_and(|other| {
                other.is_loopback && other.scheme() == self.scheme() && other.port() == self.port()
            })
    }

    /// Returns the port of an origin on the local host. Several services may share that host, and
    /// cookies do not distinguish ports.
    pub(crate) fn loopback_port(&self) -> Option<u16> {
        self.port().filter(|_| self.is_loopback)
    }

    fn scheme(&self) -> Option<&str> {
        self.text.split("://").next()
    }

    fn port(&self) -> Option<u16> {
        self.text.parse::<Uri>().ok().and_then(|uri| uri.port_u16())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Origin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, ParseOriginError> {
        let wrong = |reason| Err(ParseOriginError(reason));
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong("it has no scheme");
        };
        // A URL may end with the slash of its root, which is not part of the origin.
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        for (mark, reason) in [
            ('#', "it has a fragment"),
            ('?', "it has a query"),
            ('/', "it has a path"),
            ('@', "it has a user name"),
            ('*', "it has a wildcard; one server has one origin"),
        ] {
            if authority.contains(mark) {
                return wrong(reason);
            }
        }
        let (host, port) = split_port(authority)?;
        let host = canonical_host(host)?;
        let is_loopback = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
        let usual = match scheme.to_ascii_lowercase().as_str() {
            "https" => 443,
            "http" if is_loopback => 80,
            "http" => return wrong("http would send keys unencrypted"),
            _ => return wrong("its scheme is not https"),
        };
        let scheme = if usual == 443 { "https" } else { "http" };
        let text = match port {
            Some(port) if port != usual => format!("{scheme}://{host}:{port}"),
            _ => format!("{scheme}://{host}"),
        };
        Ok(Self { text, is_loopback })
    }
}

/// Splits an authority into host and port.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), ParseOriginError> {
    // The colons of an IPv6 address are inside its brackets.
    let after_address = authority.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = authority.get(after_address..).and_then(|rest| rest.rfind(':')) else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(after_address + colon);
    let digits = port.trim_start_matches(':');
    let port = digits.parse().ok().filter(|port| *port > 0);
    match port {
        Some(port) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok((host, Some(port))),
        _ => Err(ParseOriginError("its port is not a number from 1 to 65535")),
    }
}

/// Normalizes a host as browsers write it in an `Origin` header.
fn canonical_host(host: &str) -> Result<String, ParseOriginError> {
    let wrong = |reason| Err(ParseOriginError(reason));
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|a| a.parse::<Ipv6Addr>().ok());
        return match address {
            Some(address) => Ok(format!("[{address}]")),
            None => wrong("its brackets do not contain an IPv6 address"),
        };
    }
    if !host.is_ascii() {
        return wrong("its host is not ASCII; give the punycode form, which begins with xn--");
    }
    let host = host.to_ascii_lowercase();
    // To a browser, a name with a final dot is a different origin: keep the dot.
    let labels: Vec<&str> = host.strip_suffix('.').unwrap_or(&host).split('.').collect();
    let is_label = |label: &&str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if host.len() > 253 || !labels.iter().all(is_label) {
        return wrong("its host is neither a name nor an IP address");
    }
    // Browsers read such a host as an IPv4 address, whatever its notation.
    let last = labels.last().copied().unwrap_or_default();
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(is_hex);
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return wrong("its host is no IPv4 address of four numbers");
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_origin_is_refused_with_the_reason() {
        for (wrong, reason) in [
            ("", "no scheme"),
            ("keys.example", "no scheme"),
            ("https://", "neither a name"),
            ("https:///", "neither a name"),
            ("https://a..b", "neither a name"),
            ("https://a b", "neither a name"),
            ("https://a,b", "neither a name"),
            ("https://[::1", "IPv6"),
            ("https://[a.b]", "IPv6"),
            ("https://b\u{fc}cher.example", "punycode"),
            ("https://127.1", "IPv4"),
            ("https://0x7f000001", "IPv4"),
            ("https://256.0.0.1", "IPv4"),
            ("https://a.b/c", "path"),
            ("https://a.b//", "path"),
            ("https://a.b/?c", "query"),
            ("https://a.b#c", "fragment"),
            ("https://a.b/#c", "fragment"),
            ("https://u@a.b", "user name"),
            ("https://*.a.b", "wildcard"),
            ("https://a.b:65536", "port"),
            ("https://a.b:99999", "port"),
            ("https://a.b:0", "port"),
            ("https://a.b:", "port"),
            ("https://a.b:+443", "port"),
            ("http://a.b", "unencrypted"),
            ("ftp://a.b", "scheme"),
        ] {
            let error = wrong.parse::<Origin>().unwrap_err().to_string();
            assert!(error.contains(reason), "{wrong}: {error}");
        }
    }

    #[test]
    fn origin_is_written_as_browsers_write_it() {
        for (text, written) in [
            ("https://A.b:8443", "https://a.b:8443"),
            ("HTTPS://a.b:443/", "https://a.b"),
            ("https://a.b:0443", "https://a.b"),
            ("https://[2001:DB8:0::1]:8443", "https://[2001:db8::1]:8443"),
            ("https://10.0.0.1", "https://10.0.0.1"),
            ("http://localhost:80", "http://localhost"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn names_of_the_local_host_are_equivalent() {
        let here: Origin = "https://127.0.0.1:8443".parse().unwrap();
        let is = |text| here.matches(&HeaderValue::from_static(text));
        assert!(is("https://127.0.0.1:8443") && is("https://localhost:8443"));
        assert!(is("https://[::1]:8443"));
        for other in ["https://localhost", "http://localhost:8443", "https://a.b:8443", "null"] {
            assert!(!is(other), "{other}");
        }
        assert_eq!(here.loopback_port(), Some(8443));
        assert_eq!("https://a.b:8443".parse::<Origin>().unwrap().loopback_port(), None);
    }
}
