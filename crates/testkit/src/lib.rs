//! Shared code of the tests, benches and fuzz targets of the portcullis crates. Never published.

mod base64;
mod chance;
mod disk;
mod keys;
mod needs;

pub mod audit;
pub mod etcd;
pub mod frames;
pub mod model;
pub mod proxy;
pub mod scripted;
pub mod serving;
pub mod surgery;

pub use self::{
    base64::base64,
    chance::{Chance, grouped, number, seeded},
    disk::{copy, records, replace, room},
    keys::{basic, builder, home, issue, new_key, scopes},
    needs::check_needs,
};
pub use portcullis_needs::needs;

/// The root of the repository.
pub const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
