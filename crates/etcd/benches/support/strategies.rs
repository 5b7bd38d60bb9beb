//! Strategies to propagate a revocation to replicas over etcd: that of Portcullis, and simpler ones. A
//! replica keeps its keys in memory and authenticates from there.

use etcd_client::{Client, GetOptions, WatchOptions};
use portcullis::{KeyId, Refusal, Store, cluster::Replica};
use portcullis_etcd::{Etcd, EtcdStore};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
    time::{sleep, timeout},
};

/// A strategy to propagate revocations.
pub(crate) trait Strategy: Sync {
    /// Returns whether a replica accepts a key; `None` if it is unavailable.
    fn check(&self, replica: usize, key: usize) -> Option<bool>;

    /// Revokes a key. Returns when the revocation is complete, as far as the strategy can know.
    fn revoke(&self, key: usize);
}

/// Acknowledgements, and a gate that closes on replicas which do not acknowledge.
pub(crate) struct Portcullis {
    pub(crate) stores: Vec<Store>,
    pub(crate) keys: Vec<(KeyId, String)>,
}

impl Portcullis {
    /// Opens a replica of an existing store for each list of nodes.
    pub(crate) fn open(nodes: &[Vec<String>], freshness: Duration) -> Self {
        let open = |(number, urls): (usize, &Vec<String>)| {
            let replica = Replica::named(format!("replica {number}")).freshness(freshness);
            portcullis_testkit::builder()
                .open_cluster(EtcdStore::new(&Etcd::at(urls.clone()).unwrap()).unwrap(), replica)
                .unwrap()
        };
        Self { stores: nodes.iter().enumerate().map(open).collect(), keys: Vec::new() }
    }
}

impl Strategy for Portcullis {
    fn check(&self, replica: usize, key: usize) -> Option<bool> {
        match self.stores[replica].authenticate_key(self.keys[key].1.as_bytes()) {
            Ok(_) => Some(true),
            Err(Refusal::Unavailable) => None,
            Err(_) => Some(false),
        }
    }

    fn revoke(&self, key: usize) {
        self.stores[0].revoke_everywhere(self.keys[key].0).unwrap();
    }
}

/// How a rival propagates a revocation.
#[derive(Clone, Copy)]
pub(crate) enum Propagation {
    /// Each replica reads all keys again at this interval.
    Poll(Duration),
    /// Each replica watches the keys. A revocation waits for no replica.
    Watch,
    /// Each replica watches the keys and acknowledges changes. A revocation waits for all of them, at
    /// most for this timeout. Later revocations do not wait for replicas that timed out.
    Acknowledge(Duration),
}

/// Replicas without a gate, which are always available.
pub(crate) struct Rival {
    runtime: Runtime,
    etcd: Client,
    prefix: String,
    propagation: Propagation,
    active: Vec<Arc<Vec<AtomicBool>>>,
    /// The newest revision that each replica acknowledged.
    acknowledged: watch::Receiver<Vec<i64>>,
    timed_out: AtomicUsize,
}

impl Rival {
    /// Starts a replica with this many keys for each list of nodes. Changes go to the first list.
    pub(crate) fn start(
        prefix: &str,
        propagation: Propagation,
        nodes: &[Vec<String>],
        keys: usize,
    ) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let etcd = runtime.block_on(Client::connect(&nodes[0], None)).unwrap();
        let mut active = Vec::new();
        let (sender, acknowledged) = watch::channel(vec![0; nodes.len()]);
        for (number, urls) in nodes.iter().enumerate() {
            let keys: Vec<_> = (0..keys).map(|_| AtomicBool::new(true)).collect();
            let keys = Arc::new(keys);
            active.push(Arc::clone(&keys));
            let client = runtime.block_on(Client::connect(urls, None)).unwrap();
            let prefix = prefix.to_owned();
            runtime.spawn(async move {
                match propagation {
                    Propagation::Poll(interval) => poll(client, &prefix, &keys, interval).await,
                    Propagation::Watch => watch_keys(client, &prefix, &keys, None).await,
                    Propagation::Acknowledge(_) => {
                        watch_keys(client, &prefix, &keys, Some(number)).await;
                    }
                }
            });
        }
        if let Propagation::Acknowledge(_) = propagation {
            runtime.spawn(watch_acknowledgements(etcd.clone(), format!("{prefix}/ack/"), sender));
        }
        // Wait until all replicas watch.
        std::thread::sleep(Duration::from_millis(500));
        let (prefix, timed_out) = (prefix.to_owned(), AtomicUsize::new(0));
        Self { runtime, etcd, prefix, propagation, active, acknowledged, timed_out }
    }
}

