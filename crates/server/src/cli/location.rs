//! The options that locate a store and open it.

use super::{disk::DiskReserve, etcd::Nodes, failure::Failure, secret_file};
use clap::Args;
use portcullis::{Builder, Offline, Store};
use portcullis_admin::control;
use std::{env, fs::DirBuilder, io, os::unix::fs::DirBuilderExt, path::PathBuf};

const MAX_PEPPER_BYTES: u64 = 4096;

/// The options that locate a store and open it.
#[derive(Args, Clone)]
#[command(next_help_heading = "Options of the store")]
pub(crate) struct Location {
    /// The directory of the store.
    #[arg(
        long,
        alias = "data-dir",
        global = true,
        value_name = "DIR",
        env = "PORTCULLIS_DATA",
        default_value = "./portcullis-data"
    )]
    pub(crate) data: PathBuf,
    /// A file on another disk by which a rollback of the store is detected.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) anchor: Option<PathBuf>,
    /// A file with a pepper that goes into every digest; closed to other users.
    #[arg(long, global = true, value_name = "FILE", env = "PORTCULLIS_PEPPER_FILE")]
    pub(crate) pepper_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) disk: DiskReserve,
    #[command(flatten)]
    pub(crate) etcd: Nodes,
}

impl Location {
    /// Returns a builder with these options.
    pub(crate) fn builder(&self) -> Result<Builder, Failure> {
        let mut builder = Store::builder();
        if let Some(file) = &self.anchor {
            builder = builder.anchor(file);
        }
        if let Some(pepper) = self.pepper()? {
            builder = builder.pepper(pepper);
        }
        if let Some(bytes) = self.disk.disk_reserve {
            builder = builder.disk_reserve(bytes);
        }
        Ok(builder)
    }

    /// Returns these options for work on a store that is not open.
    pub(crate) fn offline(&self) -> Result<Offline, Failure> {
        let mut offline = Offline::new();
        if let Some(file) = &self.anchor {
            offline = offline.anchor(file);
        }
        if let Some(pepper) = self.pepper()? {
            offline = offline.pepper(pepper);
        }
        Ok(offline)
    }

    fn pepper(&self) -> Result<Option<Vec<u8>>, Failure> {
        let file = self.pepper_file.as_ref();
        file.map(|file| secret_file::read(file, "pepper file", MAX_PEPPER_BYTES)).transpose()
    }

    /// Opens the existing store.
    pub(crate) fn open(&self) -> Result<Store, Failure> {
        let builder = self.builder()?;
        if !self.etcd.are_given() {
            return Ok(builder.open_existing(&self.data)?);
        }
        #[cfg(feature = "cluster")]
        return Ok(builder.open_cluster(self.etcd.reach()?, self.etcd.replica())?);
        #[cfg(not(feature = "cluster"))]
        Err(self.etcd.refuse())
    }

    /// Creates the store and opens it.
    pub(crate) fn create(&self, builder: Builder) -> Result<Store, Failure> {
        if !self.etcd.are_given() {
            return Ok(builder.create(&self.data)?);
        }
        #[cfg(feature = "cluster")]
        return Ok(builder.create_cluster(self.etcd.reach()?, self.etcd.replica())?);
        #[cfg(not(feature = "cluster"))]
        Err(self.etcd.refuse())
    }

    /// Creates the directory of a replica, for its control socket and its certificate.
    pub(crate) fn prepare_for_replica(&self) -> Result<(), Failure> {
        let shown = self.data.display();
        if self.data.join("ledger").exists() {
            return Err(Failure::usage(format!(
                "{shown} holds a store; move it into etcd with: cluster import --from {shown}, and pass another directory with --data"
            )));
        }
        if control::connect(&self.data).is_ok() {
            return Err(Failure::unreachable(format!("a server already runs in {shown}")));
        }
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&self.data);
        created.map_err(Failure::io(format!("creating {shown}")))
    }

    /// Whether the directory of the store is absent.
    pub(crate) fn is_absent(&self) -> bool {
        self.data.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}

/// Returns the directory for temporary files.
pub(crate) fn scratch() -> PathBuf {
    // The standard library treats an empty TMPDIR as the current directory.
    Some(env::temp_dir()).filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| "/tmp".into())
}
