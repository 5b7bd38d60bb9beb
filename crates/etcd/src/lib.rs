//! The engine is etcd: every transaction of the protocol, and the one room that knows its client.

mod access;
mod import;
mod journal;
mod nodes;
mod rows;
mod space;
mod tail;
#[cfg(test)]
pub(super) mod tests;
mod trail;
mod uses;

pub use self::access::Etcd;
pub(crate) use self::{
    import::{Importing, Part},
    journal::EtcdJournal,
};
