//! The server's certificate: the operator's, or a self-signed one for development.

use super::{secret_file::read_private, self_signed};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use portcullis::files::Dir;
use rustls::crypto::aws_lc_rs;
use std::{
    fmt,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use zeroize::Zeroizing;

/// The directory of the self-signed certificate, in the data directory.
const DIR: &str = "tls";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
/// More than any certificate chain.
const MAX_FILE_BYTES: u64 = 1 << 20;
const DAY: Duration = Duration::from_hours(24);

/// A certificate chain and its private key. Both files are read again on SIGHUP.
#[derive(Clone)]
pub struct Certificate {
    config: RustlsConfig,
    cert: PathBuf,
    key: PathBuf,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("cert", &self.cert)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The files are not a certificate chain and its key.
    #[error(
        "{cert} and {key} cannot serve as a certificate ({cause}); both must be PEM files that belong together"
    )]
    Unusable {
        /// The file of the certificate chain.
        cert: PathBuf,
        /// The file of the private key.
        key: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// One of the files cannot be read, or everybody can read the private key.
    #[error("the {what} {path} cannot be used: {cause}")]
    Unreadable {
        /// Which of the two files.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The self-signed certificate could not be created.
    #[error(
        "no certificate could be created in {dir} ({cause}); pass one with --tls-cert and --tls-key"
    )]
    NotGenerated {
        /// The directory for the certificate.
        dir: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

impl Certificate {
    /// Reads a certificate chain and its key, both PEM.
    pub async fn read(cert: &Path, key: &Path) -> Result<Self, CertificateError> {
        // The second call in a process fails and changes nothing, which is fine.
        let _ = aws_lc_rs::default_provider().install_default();
        let (cert, key) = (cert.to_path_buf(), key.to_path_buf());
        let (chain, secret) = Self::read_files(&cert, &key)?;
        match RustlsConfig::from_pem(chain, secret).await {
            Ok(config) => Ok(Self { config, cert, key }),
            Err(cause) => Err(CertificateError::Unusable { cert, key, cause }),
        }
    }

    /// Reads the contents of the two files.
    fn read_files(cert: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), CertificateError> {
        let unreadable = |what, path: &Path| {
            let path = path.to_path_buf();
            move |cause| CertificateError::Unreadable { what, path, cause }
        };
        let secret = read_private(key, MAX_FILE_BYTES).map_err(unreadable("private key", key))?;
        let mut chain = Vec::new();
        let read =
            File::open(cert).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut chain));
        read.map_err(unreadable("certificate", cert))?;
        Ok((chain, secret))
    }

    /// Reads the two files again, for the connections from now on. On an error the old certificate
    /// stays.
    pub(crate) async fn reload(&self) -> Result<(), CertificateError> {
        let (cert, key) = (&self.cert, &self.key);
        let (chain, secret) = Self::read_files(cert, key)?;
        self.config.reload_from_pem(chain, secret).await.map_err(|cause| {
            CertificateError::Unusable { cert: cert.clone(), key: key.clone(), cause }
        })
    }

    /// Returns the self-signed certificate in `tls` in the data directory, for the local host only.
    /// Creates it if there is none, and renews it 30 days before it expires. No public authority has
    /// signed it: a client must trust the file (`curl --cacert`) or skip verification (`curl -k`).
    pub async fn self_signed(data: &Path) -> Result<Self, CertificateError> {
        let _ = aws_lc_rs::default_provider().install_default();
        let not_generated = |cause| CertificateError::NotGenerated { dir: data.join(DIR), cause };
        let dir = certificate_directory(data).map_err(not_generated)?;
        if !dir.has(CERT.as_ref()).map_err(not_generated)? {
            create(&dir).map_err(not_generated)?;
        }
        // Checks that both files belong to this user and are closed to others.
        for name in [CERT, KEY] {
            dir.open_to_read(name.as_ref()).map_err(not_generated)?;
        }
        renew_and_log(&dir);
        let own = Self::read(&dir.path().join(CERT), &dir.path().join(KEY)).await?;
        tokio::spawn(renew_daily(own.clone(), dir));
        Ok(own)
    }

    pub(crate) fn acceptor(&self) -> RustlsAcceptor {
        RustlsAcceptor::new(self.config.clone())
    }
}

fn certificate_directory(data: &Path) -> io::Result<Dir> {
    let data = Dir::open(data)?;
    let dir = if data.has(DIR.as_ref())? {
        data.open_dir(DIR.as_ref())?
    } else {
        data.create_dir(DIR.as_ref())?
    };
    dir.close_to_others()?;
    Ok(dir)
}

fn create(dir: &Dir) -> io::Result<()> {
    let generated = self_signed::generate(None, SystemTime::now())?;
    // The certificate is written last: if it exists, the key is complete. A key without a certificate
    // is left over from an interrupted attempt.
    replace(dir, KEY, Zeroizing::new(generated.key.serialize_pem()).as_bytes())?;
    replace(dir, CERT, generated.chain.as_bytes())
}

/// Renews the certificate if it is due. Returns whether it was renewed.
fn renew(dir: &Dir, now: SystemTime) -> io::Result<bool> {
    let content = |name: &str| {
        let mut text = Zeroizing::new(String::new());
        let file = dir.open_to_read(name.as_ref())?;
        file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
        Ok::<_, io::Error>(text)
    };
    if !self_signed::is_due(content(CERT)?.as_bytes(), now) {
        return Ok(false);
    }
    let renewed = self_signed::generate(Some(&content(KEY)?), now)?;
    replace(dir, CERT, renewed.chain.as_bytes())?;
    Ok(true)
}

