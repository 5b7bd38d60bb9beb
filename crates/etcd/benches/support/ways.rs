//! Ways in which replicas learn that a key was taken away, all over the same etcd: ours, and those
//! that one would build first. A replica keeps its keys in memory and answers from there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench stops by it")]

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

/// One way.
pub(crate) trait Way: Sync {
    /// Whether a replica lets a key pass; `None` where it cannot know.
    fn check(&self, replica: usize, key: usize) -> Option<bool>;

    /// Takes a key away; over when it returns, as far as this way can tell.
    fn revoke(&self, key: usize);
}

/// Portcullis: acknowledgements, and a gate for those that give none.
pub(crate) struct Ours {
    pub(crate) stores: Vec<Store>,
    pub(crate) keys: Vec<(KeyId, String)>,
}

impl Ours {
    /// A replica for each list of nodes; the store is there.
    pub(crate) fn open(nodes: &[Vec<String>], freshness: Duration) -> Self {
        let open = |(number, urls): (usize, &Vec<String>)| {
            let replica = Replica::named(format!("replica {number}")).freshness(freshness);
            Store::builder()
                .open_cluster(EtcdStore::new(&Etcd::at(urls.clone()).unwrap()).unwrap(), replica)
                .unwrap()
        };
        Self { stores: nodes.iter().enumerate().map(open).collect(), keys: Vec::new() }
    }
}

impl Way for Ours {
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

/// How the replicas of a rival learn of a revocation, and how long it waits for them.
#[derive(Clone, Copy)]
pub(crate) enum How {
    /// Each asks for everything again after this time.
    Asks(Duration),
    /// Each is told by a watch. Nobody waits.
    Told,
    /// Each is told by a watch and says that it was. A revocation waits for all, and no longer than
    /// this for one that is silent; later ones do not wait for that one any more.
    Says(Duration),
}

/// Replicas without a gate: they always answer.
pub(crate) struct Rival {
    runtime: Runtime,
    engine: Client,
    room: String,
    how: How,
    active: Vec<Arc<Vec<AtomicBool>>>,
    said: watch::Receiver<Vec<i64>>,
    given_up: AtomicUsize,
}

impl Rival {
    /// A replica for each list of nodes, with so many keys; the first list is asked for changes.
    pub(crate) fn start(room: &str, how: How, nodes: &[Vec<String>], keys: usize) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let engine = runtime.block_on(Client::connect(&nodes[0], None)).unwrap();
        let mut active = Vec::new();
        let (say, said) = watch::channel(vec![0; nodes.len()]);
        for (number, urls) in nodes.iter().enumerate() {
            let keys: Vec<_> = (0..keys).map(|_| AtomicBool::new(true)).collect();
            let keys = Arc::new(keys);
            active.push(Arc::clone(&keys));
            let client = runtime.block_on(Client::connect(urls, None)).unwrap();
            let room = room.to_owned();
            runtime.spawn(async move {
                match how {
                    How::Asks(every) => ask(client, &room, &keys, every).await,
                    How::Told => listen(client, &room, &keys, None).await,
                    How::Says(_) => listen(client, &room, &keys, Some(number)).await,
                }
            });
        }
        if let How::Says(_) = how {
            runtime.spawn(hear(engine.clone(), format!("{room}/said/"), say));
        }
        // Until all of them watch.
        std::thread::sleep(Duration::from_millis(500));
        let (room, given_up) = (room.to_owned(), AtomicUsize::new(0));
        Self { runtime, engine, room, how, active, said, given_up }
    }
}

impl Way for Rival {
    fn check(&self, replica: usize, key: usize) -> Option<bool> {
        Some(self.active[replica][key].load(SeqCst))
    }

    fn revoke(&self, key: usize) {
        let (mut engine, mut said) = (self.engine.clone(), self.said.clone());
        self.runtime.block_on(async {
            // As often as it takes: etcd may be without a leader for a moment.
            let put = loop {
                match engine.put(format!("{}/k/{key}", self.room), "0", None).await {
                    Ok(put) => break put,
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            };
            let revision = put.header().unwrap().revision();
            if let How::Says(patience) = self.how {
                let silent = |said: &Vec<i64>| said.iter().filter(|at| **at < revision).count();
                let wait = said.wait_for(|said| silent(said) <= self.given_up.load(SeqCst));
                if timeout(patience, wait).await.is_err() {
                    self.given_up.store(silent(&self.said.borrow()), SeqCst);
                }
            }
        });
    }
}

/// What a replica is told of a key.
fn note(keys: &[AtomicBool], key: &[u8], value: &[u8]) {
    let number = str::from_utf8(key).ok().and_then(|key| key.rsplit('/').next()?.parse().ok());
    if let Some(key) = number.and_then(|number: usize| keys.get(number)) {
        key.store(value != b"0", SeqCst);
    }
}

async fn ask(mut client: Client, room: &str, keys: &[AtomicBool], every: Duration) {
    let prefix = GetOptions::new().with_prefix();
    loop {
        if let Ok(found) = client.get(format!("{room}/k/"), Some(prefix.clone())).await {
            found.kvs().iter().for_each(|pair| note(keys, pair.key(), pair.value()));
        }
        sleep(every).await;
    }
}

async fn listen(client: Client, room: &str, keys: &[AtomicBool], says: Option<usize>) {
    let (mut watching, mut saying) = (client.clone(), client);
    let prefix = WatchOptions::new().with_prefix();
    let mut stream = watching.watch(format!("{room}/k/"), Some(prefix)).await.unwrap();
    while let Ok(Some(message)) = stream.message().await {
        for pair in message.events().iter().filter_map(|event| event.kv()) {
            note(keys, pair.key(), pair.value());
            if let Some(number) = says {
                let at = pair.mod_revision().to_string();
                let _ = saying.put(format!("{room}/said/{number}"), at, None).await;
            }
        }
    }
}

async fn hear(mut client: Client, place: String, say: watch::Sender<Vec<i64>>) {
    let prefix = WatchOptions::new().with_prefix();
    let mut stream = client.watch(place, Some(prefix)).await.unwrap();
    while let Ok(Some(message)) = stream.message().await {
        for pair in message.events().iter().filter_map(|event| event.kv()) {
            let number = pair.key_str().unwrap().rsplit('/').next().unwrap().parse::<usize>();
            let at = pair.value_str().unwrap().parse().unwrap();
            say.send_modify(|said| said[number.unwrap()] = at);
        }
    }
}
