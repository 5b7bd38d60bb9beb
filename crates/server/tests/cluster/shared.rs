//! Operations on a whole store in etcd: backup, audit verification, pruning.

use portcullis::{Actor, Error, Offline, Store, audit::Act, cluster::Replica, list::ListQuery};
use portcullis_testkit::serving::{Home, id_of, text};
use portcullis_testkit::{
    audit::hours_ago,
    etcd::Etcd,
    issue, needs, new_key,
    surgery::{age, operate},
};
use std::{
    fs::File,
    path::Path,
    thread::{scope, sleep},
    time::{Duration, Instant},
};

const WATCHDOG: Duration = Duration::from_mins(1);

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < WATCHDOG, "{what}");
        sleep(Duration::from_millis(50));
    }
}

/// Runs a command that must fail. Returns its standard error.
fn fails(home: &Home, arguments: &[&str]) -> String {
    let output = home.command(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    text(&output.stderr)
}

fn replica(etcd: &Etcd, space: &str) -> Store {
    let nodes = portcullis_etcd::EtcdStore::new(
        &portcullis_etcd::Etcd::at(etcd.urls()).unwrap().space(space).unwrap(),
    )
    .unwrap();
    portcullis_testkit::builder().cluster(nodes, Replica::named("a")).unwrap()
}

fn whoami(url: &str, key: &str) -> u16 {
    let client = reqwest::blocking::Client::builder().timeout(WATCHDOG).build().unwrap();
    let asked = client.get(format!("{url}/v1/whoami").replace("https:", "http:"));
    asked.basic_auth(key, None::<&str>).send().unwrap().status().as_u16()
}

/// Returns names and states of all keys.
fn keys(store: &Store) -> Vec<(String, bool)> {
    let found = store.list(&ListQuery::default()).unwrap().records;
    found.into_iter().map(|record| (record.name.clone(), record.active)).collect()
}

#[needs("etcd", "etcdctl")]
#[test]
fn backup_of_a_shared_store_restores_with_and_without_a_server() {
    let etcd = Etcd::start(1);
    let (home, idle, url) = (Home::new(), Home::new(), etcd.url());
    home.done(&["--etcd", &url, "init", "--scopes=financial-data"]);
    let (kept, revoked) = {
        let server = home.serve(&["--etcd", &url, "--behind-proxy"]);
        let keys = (home.key("kept", "api.read"), home.key("revoked", "api.read"));
        home.done(&["key", "revoke", &id_of(&keys.1)]);
        assert_eq!(whoami(&server.url, &keys.0), 200);
        home.done(&["backup", "of-server"]);
        assert!(server.stop().success());
        keys
    };
    idle.done(&["--etcd", &url, "backup", "of-etcd"]);
    let files = [home.room().join("of-server"), idle.room().join("of-etcd")];
    for (file, space) in files.iter().zip(["one/", "two/"]) {
        let file = file.to_str().unwrap();
        let told = idle.done(&["--json", "backup", "--verify", file]);
        assert!(told.contains(r#""keys":3"#) && told.contains(r#""sequence":5"#), "{told}");
        let said = fails(&idle, &["--etcd", &url, "restore", file, "--without-later-denials"]);
        assert!(said.contains("cluster import --from DIR"), "{said}");

        let back = Home::new();
        back.done(&["restore", file, "--without-later-denials"]);
        let data = back.data();
        let space = ["--etcd", &url, "--etcd-space", space];
        let from = data.to_str().unwrap();
        back.done(&[&["cluster", "import", "--from", from], &space[..]].concat());
        for (name, code) in [(&kept, 0), (&revoked, 3)] {
            let verify = [&space[..], &["verify"]].concat();
            let given = back.room().join("given");
            std::fs::write(&given, name).unwrap();
            let mut command = idle.command(&verify);
            let output = command.stdin(File::open(&given).unwrap()).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        }
        let id = id_of(&kept);
        let show = [&space[..], &["key", "show", &id]].concat();
        assert!(idle.done(&show).contains("last used  2"));
        let dir = back.room().join("exported");
        let export = ["--data", dir.to_str().unwrap(), "cluster", "export"];
        back.done(&[&export[..], &space].concat());
        let exported = portcullis_testkit::builder().open(dir).unwrap();
        let used = |key: &str| exported.last_used(id_of(key).parse().unwrap()).is_some();
        assert!(used(&kept) && !used(&revoked));
    }
}

#[needs("etcd", "etcdctl")]
#[test]
fn import_and_export_count_every_value() {
    let etcd = Etcd::start(1);
    let nodes = portcullis_etcd::Etcd::at(etcd.urls()).unwrap();
    let nodes = || portcullis_etcd::EtcdStore::new(&nodes).unwrap();
    let (_dir, home) = portcullis_testkit::home();
    let (used, unused, backup) = {
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let (used, key) = issue(&store, new_key(&store, "used", &["api.read"]));
        let (unused, _) = issue(&store, new_key(&store, "unused", &["api.read"]));
        store.authenticate_key(&key).unwrap();
        let mut backup = Vec::new();
        store.backup(&mut backup, |_| ()).unwrap();
        (used, unused, backup)
    };
    let mut done = 0;
    let summary = Offline::new().import_to(&nodes(), &backup[..], |progress| done = progress.done);
    let summary = summary.unwrap();
    let shared = portcullis_testkit::builder().open_cluster(nodes(), Replica::named("a")).unwrap();
    assert!(shared.last_used(used).is_some() && shared.last_used(unused).is_none());
    // One use beside the counted values.
    let names = shared.catalogue().entries().len() as u64;
    assert_eq!(done, summary.sequence + summary.records + names + 1);

    let out = home.with_file_name("out");
    let summary = Offline::new().export_from(&nodes(), &out, |_| ()).unwrap();
    let frames = |db: &sled::Db| -> usize {
        let values = db.iter().map(Result::unwrap).filter(|(place, _)| place.as_ref() != b"m");
        values.map(|(_, frame)| frame.len()).sum()
    };
    assert_eq!(summary.bytes, operate(&out, frames) as u64);
}

#[needs("etcd", "etcdctl")]
#[test]
fn backup_of_a_shared_store_is_a_consistent_snapshot() {
    let etcd = Etcd::start(1);
    let (one, two) = (replica(&etcd, "portcullis/"), replica(&etcd, "portcullis/"));
    let (id, _) = issue(&one, new_key(&one, "first", &["api.read"]));
    eventually("the other follows", || two.get(id).is_ok());
    let mut bytes = Vec::new();
    let mut batches = 0;
    let taken = one.backup(&mut bytes, |_| {
        batches += 1;
        issue(&two, new_key(&two, "meanwhile", &["api.read"]));
        two.revoke(id).unwrap();
    });
    let taken = taken.unwrap();
    assert_eq!(taken, Offline::new().verify_backup(&bytes[..], |_| ()).unwrap());
    assert!(batches > 1 && two.count().active > 1);
    // One key, as at the start, and two audit entries: the scopes and the key.
    assert_eq!((taken.records, taken.sequence), (1, 2));

    // A backup fails if etcd compacts its revision meanwhile.
    let failed = one.backup(&mut Vec::new(), |_| {
        issue(&two, new_key(&two, "later", &["api.read"]));
        etcd.compact();
    });
    assert!(
        matches!(&failed, Err(Error::Consensus(why)) if why.contains("is compacted")),
        "{failed:?}"
    );
}

#[needs("etcd", "etcdctl")]
#[test]
fn every_command_works_on_a_shared_store_or_names_the_alternative() {
    let etcd = Etcd::start(1);
    let (home, url) = (Home::new(), etcd.url());
    let run = |words: &[&str]| home.done(&[&["--etcd", &url], words].concat());
    run(&["init", "--scopes=financial-data"]);
    let key = run(&["key", "create", "--name", "a", "--scope", "api.read"]);
    let id = id_of(&key);
    assert!(run(&["key", "list"]).contains(&id) && run(&["export"]).contains(&id));
    run(&["key", "update", &id, "--name", "b"]);
    let other = run(&["key", "rotate", &id, "--grace", "1h"]);
    run(&["key", "revoke", &id]);
    run(&["key", "delete", "--yes", &id]);
    assert!(run(&["key", "show", &id_of(&other)]).contains("last used"));
    assert!(run(&["scopes"]).contains("api.read"));
    assert_eq!(run(&["audit"]).lines().count(), 7);
    assert_eq!(run(&["audit", "--verify"]), "7 entries, all intact");
    run(&["audit", "--export", "audit"]);
    assert_eq!(run(&["audit", "--verify", "audit"]), "7 entries, all intact");
    assert!(run(&["audit", "--prune", "--keep", "30h"]).starts_with("no entry is older than"));
    run(&["backup", "all"]);
    let refused = |words: &[&str]| fails(&home, &[&["--etcd", &url], words].concat());
    assert!(refused(&["doctor"]).contains("audit --verify"));
    assert!(!home.data().exists(), "a directory was created");
}

/// Creates a store in etcd whose first audit entries are four days old. Returns their number.
fn aged(home: &Home, url: &str, space: &str) -> u64 {
    let data = home.data();
    let store = portcullis_testkit::builder().open(&data).unwrap();
    for number in 0..9 {
        issue(&store, new_key(&store, &format!("old {number}"), &["api.read"]));
    }
    let entries = store.audit(0, 100).unwrap().len() as u64;
    drop(store);
    age(&data, 100);
    let from = data.to_str().unwrap();
    home.done(&["cluster", "import", "--from", from, "--etcd", url, "--etcd-space", space]);
    std::fs::remove_dir_all(data).unwrap();
    entries
}

/// Returns the number of audit entries in etcd.
fn held(etcd: &Etcd) -> usize {
    let told = etcd.say(&[
        "get",
        "portcullis/a/",
        "--prefix",
        "--keys-only",
        "--limit",
        "1",
        "-w",
        "fields",
    ]);
    let count = told.lines().find_map(|line| line.strip_prefix("\"Count\" : ")).unwrap();
    count.parse().unwrap()
}

#[needs("etcd", "etcdctl")]
#[test]
fn pruned_shared_audit_log_verifies_on_all_replicas_and_in_copies() {
    let etcd = Etcd::start(1);
    let (home, url) = (Home::new(), etcd.url());
    let old = aged(&home, &url, "portcullis/");
    let (one, two) = (replica(&etcd, "portcullis/"), replica(&etcd, "portcullis/"));
    let (young, _) = issue(&two, new_key(&two, "young", &["api.read"]));
    let run = |words: &[&str]| home.done(&[&["--etcd", &url], words].concat());
    run(&["audit", "--export", "before"]);
    let said = run(&["audit", "--prune", "--keep", "30h"]);
    let through =
        format!("removed {old} entries, through entry {old}; entry {} records it", old + 2);
    assert!(said.starts_with(&through), "{said}");
    assert!(run(&["audit", "--prune", "--keep", "30h"]).starts_with("no entry is older than"));
    assert_eq!(held(&etcd), 2);

    // On each replica the log starts there, continues from there, and verifies.
    let told = one.audit(0, 100).unwrap();
    assert_eq!(told, two.audit(3, 100).unwrap());
    assert_eq!(told.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [old + 1, old + 2]);
    assert_eq!(one.audit(old + 1, 100).unwrap(), told[1..]);
    let Act::Prune { through, .. } = told[1].act else { panic!("{told:?}") };
    assert_eq!(through, old);
    eventually("the first replica has the key", || one.get(young).is_ok());
    one.revoke(young).unwrap();
    eventually("the other follows", || two.get(young).is_ok_and(|record| !record.active));
    assert_eq!(run(&["audit", "--verify"]), "3 entries, all intact");
    run(&["audit", "--export", "after"]);
    // The entry that both exports have counts once.
    let both = format!("{} entries, all intact", old + 3);
    assert_eq!(run(&["audit", "--verify", "before", "after"]), both);

    // Copies start there as well.
    run(&["backup", "pruned.backup"]);
    let first = |store: &Store| store.audit(0, 100).unwrap()[0].sequence;
    let dir = home.room().join("restored");
    let at = |dir: &Path| dir.to_str().unwrap().to_owned();
    home.done(&["--data", &at(&dir), "restore", "pruned.backup", "--without-later-denials"]);
    let restored = portcullis_testkit::builder().open(&dir).unwrap();
    assert_eq!((first(&restored), keys(&restored)), (old + 1, keys(&one)));
    drop(restored);
    run(&["cluster", "import", "--from", "pruned.backup", "--etcd-space", "other/"]);
    let other = replica(&etcd, "other/");
    assert_eq!((first(&other), keys(&other)), (old + 1, keys(&one)));
    issue(&other, new_key(&other, "after the import", &["api.read"]));
    drop(other);
    let dir = home.room().join("exported");
    run(&["--data", &at(&dir), "cluster", "export", "--etcd-space", "other/"]);
    let exported = portcullis_testkit::builder().open(&dir).unwrap();
    assert_eq!((first(&exported), keys(&exported).len()), (old + 1, 11));
}

#[needs("etcd", "etcdctl")]
#[test]
fn concurrent_prunes_by_replicas_take_effect_once() {
    let etcd = Etcd::start(1);
    let (home, url) = (Home::new(), etcd.url());
    let old = aged(&home, &url, "portcullis/");
    let stores = [(); 3].map(|()| replica(&etcd, "portcullis/"));
    let prune = |store: &Store| store.acting_as(Actor::Host).prune_audit(hours_ago(30)).unwrap();
    let done = scope(|scope| {
        let threads = stores.each_ref().map(|store| scope.spawn(|| prune(store)));
        threads.map(|thread| thread.join().unwrap())
    });
    let done: Vec<_> = done.into_iter().flatten().collect();
    assert_eq!(done.len(), 1, "{done:?}");
    assert_eq!((done[0].through, done[0].removed), (old, old));
    for store in &stores {
        assert_eq!(store.audit(0, 100).unwrap()[0].sequence, old + 1);
        assert_eq!(prune(store), None);
    }
    eventually("the old entries are removed from etcd", || held(&etcd) == 1);
}