/// Renews the certificate if it is due, and logs the outcome. Returns whether it was renewed; if not, the
/// old certificate stays in use.
fn renew_and_log(dir: &Dir) -> bool {
    let file = dir.path().join(CERT);
    let file = file.display();
    let renewed = renew(dir, SystemTime::now());
    match &renewed {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            %file,
            "renewed the self-signed certificate, with the same key and subject; clients that trust the old file can \
             connect until the old certificate expires, within 30 days: give them the new file"
        ),
        Err(error) => tracing::error!(
            %file, %error,
            "the self-signed certificate expires within 30 days and cannot be renewed; fix the cause and restart"
        ),
    }
    renewed.unwrap_or(false)
}

/// Checks each day, because a server may run for longer than its certificate is valid.
async fn renew_daily(own: Certificate, dir: Dir) {
    let mut days = tokio::time::interval(DAY);
    days.tick().await;
    loop {
        days.tick().await;
        if renew_and_log(&dir)
            && let Err(error) = own.reload().await
        {
            tracing::error!(%error, "the old certificate stays");
        }
    }
}

/// Replaces the content of a file atomically.
fn replace(dir: &Dir, name: &str, text: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.new");
    let _ = dir.remove_file(temporary.as_ref());
    let mut file = dir.create_file(temporary.as_ref())?;
    file.write_all(text)?;
    file.sync_all()?;
    dir.rename(temporary.as_ref(), name.as_ref())?;
    dir.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    #[tokio::test]
    async fn link_in_place_of_the_directory_or_its_files_is_refused() {
        let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = data.path().join("tls");
        symlink(elsewhere.path(), &dir).unwrap();
        let refused = Certificate::self_signed(data.path()).await.err().unwrap().to_string();
        assert!(refused.contains("symbolic link"), "{refused}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        fs::remove_file(&dir).unwrap();
        Certificate::self_signed(data.path()).await.unwrap();
        fs::rename(dir.join("key.pem"), elsewhere.path().join("key.pem")).unwrap();
        symlink(elsewhere.path().join("key.pem"), dir.join("key.pem")).unwrap();
        let refused = Certificate::self_signed(data.path()).await.err().unwrap().to_string();
        assert!(refused.contains("symbolic link"), "{refused}");
    }

    #[tokio::test]
    async fn private_key_may_be_readable_by_its_group_but_not_by_everybody() {
        let data = tempfile::tempdir().unwrap();
        Certificate::self_signed(data.path()).await.unwrap();
        let (cert, key) = (data.path().join("tls/cert.pem"), data.path().join("tls/key.pem"));
        let link = data.path().join("link.pem");
        symlink(&key, &link).unwrap();
        for (mode, accepted) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false)] {
            fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
            let read = Certificate::read(&cert, &link).await;
            assert_eq!(read.is_ok(), accepted, "{mode:o}");
            if let Err(error) = read {
                let error = error.to_string();
                assert!(error.contains("link.pem") && error.contains("chmod"), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn missing_file_is_named() {
        let data = tempfile::tempdir().unwrap();
        Certificate::self_signed(data.path()).await.unwrap();
        let (cert, key) = (data.path().join("tls/cert.pem"), data.path().join("tls/key.pem"));
        let absent = data.path().join("absent.pem");
        for (cert, key, what) in [(&absent, &key, "certificate"), (&cert, &absent, "private key")] {
            let error = Certificate::read(cert, key).await.err().unwrap().to_string();
            assert!(error.contains(&format!("{what} {}", absent.display())), "{error}");
        }
    }

    #[tokio::test]
    async fn self_signed_certificate_is_created_once_and_closed_to_others() {
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("tls");
        Certificate::self_signed(data.path()).await.unwrap();
        let first = fs::read(dir.join("cert.pem")).unwrap();
        Certificate::self_signed(data.path()).await.unwrap();
        assert_eq!(fs::read(dir.join("cert.pem")).unwrap(), first);
        for (path, mode) in [(dir.clone(), 0o700), (dir.join("key.pem"), 0o600)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[tokio::test]
    async fn due_certificate_is_renewed_at_start_with_the_same_key() {
        let _ = aws_lc_rs::default_provider().install_default();
        let data = tempfile::tempdir().unwrap();
        let dir = certificate_directory(data.path()).unwrap();
        let long_ago = SystemTime::now() - 380 * DAY;
        let generated = self_signed::generate(None, long_ago).unwrap();
        replace(&dir, KEY, generated.key.serialize_pem().as_bytes()).unwrap();
        replace(&dir, CERT, generated.chain.as_bytes()).unwrap();
        assert!(!renew(&dir, long_ago).unwrap());
        Certificate::self_signed(data.path()).await.unwrap();
        let read = |name| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_ne!(read(CERT), generated.chain);
        assert_eq!(read(KEY), generated.key.serialize_pem());
        assert!(!renew(&dir, SystemTime::now()).unwrap());
    }

    #[tokio::test]
    async fn malformed_certificate_file_is_named() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("cert.pem");
        fs::write(&file, "not a certificate").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let error = Certificate::read(&file, &file).await.err().unwrap();
        assert!(error.to_string().contains("cert.pem"), "{error}");
    }
}
