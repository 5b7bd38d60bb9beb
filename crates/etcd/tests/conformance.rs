//! Checks the consensus store in etcd against the contract of the protocol, on one node and on three.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use portcullis::cluster::conformance::{self, Fixture};
use portcullis_etcd::{Etcd, EtcdStore};
use portcullis_testkit::{etcd::Etcd as Nodes, needs};

/// Creates stores in one etcd, each in its own space.
struct Cluster {
    nodes: Nodes,
    stores: usize,
}

impl Fixture for Cluster {
    type Store = EtcdStore;

    async fn create(&mut self) -> EtcdStore {
        self.stores += 1;
        self.connect().await
    }

    async fn connect(&mut self) -> EtcdStore {
        let etcd = Etcd::at(self.nodes.urls()).unwrap();
        EtcdStore::new(&etcd.space(format!("store-{}/", self.stores)).unwrap()).unwrap()
    }

    async fn compact(&mut self) {
        self.nodes.compact();
    }

    async fn stop(&mut self) {
        (0..self.nodes.count()).for_each(|node| self.nodes.freeze(node));
    }

    async fn start(&mut self) {
        (0..self.nodes.count()).for_each(|node| self.nodes.restart(node));
        assert!(self.nodes.wait_until_up());
    }
}

async fn conforms(nodes: usize) {
    conformance::check(&mut Cluster { nodes: Nodes::start(nodes), stores: 0 }).await.unwrap();
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn one_node_conforms() {
    conforms(1).await;
}

#[needs("etcd", "etcdctl")]
#[tokio::test]
async fn three_nodes_conform() {
    conforms(3).await;
}
