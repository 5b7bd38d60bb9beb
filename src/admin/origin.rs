//! The address that browsers know a service by: it tells its own pages from those of others.

use axum::http::{HeaderValue, Uri};
use std::{fmt, str::FromStr};

/// The scheme, host and port of a service, such as `https://keys.example.com`.
///
/// Plain `http` is for this machine only. The names of the machine itself (`localhost`,
/// `127.0.0.1`, `[::1]`) are one and the same.
///
/// ```
/// use portcullis::admin::Origin;
/// let origin: Origin = "https://Keys.example.com:443/".parse().unwrap();
/// assert_eq!(origin.to_string(), "https://keys.example.com");
/// assert!("http://keys.example.com".parse::<Origin>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    text: String,
    is_here: bool,
}

/// The text is not the origin of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is https, a host and if need be a port, such as https://keys.example.com; http is for this machine only"
)]
pub struct ParseOriginError;

impl Origin {
    /// Whether an `Origin` header names this one.
    pub(crate) fn is(&self, header: &HeaderValue) -> bool {
        if header == self.text.as_str() {
            return true;
        }
        let other = header.to_str().ok().and_then(|text| text.parse::<Self>().ok());
        self.is_here
            && other.is_some_and(|other| {
                other.is_here && other.scheme() == self.scheme() && other.port() == self.port()
            })
    }

    /// The port, where the host is this machine: there several services share a host, and cookies
    /// know no ports.
    pub(crate) fn loopback_port(&self) -> Option<u16> {
        self.port().filter(|_| self.is_here)
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
        let uri: Uri = text.parse().map_err(|_| ParseOriginError)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(ParseOriginError);
        };
        let host = authority.host().to_ascii_lowercase();
        let is_here = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
        let usual = match scheme {
            "https" => 443,
            "http" if is_here => 80,
            _ => return Err(ParseOriginError),
        };
        if uri.path() != "/" || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(ParseOriginError);
        }
        let text = match authority.port_u16() {
            Some(port) if port != usual => format!("{scheme}://{host}:{port}"),
            _ => format!("{scheme}://{host}"),
        };
        Ok(Self { text, is_here })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_a_host_and_no_more() {
        for wrong in
            ["", "keys.example", "https://", "https://a.b/c", "https://a.b/?c", "https://u@a.b"]
        {
            assert_eq!(wrong.parse::<Origin>(), Err(ParseOriginError), "{wrong}");
        }
        assert_eq!("https://A.b:8443".parse::<Origin>().unwrap().to_string(), "https://a.b:8443");
    }

    #[test]
    fn the_names_of_this_machine_are_one() {
        let here: Origin = "https://127.0.0.1:8443".parse().unwrap();
        let is = |text| here.is(&HeaderValue::from_static(text));
        assert!(is("https://127.0.0.1:8443") && is("https://localhost:8443"));
        assert!(is("https://[::1]:8443"));
        for other in ["https://localhost", "http://localhost:8443", "https://a.b:8443", "null"] {
            assert!(!is(other), "{other}");
        }
        assert_eq!(here.loopback_port(), Some(8443));
        assert_eq!("https://a.b:8443".parse::<Origin>().unwrap().loopback_port(), None);
    }
}
