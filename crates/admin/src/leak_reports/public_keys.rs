//! The public keys of a secret-scanning service, from a file that is read again when it changes.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use data_encoding::BASE64;
use serde::Deserialize;
use std::{
    collections::HashMap,
    fmt,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// How long a change of the file may stay unnoticed. Requests without a valid signature cause no more
/// reads of the file than this.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The keys by their identifiers. A key that is not current still verifies: reports that are in flight
/// during a rotation have its signature.
pub(super) type Keys = HashMap<String, ParsedPublicKey>;

/// The public keys of `--leak-keys` cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: {reason}; write the response of https://api.github.com/meta/public_keys/secret_scanning to that file",
    file.display()
)]
pub struct LeakKeysError {
    file: PathBuf,
    reason: String,
}

/// The file and its last content.
pub(super) struct PublicKeys {
    file: PathBuf,
    newest: Mutex<Newest>,
}

struct Newest {
    keys: Arc<Keys>,
    version: Option<Version>,
    checked: Instant,
}

/// The facts by which a change of a file is detected.
#[derive(PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Version {
    fn of(file: &Path) -> Option<Self> {
        let of = |facts: Metadata| Self {
            modified: facts.modified().ok(),
            length: facts.len(),
            inode: facts.ino(),
        };
        fs::metadata(file).ok().map(of)
    }
}

impl PublicKeys {
    pub(super) fn open(file: PathBuf) -> Result<Self, LeakKeysError> {
        let version = Version::of(&file);
        match read(&file) {
            Ok(keys) => {
                let newest = Newest { keys: Arc::new(keys), version, checked: Instant::now() };
                Ok(Self { file, newest: Mutex::new(newest) })
            }
            Err(reason) => Err(LeakKeysError { file, reason }),
        }
    }

    /// Returns the keys, read again if the file has changed. A file that cannot be read leaves the last
    /// keys in place, and is logged.
    pub(super) fn current(&self) -> Arc<Keys> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.checked.elapsed() >= CHECK_INTERVAL {
            newest.checked = Instant::now();
            let version = Version::of(&self.file);
            if version != newest.version {
                newest.version = version;
                match read(&self.file) {
                    Ok(keys) => {
                        tracing::info!(keys = keys.len(), "read the keys of secret scanning again");
                        newest.keys = Arc::new(keys);
                    }
                    Err(reason) => {
                        let error = LeakKeysError { file: self.file.clone(), reason };
                        tracing::error!(%error, "the keys of secret scanning stay as they were");
                    }
                }
            }
        }
        Arc::clone(&newest.keys)
    }
}

impl fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKeys({})", self.file.display())
    }
}

fn read(file: &Path) -> Result<Keys, String> {
    let mut text = String::new();
    let read = |text: &mut String| -> io::Result<usize> {
        File::open(file)?.take(MAX_FILE_BYTES).read_to_string(text)
    };
    read(&mut text).map_err(|error| error.to_string())?;
    parse(&text)
}

fn parse(text: &str) -> Result<Keys, String> {
    #[derive(Deserialize)]
    struct Document {
        public_keys: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        key_identifier: String,
        key: String,
    }
    let document: Document = serde_json::from_str(text)
        .map_err(|error| format!("it is not a list of public keys ({error})"))?;
    if document.public_keys.is_empty() {
        return Err("it has no public key".into());
    }
    let key = |Entry { key_identifier: id, key }| match public_key(&key) {
        Some(key) => Ok((id, key)),
        None => Err(format!("the key {id:?} is not an ECDSA key on P-256 in PEM")),
    };
    document.public_keys.into_iter().map(key).collect()
}

/// Parses a PEM text with the label `PUBLIC KEY`.
fn public_key(pem: &str) -> Option<ParsedPublicKey> {
    let text = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?;
    let text: String = text.strip_suffix("-----END PUBLIC KEY-----")?.split_whitespace().collect();
    let der = BASE64.decode(text.as_bytes()).ok()?;
    ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published key of GitHub with which the sample of its documentation is signed.
    const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYAGMWO8XgCamYKMJS6jc/qgvSlAd\n\
                       AjPuDPRcXU22YxgBrz+zoN19MzuRyW87qEt9/AmtoNP5GrobzUvQSyJFVw==\n-----END PUBLIC KEY-----\n";
    const SAMPLE: &str = r#"[{"source":"commit","token":"some_token","type":"some_type","url":"https://example.com/base-repo-url/"}]"#;
    const SIGNATURE: &str = "MEQCIQDaMKqrGnE27S0kgMrEK0eYBmyG0LeZismAEz/BgZyt7AIfXt9fErtRS4XaeSt/AO1RtBY66YcAdjxji410VQV4xg==";

    fn document(id: &str, key: &str) -> String {
        serde_json::json!({"public_keys": [{"key_identifier": id, "key": key, "is_current": false}]})
            .to_string()
    }

    #[test]
    fn published_sample_is_verified_and_a_changed_one_is_not() {
        let keys = parse(&document("bcb53661", KEY)).unwrap();
        let signature = BASE64.decode(SIGNATURE.as_bytes()).unwrap();
        assert!(keys["bcb53661"].verify_sig(SAMPLE.as_bytes(), &signature).is_ok());
        let changed = SAMPLE.replace("commit", "Commit");
        assert!(keys["bcb53661"].verify_sig(changed.as_bytes(), &signature).is_err());
    }

    #[test]
    fn unusable_file_is_named_with_its_fault() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        let fault = || PublicKeys::open(file.clone()).map(drop).unwrap_err().to_string();
        let no_point = KEY.replace("EYAGM", "EYAGN");
        for (text, fault_of_text) in [
            ("{}".to_owned(), "not a list of public keys"),
            (r#"{"public_keys":[]}"#.to_owned(), "no public key"),
            (
                document("one", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"),
                "\"one\"",
            ),
            (document("two", &no_point), "\"two\""),
            (document("three", "MFkw"), "\"three\""),
        ] {
            fs::write(&file, text).unwrap();
            let said = fault();
            assert!(said.contains(fault_of_text) && said.contains("keys.json"), "{said}");
        }
        fs::remove_file(&file).unwrap();
        assert!(fault().contains("No such file"));
    }

    #[test]
    fn changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        fs::write(&file, document("one", KEY)).unwrap();
        let keys = PublicKeys::open(file.clone()).unwrap();
        let ids = || {
            keys.newest.lock().unwrap().checked -= CHECK_INTERVAL;
            keys.current().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(ids(), ["one"]);
        fs::write(&file, document("another", KEY)).unwrap();
        assert_eq!(ids(), ["another"]);
        fs::write(&file, "{").unwrap();
        assert_eq!(ids(), ["another"]);
    }
}
