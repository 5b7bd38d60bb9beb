//! Reads the files with secrets that options name.

use super::failure::Failure;
use portcullis_server::read_private;
use std::path::Path;

/// Reads a file with a secret. The file's group may read it; other users may not.
pub(crate) fn read(path: &Path, what: &str, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let named = format!("the {what} {}", path.display());
    let mut secret =
        read_private(path, max_bytes).map_err(Failure::io(format!("reading {named}")))?;
    // Editors end a file with a line break that is not part of the secret.
    if secret.last() == Some(&b'\n') {
        secret.pop();
    }
    if secret.is_empty() {
        return Err(Failure::failed(format!("{named} is empty; is it the right file?")));
    }
    Ok(secret)
}
