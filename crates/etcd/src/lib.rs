//! The consensus store of Portcullis replicas in etcd: every call of the protocol as etcd does it.

mod audit;
mod config;
mod connection;
mod import;
mod keyspace;
mod last_uses;
mod members;
mod nodes;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod watch;

pub use self::{
    config::{ConfigError, Etcd},
    store::EtcdStore,
};
