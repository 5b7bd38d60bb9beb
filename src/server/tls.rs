//! The server's certificate: the operator's, or one of its own for development.

use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs;
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A certificate and its private key, ready to serve. They are read again on SIGHUP.
pub struct Certificate {
    config: RustlsConfig,
    cert: PathBuf,
    key: PathBuf,
}

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The files are not a certificate chain and its key.
    #[error(
        "{cert} and {key} cannot serve as a certificate ({source}); both must be PEM files that belong together"
    )]
    Unusable {
        /// The file of the certificate chain.
        cert: PathBuf,
        /// The file of the private key.
        key: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No certificate could be made.
    #[error(
        "no certificate could be made in {dir} ({source}); give one with --tls-cert and --tls-key"
    )]
    NotMade {
        /// Where it should be.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Certificate {
    /// Reads a certificate chain and its key, both PEM.
    pub async fn read(cert: &Path, key: &Path) -> Result<Self, CertificateError> {
        // The second call of a process fails and changes nothing, which is as well.
        let _ = aws_lc_rs::default_provider().install_default();
        let (cert, key) = (cert.to_path_buf(), key.to_path_buf());
        match RustlsConfig::from_pem_file(&cert, &key).await {
            Ok(config) => Ok(Self { config, cert, key }),
            Err(source) => Err(CertificateError::Unusable { cert, key, source }),
        }
    }

    /// Reads the two files again, for the connections from now on. On an error the old certificate
    /// stays.
    pub(crate) async fn reload(&self) -> Result<(), CertificateError> {
        let (cert, key) = (&self.cert, &self.key);
        self.config.reload_from_pem_file(cert, key).await.map_err(|source| {
            CertificateError::Unusable { cert: cert.clone(), key: key.clone(), source }
        })
    }

    /// The certificate kept in `dir`, for this machine only; made there if there is none. Nobody
    /// vouches for it, so clients have to be told not to ask (`curl -k`).
    pub async fn self_signed(dir: &Path) -> Result<Self, CertificateError> {
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        if !cert.exists() {
            make(dir, &cert, &key)
                .map_err(|source| CertificateError::NotMade { dir: dir.into(), source })?;
        }
        Self::read(&cert, &key).await
    }

    pub(crate) fn acceptor(&self) -> RustlsAcceptor {
        RustlsAcceptor::new(self.config.clone())
    }
}

fn make(dir: &Path, cert: &Path, key: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let made = generate_simple_self_signed(names).map_err(io::Error::other)?;
    let CertifiedKey { cert: certificate, signing_key } = made;
    // The certificate comes last: where it is, the key is whole. A key without one is left over
    // from an attempt that was cut short.
    match fs::remove_file(key) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write(key, signing_key.serialize_pem().as_bytes())?;
    let half = dir.join("cert.pem.new");
    let _ = fs::remove_file(&half);
    write(&half, certificate.pem().as_bytes())?;
    fs::rename(&half, cert)
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_self_signed_certificate_is_made_once_and_closed_to_others() {
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("tls");
        Certificate::self_signed(&dir).await.unwrap();
        let first = fs::read(dir.join("cert.pem")).unwrap();
        Certificate::self_signed(&dir).await.unwrap();
        assert_eq!(fs::read(dir.join("cert.pem")).unwrap(), first);
        for (path, mode) in [(dir.clone(), 0o700), (dir.join("key.pem"), 0o600)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[tokio::test]
    async fn what_is_no_certificate_is_named() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("cert.pem");
        fs::write(&file, "not a certificate").unwrap();
        let error = Certificate::read(&file, &file).await.err().unwrap();
        assert!(error.to_string().contains("cert.pem"), "{error}");
    }
}
