//! Opening the store itself.

use super::{args::Place, failure::Failure};
use portcullis::{Builder, Store};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

const MOST_PEPPER_BYTES: u64 = 4096;

impl Place {
    /// What it takes to open or to make the store.
    pub(crate) fn builder(&self) -> Result<Builder, Failure> {
        let mut builder = Store::builder();
        if let Some(file) = &self.anchor {
            builder = builder.anchor(file);
        }
        if let Some(file) = &self.pepper_file {
            builder = builder.pepper(pepper(file)?);
        }
        Ok(builder)
    }

    /// Whether there is nothing at all where the store should be.
    pub(crate) fn is_absent(&self) -> bool {
        self.data.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}

fn pepper(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let file = File::open(path).map_err(Failure::io(format!("opening the pepper file {shown}")))?;
    let about =
        file.metadata().map_err(Failure::io(format!("looking at the pepper file {shown}")))?;
    if about.mode() & 0o077 != 0 {
        return Err(Failure::failed(format!(
            "others can read the pepper file {shown}; close it to them (chmod 600) and consider another pepper"
        )));
    }
    let mut pepper = Vec::with_capacity(4096);
    file.take(MOST_PEPPER_BYTES + 1)
        .read_to_end(&mut pepper)
        .map_err(Failure::io(format!("reading the pepper file {shown}")))?;
    if pepper.len() as u64 > MOST_PEPPER_BYTES {
        return Err(Failure::failed(format!(
            "the pepper file {shown} is larger than {MOST_PEPPER_BYTES} bytes; is it the right file?"
        )));
    }
    // An editor ends the file with a line break that nobody meant.
    if pepper.last() == Some(&b'\n') {
        pepper.pop();
    }
    Ok(pepper)
}
