//! The consensus store of Portcullis replicas in etcd: each call of the protocol as etcd requests.
//!
//! [`Etcd`] configures the nodes, and [`EtcdStore`] implements
//! [`ConsensusStore`](portcullis::cluster::ConsensusStore) over them. Building this crate needs `protoc`.

#![cfg_attr(docsrs, feature(doc_cfg))]

// In reading order: each file imports only from those above it.
mod config;
mod nodes;
mod keyspace;
mod connection;
mod audit;
mod last_uses;
mod members;
mod import;
mod watch;
mod store;

pub use self::{
    config::{ConfigError, Etcd},
    store::EtcdStore,
};
