//! Generates the self-signed certificate: a server certificate and the authority that issues it, both
//! with one key.
//!
//! A client that trusts the file trusts the authority in it. A renewal keeps the key and the subject of
//! both. So a client with an older copy of the file accepts the new certificate (RFC 5280 §6.1: an
//! authority is a name and a key). One self-signed certificate without an authority would not do:
//! OpenSSL accepts such a certificate only if it equals the trusted one byte for byte.

use portcullis::random_bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SerialNumber,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

const ORGANIZATION: &str = "Portcullis";
const NAME: &str = "Portcullis self-signed certificate";
const AUTHORITY: &str = "Portcullis self-signed authority";
const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY: Duration = Duration::from_hours(24);
/// Browsers refuse a certificate that lasts longer than 398 days.
const LIFETIME: Duration = Duration::from_hours(397 * 24);
/// The clock of a client may be this much behind.
const LEEWAY: Duration = DAY;
/// A certificate that expires within this time is renewed.
const RENEWAL_WINDOW: Duration = Duration::from_hours(30 * 24);

/// A certificate chain and its key, both PEM.
pub(super) struct Generated {
    pub(super) chain: String,
    pub(super) key: KeyPair,
}

/// Generates a certificate. With the key of an earlier certificate it is a renewal.
pub(super) fn generate(key: Option<&str>, now: SystemTime) -> io::Result<Generated> {
    let (authority, own) = (params(AUTHORITY, now)?, params(NAME, now)?);
    let signed = || {
        let key = key.map_or_else(KeyPair::generate, KeyPair::from_pem)?;
        let chain = sign(authority, own, &key)?;
        Ok::<_, rcgen::Error>(Generated { chain, key })
    };
    signed().map_err(io::Error::other)
}

fn sign(
    mut authority: CertificateParams,
    mut own: CertificateParams,
    key: &KeyPair,
) -> Result<String, rcgen::Error> {
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // A stolen key can impersonate only this server on the local host.
    authority.name_constraints =
        Some(NameConstraints { permitted_subtrees: hosts(), excluded_subtrees: Vec::new() });
    let authority_certificate = authority.self_signed(key)?;
    own.subject_alt_names = CertificateParams::new(HOSTS.map(String::from))?.subject_alt_names;
    own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    own.use_authority_key_identifier_extension = true;
    let certificate = own.signed_by(key, &Issuer::from_params(&authority, key))?;
    Ok(certificate.pem() + &authority_certificate.pem())
}

fn params(name: &str, now: SystemTime) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
    params.distinguished_name.push(DnType::CommonName, name);
    let start = now - LEEWAY;
    (params.not_before, params.not_after) = (start.into(), (start + LIFETIME).into());
    // Clients refuse two certificates of one issuer with the same serial number.
    let mut number: [u8; 16] = random_bytes().map_err(io::Error::other)?;
    // Positive and of full length, as DER encodes integers.
    number[0] = number[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from(number.to_vec()));
    Ok(params)
}

fn hosts() -> Vec<GeneralSubtree> {
    vec![
        GeneralSubtree::DnsName("localhost".into()),
        GeneralSubtree::IpAddress(CidrSubnet::V4([127, 0, 0, 1], [255; 4])),
        GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(
            std::net::Ipv6Addr::LOCALHOST.octets(),
            128,
        )),
    ]
}

/// Whether the certificate in `chain` expires within [`RENEWAL_WINDOW`]. A certificate that cannot be
/// verified, such as one from another issuer, is not renewed.
pub(super) fn is_due(chain: &[u8], now: SystemTime) -> bool {
    expires_before(chain, now + RENEWAL_WINDOW).unwrap_or(false)
}

/// Whether a client that trusts the file would find the certificate in it expired at that time.
fn expires_before(chain: &[u8], at: SystemTime) -> Option<bool> {
    let chain: Vec<CertificateDer<'_>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().ok()?;
    let (own, authority) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(chain.iter().cloned());
    let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).ok()?);
    let client = (trusted > 0).then(|| WebPkiServerVerifier::builder(Arc::new(roots)).build())?;
    let name = ServerName::try_from("localhost").ok()?;
    match client.ok()?.verify_server_cert(own, authority, &name, &[], at) {
        Err(rustls::Error::InvalidCertificate(why)) => Some(matches!(
            why,
            rustls::CertificateError::Expired | rustls::CertificateError::ExpiredContext { .. }
        )),
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs;

    const YEAR: Duration = Duration::from_hours(365 * 24);

    /// Whether a client that trusts the file `trusted` accepts the certificate in `served`.
    fn accepts(trusted: &str, served: &str, at: SystemTime) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        let certificates = |pem: &str| {
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap()
        };
        roots.add_parsable_certificates(certificates(trusted));
        let client = WebPkiServerVerifier::builder(Arc::new(roots)).build().unwrap();
        let served = certificates(served);
        let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        for host in HOSTS {
            let name = ServerName::try_from(host).unwrap();
            client.verify_server_cert(&served[0], &served[1..], &name, &[], at)?;
        }
        Ok(())
    }

    #[test]
    fn client_that_trusts_the_old_file_accepts_the_renewed_certificate() {
        let _ = aws_lc_rs::default_provider().install_default();
        let now = SystemTime::now();
        let old = generate(None, now).unwrap();
        accepts(&old.chain, &old.chain, now).unwrap();
        let key = old.key.serialize_pem();
        let renewed = generate(Some(&key), now + YEAR).unwrap();
        assert_eq!(renewed.key.serialize_pem(), key);
        assert_ne!(renewed.chain, old.chain);
        accepts(&old.chain, &renewed.chain, now + YEAR).unwrap();
        accepts(&renewed.chain, &renewed.chain, now + 2 * YEAR).unwrap();
        // Another key is another authority, although it has the same name.
        let other = generate(None, now).unwrap();
        assert!(accepts(&old.chain, &other.chain, now).is_err());
    }

    #[test]
    fn certificate_lasts_397_days_and_is_renewed_in_the_last_30() {
        let _ = aws_lc_rs::default_provider().install_default();
        let now = SystemTime::now();
        let chain = generate(None, now).unwrap().chain;
        let end = now - LEEWAY + 397 * DAY;
        let minute = Duration::from_mins(1);
        assert!(!expires_before(chain.as_bytes(), end - minute).unwrap());
        assert!(expires_before(chain.as_bytes(), end + minute).unwrap());
        assert!(!is_due(chain.as_bytes(), end - 30 * DAY - minute));
        assert!(is_due(chain.as_bytes(), end - 30 * DAY + minute));
        assert!(!is_due(b"no certificate", end));
    }
}