impl Strategy for Rival {
    fn check(&self, replica: usize, key: usize) -> Option<bool> {
        Some(self.active[replica][key].load(SeqCst))
    }

    fn revoke(&self, key: usize) {
        let (mut etcd, mut acknowledged) = (self.etcd.clone(), self.acknowledged.clone());
        self.runtime.block_on(async {
            // Retry, since etcd may have no leader for a moment.
            let put = loop {
                match etcd.put(format!("{}/k/{key}", self.prefix), "0", None).await {
                    Ok(put) => break put,
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            };
            let revision = put.header().unwrap().revision();
            if let Propagation::Acknowledge(limit) = self.propagation {
                let missing =
                    |revisions: &Vec<i64>| revisions.iter().filter(|at| **at < revision).count();
                let wait = acknowledged
                    .wait_for(|revisions| missing(revisions) <= self.timed_out.load(SeqCst));
                if timeout(limit, wait).await.is_err() {
                    self.timed_out.store(missing(&self.acknowledged.borrow()), SeqCst);
                }
            }
        });
    }
}

/// Applies the value of a key in etcd to the memory of a replica.
fn apply(keys: &[AtomicBool], key: &[u8], value: &[u8]) {
    let number = str::from_utf8(key).ok().and_then(|key| key.rsplit('/').next()?.parse().ok());
    if let Some(key) = number.and_then(|number: usize| keys.get(number)) {
        key.store(value != b"0", SeqCst);
    }
}

async fn poll(mut client: Client, prefix: &str, keys: &[AtomicBool], interval: Duration) {
    let options = GetOptions::new().with_prefix();
    loop {
        if let Ok(found) = client.get(format!("{prefix}/k/"), Some(options.clone())).await {
            found.kvs().iter().for_each(|pair| apply(keys, pair.key(), pair.value()));
        }
        sleep(interval).await;
    }
}

async fn watch_keys(
    mut client: Client,
    prefix: &str,
    keys: &[AtomicBool],
    acknowledges_as: Option<usize>,
) {
    let options = WatchOptions::new().with_prefix();
    let mut stream = client.watch(format!("{prefix}/k/"), Some(options)).await.unwrap();
    while let Ok(Some(message)) = stream.message().await {
        for pair in message.events().iter().filter_map(|event| event.kv()) {
            apply(keys, pair.key(), pair.value());
            if let Some(number) = acknowledges_as {
                let at = pair.mod_revision().to_string();
                let _ = client.put(format!("{prefix}/ack/{number}"), at, None).await;
            }
        }
    }
}

async fn watch_acknowledgements(
    mut client: Client,
    prefix: String,
    sender: watch::Sender<Vec<i64>>,
) {
    let options = WatchOptions::new().with_prefix();
    let mut stream = client.watch(prefix, Some(options)).await.unwrap();
    while let Ok(Some(message)) = stream.message().await {
        for pair in message.events().iter().filter_map(|event| event.kv()) {
            let number = pair.key_str().unwrap().rsplit('/').next().unwrap().parse::<usize>();
            let at = pair.value_str().unwrap().parse().unwrap();
            sender.send_modify(|revisions| revisions[number.unwrap()] = at);
        }
    }
}
