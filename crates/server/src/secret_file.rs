//! Reads the operator's secret files: the key of a certificate, a pepper, a password.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

/// Reads a secret file of at most `max_bytes` bytes from any place, also through a link. Its group may read it,
/// others may not. A pipe is accepted, so that a shell can pass the output of a program.
///
/// The error names the problem of the file; the caller adds the path.
pub fn read_private(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    let mode = about.mode() & 0o7777;
    let refuse = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if about.is_dir() {
        return refuse("it is a directory; name a file".into());
    }
    if !about.is_file() && !about.file_type().is_fifo() {
        return refuse("it is not a regular file; name one".into());
    }
    if mode & 0o004 != 0 {
        return refuse(format!(
            "everybody can read it (mode {mode:03o}); close it (chmod 600, or 640 for a group) and consider replacing the secret"
        ));
    }
    if mode & 0o022 != 0 {
        return refuse(format!(
            "others can write to it (mode {mode:03o}); check it, then close it (chmod go-w)"
        ));
    }
    let mut secret =
        Vec::with_capacity(usize::try_from(max_bytes.saturating_add(1)).unwrap_or_default());
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut secret)?;
    if secret.len() as u64 > max_bytes {
        return refuse(format!("it is larger than {max_bytes} bytes; is it the right file?"));
    }
    Ok(secret)
}
