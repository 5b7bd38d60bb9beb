//! `init`: creates a store and its first root key.

use super::{
    args::Init,
    client::{Answer, Client},
    delivery::{self, Reader, Undelivered},
    failure::Failure,
    location::Location,
    output,
};
use axum::http::Method;
use portcullis::{
    Builder, Prefix, Scope, Store,
    scope::{ParseScopeError, catalogue},
};
use rustix::{fs::FallocateFlags, io::Errno};
use serde_json::json;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Bytes that hold a key and its line end.
const KEY_FILE_BYTES: u64 = 64;
/// The name of the preset of scopes.
const FINANCIAL_DATA: &str = "financial-data";

pub(crate) async fn run(
    location: &Location,
    options: &Init,
    json: bool,
) -> Result<ExitCode, Failure> {
    let builder = with_options(location.builder()?, options)?;
    // Create the file first: if it cannot hold the key, no store is created either.
    let mut file = options.key_file.as_deref().map(KeyFile::create).transpose()?;
    let reader = match &file {
        Some(_) => Reader::Some,
        None => delivery::check_standard_output()?,
    };
    delivery::finish_before_signals()?;
    let store = location.create(builder)?;
    let answer = root_key(store).await?;
    match &mut file {
        Some(file) => {
            file.keep(&answer).map_err(|undelivered| lost_root(&undelivered))?;
            if json {
                output::line(format!("{}", json!({"key_file": file.path})).as_bytes())?;
            }
            output::say(&format!("the root key is in {}", file.path.display()));
        }
        None => {
            delivery::show(&answer, reader, json).map_err(|undelivered| lost_root(&undelivered))?;
        }
    }
    if location.etcd.are_given() {
        output::say("the store is in etcd");
    } else {
        output::say(&format!("the store is in {}", location.data.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the failure if the store was created and its root key was not delivered.
pub(crate) fn lost_root(undelivered: &Undelivered) -> Failure {
    undelivered.failure("the store was created with the root key", delivery::rotate_again)
}

/// Issues the first root key of a store.
pub(crate) async fn root_key(store: Store) -> Result<Answer, Failure> {
    let body = json!({"name": "root", "scopes": ["*"]});
    Client::over(store).send(Method::POST, "/v1/keys", Some(&body)).await
}

fn with_options(mut builder: Builder, options: &Init) -> Result<Builder, Failure> {
    if let Some(prefix) = &options.prefix {
        let prefix =
            Prefix::new(prefix).map_err(|error| Failure::usage(format!("--prefix: {error}")))?;
        builder = builder.prefix(prefix);
    }
    let mut scopes = Vec::new();
    for name in &options.scopes {
        if name == FINANCIAL_DATA {
            scopes.extend(catalogue::financial_data());
        } else {
            let scope: Scope = name.parse().map_err(|error: ParseScopeError| {
                Failure::usage(format!("--scopes: {error}; or use the preset {FINANCIAL_DATA}"))
            })?;
            scopes.push((scope, String::new()));
        }
    }
    if !scopes.is_empty() {
        builder = builder.scopes(scopes);
    }
    Ok(builder)
}

/// A new file for the key, closed to other users. It is removed again unless it holds the key.
struct KeyFile {
    path: PathBuf,
    file: File,
    holds_key: bool,
}

impl KeyFile {
    fn create(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let doing = format!("creating the key file {}, which must not exist", path.display());
        let file = file.map_err(Failure::io(doing))?;
        let file = Self { path: path.into(), file, holds_key: false };
        file.reserve()?;
        Ok(file)
    }

    /// Reserves space for the key, so that a full disk is found before the store is created.
    fn reserve(&self) -> Result<(), Failure> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, KEY_FILE_BYTES) {
            // On a file system that cannot reserve, the write itself fails later.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(error) => {
                let doing = format!("reserving space for the key in {}", self.path.display());
                Err(Failure::io(doing)(io::Error::from(error)))
            }
        }
    }

    fn keep(&mut self, answer: &Answer) -> Result<(), Undelivered> {
        let key = delivery::new_key(answer)?;
        let secret = key.secret.as_deref().unwrap_or_default();
        let mut text = Vec::with_capacity(secret.len() + 1);
        text.extend_from_slice(secret.as_bytes());
        text.push(b'\n');
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_all());
        written.map_err(|error| Undelivered {
            id: Some(key.id),
            why: format!("writing to {}: {error}", self.path.display()),
        })?;
        self.holds_key = true;
        Ok(())
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if !self.holds_key {
            let _ = fs::remove_file(&self.path);
        }
    }
}
