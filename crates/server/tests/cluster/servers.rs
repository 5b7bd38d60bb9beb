//! The program with its keys in etcd: servers, import and export, members.

use portcullis::{Change, Store, cluster};
use portcullis_testkit::{
    WORKSPACE,
    etcd::{Etcd, Tls},
    needs,
    proxy::Proxy,
    serving::{Home, id_of, text},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

const WATCHDOG: Duration = Duration::from_mins(1);

/// Runs a command that must fail with this code. Returns its standard error.
fn fails(home: &Home, code: i32, arguments: &[&str]) -> String {
    let output = home.command(arguments).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

/// Creates a store with this many keys, some of them changed afterwards.
fn store(home: &Home, keys: usize) {
    home.done(&["init", "--scopes=financial-data,ledger.close"]);
    let store = Store::builder().open_existing(home.data()).unwrap();
    for number in 0..keys {
        let name = format!("key {number}");
        portcullis_testkit::issue(
            &store,
            portcullis_testkit::new_key(&store, &name, &["api.read", "ledger.close"]),
        );
    }
    let newest = store.list(&portcullis::list::ListQuery::default()).unwrap().records;
    store.revoke(newest[0].id).unwrap();
    let renamed = Change::default().with_name("renamed");
    store.update(newest[1].id, renamed).unwrap();
    drop(store);
    // sled releases its lock shortly after the store is closed.
    eventually("the store is free", || {
        home.command(&["scopes"]).output().unwrap().status.success()
    });
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < WATCHDOG, "{what}");
        sleep(Duration::from_millis(50));
    }
}

#[needs("etcd", "etcdctl")]
#[test]
fn import_and_export_keep_the_whole_store() {
    let etcd = Etcd::start(1);
    let home = Home::new();
    store(&home, 140);
    let url = etcd.url();
    let data = home.data();
    let import = ["cluster", "import", "--etcd", &url, "--from", data.to_str().unwrap()];
    home.done(&import);
    let said = fails(&home, 2, &import);
    assert!(said.contains("there is a store already"), "{said}");

    let before = home.done(&["export"]);
    let audit = home.done(&["--json", "audit"]);
    fs::rename(&data, home.room().join("old")).unwrap();
    home.done(&["cluster", "export", "--etcd", &url]);
    assert_eq!(home.done(&["export"]), before);
    assert_eq!(home.done(&["--json", "audit"]), audit);
    assert!(home.done(&["--json", "audit", "--verify"]).contains("true"));
    assert!(before.contains("renamed") && audit.lines().count() > 140);
}

#[needs("etcd", "etcdctl")]
#[test]
fn interrupted_import_is_resumed_and_another_one_starts_over() {
    let etcd = Etcd::start(1);
    let home = Home::new();
    let url = etcd.url();
    store(&home, 200);
    let data = home.data();
    home.done(&["backup", "first.backup"]);
    home.key("one more", "api.read");
    // A truncated backup simulates an import that was killed.
    let whole = fs::read(home.room().join("first.backup")).unwrap();
    fs::write(home.room().join("torn.backup"), &whole[..whole.len() / 2]).unwrap();
    fails(&home, 1, &["cluster", "import", "--etcd", &url, "--from", "torn.backup"]);
    let keys = || etcd.say(&["get", "portcullis/", "--prefix", "--keys-only", "--limit", "9999"]);
    assert!(!keys().contains("portcullis/e\n"), "an incomplete store is visible");
    let begun = etcd.revision();
    home.done(&["cluster", "import", "--etcd", &url, "--from", "first.backup"]);
    let whole_import = etcd.revision() - begun;
    assert!(keys().contains("portcullis/e\n") && !keys().contains("portcullis/x\n"));
    // One of four batches was there; the epoch comes last. From the start it would take seven transactions.
    assert!(whole_import <= 4, "the import started over: {whole_import} transactions");

    // In another space the interrupted import was of another store, so it is discarded.
    let other = ["--etcd-space", "other/"];
    let import =
        |from| [&["cluster", "import", "--etcd", &url, "--from", from], &other[..]].concat();
    fails(&home, 1, &import("torn.backup"));
    home.done(&import(data.to_str().unwrap()));
    let before = home.done(&["export"]);
    fs::rename(&data, home.room().join("old")).unwrap();
    home.done(&[&["cluster", "export", "--etcd", &url], &other[..]].concat());
    assert_eq!(home.done(&["export"]), before);
}

#[needs("etcd", "etcdctl")]
#[test]
fn etcd_is_reached_by_tls_and_with_a_user_from_private_files() {
    let home = Home::new();
    let tls = authority(&home.room());
    let etcd = Etcd::start_with(1, tls.clone());
    for arguments in [
        &["user", "add", "root:rootword"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "keys"],
        &["role", "grant-permission", "keys", "--prefix=true", "readwrite", "portcullis/"],
        &["user", "add", "keys:password of keys"],
        &["user", "grant-role", "keys", "keys"],
        &["auth", "enable"],
    ] {
        etcd.say(arguments);
    }
    store(&home, 5);
    let (url, data) = (etcd.url(), home.data());
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (path(&tls.ca), path(&tls.client.0), path(&tls.client.1));
    let import = ["cluster", "import", "--etcd", &url, "--from", data.to_str().unwrap()];
    let as_replica = ["--etcd-cert", &cert, "--etcd-key", &key];
    let by_tls = [&["--etcd-ca", &ca][..], &as_replica].concat();
    let password = home.room().join("password");
    fs::write(&password, "password of keys\n").unwrap();
    let as_user = ["--etcd-user", "keys", "--etcd-password-file", password.to_str().unwrap()];
    let all = [&import[..], &by_tls, &as_user].concat();
    let said = fails(&home, 1, &all);
    assert!(said.contains("reading the etcd password file"), "{said}");
    assert!(said.contains("everybody can read it"), "{said}");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&tls.client.1, fs::Permissions::from_mode(0o644)).unwrap();
    let said = fails(&home, 1, &all);
    assert!(said.contains("reading the private key for etcd"), "{said}");
    assert!(said.contains("everybody can read it"), "{said}");
    fs::set_permissions(&tls.client.1, fs::Permissions::from_mode(0o640)).unwrap();
    home.done(&all);

    fs::write(&password, "another word\n").unwrap();
    fs::remove_dir_all(&data).unwrap();
    let export = [&["cluster", "export", "--etcd", &url][..], &by_tls, &as_user].concat();
    let said = fails(&home, 1, &export);
    assert!(!said.contains("another word"), "{said}");
    fs::write(&password, "password of keys\n").unwrap();
    home.done(&export);

    // Without --etcd-ca the authorities of the system are used.
    fs::remove_dir_all(&data).unwrap();
    let export = [&["cluster", "export", "--etcd", &url][..], &as_replica, &as_user].concat();
    let with_roots =
        |file: &str| home.command(&export).env("SSL_CERT_FILE", file).output().unwrap();
    let other = home.room().join("other");
    fs::create_dir(&other).unwrap();
    let stranger = with_roots(&path(&authority(&other).ca));
    let said = text(&stranger.stderr);
    assert!(!stranger.status.success() && said.contains("invalid peer certificate"), "{said}");
    let known = with_roots(&ca);
    assert!(known.status.success(), "{}", text(&known.stderr));
}

/// Returns the status of a request by plain HTTP.
fn status(url: &str, path: &str, key: Option<&str>) -> u16 {
    let client = reqwest::blocking::Client::builder().timeout(WATCHDOG).build().unwrap();
    let url = format!("{url}{path}").replace("https:", "http:");
    let mut request = client.get(url);
    if let Some(key) = key {
        request = request.basic_auth(key, None::<&str>);
    }
    request.send().unwrap().status().as_u16()
}

#[needs("etcd", "etcdctl")]
#[test]
fn key_revoked_on_one_server_is_refused_on_all() {
    let etcd = Etcd::start(3);
    let url = etcd.url();
    let homes = [Home::new(), Home::new(), Home::new()];
    let said = fails(&homes[0], 1, &["--etcd", &url, "serve", "--behind-proxy"]);
    assert!(said.contains("no store in"), "{said}");
    let root = homes[0].done(&["--etcd", &url, "init", "--scopes=financial-data"]);
    fails(&homes[1], 1, &["--etcd", &url, "init", "--scopes=financial-data"]);
    let serve = |home: &Home| home.serve(&["--etcd", &url, "--behind-proxy"]);
    let servers: Vec<_> = homes.iter().map(serve).collect();
    let ask = |key: &str| -> Vec<u16> {
        servers.iter().map(|server| status(&server.url, "/v1/whoami", Some(key))).collect()
    };
    eventually("all accept the root key", || ask(&root) == [200; 3]);
    let key = homes[0].key("till", "api.read");
    eventually("the others follow", || ask(&key) == [200; 3]);

    let output = homes[1].command(&["key", "revoke", &id_of(&key)]).output().unwrap();
    // A replica that was too slow is fenced and responds 503 until it has joined again.
    let asked = ask(&key);
    assert!(!asked.contains(&200), "{asked:?}");
    let said = text(&output.stderr);
    assert!(said.contains("is inactive, acknowledged by "), "{said}");
    // A second revocation waits again and reports the replicas.
    let all = r#""settled":{"acknowledged":3,"waited_out":0}"#;
    eventually("all acknowledge it", || {
        homes[2].done(&["--json", "key", "revoke", &id_of(&key)]).contains(all)
    });
    eventually("all refuse it", || ask(&key) == [401; 3]);

    // A second server in a directory would replace the socket of the first one.
    let said = fails(&homes[0], 5, &["--etcd", &url, "serve", "--behind-proxy"]);
    assert!(said.contains("a server already runs in"), "{said}");

    (0..3).for_each(|node| etcd.freeze(node));
    eventually("no gate is open", || ask(&root) == [503; 3]);
    assert_eq!(status(&servers[0].url, "/readyz", None), 503);
    (0..3).for_each(|node| etcd.thaw(node));
    eventually("all accept the root key again", || ask(&root) == [200; 3]);
    eventually("it is ready", || status(&servers[0].url, "/readyz", None) == 200);
}

/// Returns the members from the JSON output.
fn members(home: &Home, url: &str) -> Vec<serde_json::Value> {
    let members = home.done(&["--json", "--etcd", url, "cluster", "members"]);
    let members: serde_json::Value = serde_json::from_str(&members).unwrap();
    members["members"].as_array().unwrap().clone()
}

#[needs("etcd", "etcdctl")]
#[test]
fn members_are_listed_with_their_settings_and_lag() {
    let etcd = Etcd::start(1);
    let url = etcd.url();
    let homes = [Home::new(), Home::new()];
    homes[0].done(&["--etcd", &url, "init", "--scopes=financial-data"]);
    let serve = |number: usize, more: &[&str]| {
        homes[number].serve(&[&["--etcd", &url, "--behind-proxy"], more].concat())
    };
    let said = fails(&homes[0], 2, &["--etcd", &url, "serve", "--freshness", "61s"]);
    assert!(said.contains("freshness: must be a tenth of a second to 60 seconds"), "{said}");
    let _named = serve(0, &["--replica-name", "till-4", "--freshness", "2s"]);
    let unnamed = serve(1, &[]);
    let key = homes[0].key("a", "api.read");
    homes[0].done(&["key", "revoke", &id_of(&key)]);
    let mut listed = Vec::new();
    // The command itself is not a member.
    eventually("both have applied all", || {
        listed = members(&homes[0], &url);
        listed.len() == 2 && listed.iter().all(|m| m["behind"] == 0 && m["fenced"] == false)
    });
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let named = |name: &str| listed.iter().find(|member| member["name"] == name).unwrap();
    let till = named("till-4");
    assert_eq!(
        (&till["freshness_ms"], &named(machine.trim())["freshness_ms"]),
        (&2000.into(), &3000.into())
    );
    for member in &listed {
        assert_eq!(member["version"], env!("CARGO_PKG_VERSION"));
        assert!(member["applied"].as_u64().unwrap() > 0);
        assert_eq!(member["incarnation"].as_str().unwrap().len(), 32);
        assert!(member["joined_at"].as_str().unwrap().ends_with('Z'));
    }
    let table = homes[0].done(&["--etcd", &url, "cluster", "members"]);
    let rows: Vec<_> = table.lines().collect();
    assert!(rows[0].starts_with("NAME"), "{table}");
    assert!(rows.iter().any(|row| row.starts_with("till-4") && row.contains("  2s  ")), "{table}");

    // A frozen replica falls behind, is fenced, and is then removed.
    unnamed.signal("STOP");
    let id = id_of(&homes[0].key("b", "api.read"));
    let revoking = homes[0].command(&["key", "revoke", &id]).spawn().unwrap();
    let state = |name: &str| members(&homes[0], &url).into_iter().find(|m| m["name"] == name);
    eventually("it is behind and fenced", || {
        state(machine.trim()).is_some_and(|m| m["fenced"] == true && m["behind"] != 0)
    });
    assert!(revoking.wait_with_output().unwrap().status.success());
    eventually("it is gone", || state(machine.trim()).is_none());
    unnamed.signal("CONT");
    eventually("it is back", || state(machine.trim()).is_some());
}

#[needs("etcd", "etcdctl")]
#[test]
fn concurrent_changes_and_many_scopes_stay_within_etcd_limits() {
    let etcd = Etcd::start(1);
    let nodes =
        portcullis_etcd::EtcdStore::new(&portcullis_etcd::Etcd::at(etcd.urls()).unwrap()).unwrap();
    let names = (0..240).map(|n| (format!("x.scope{n}").parse().unwrap(), String::new()));
    let builder = portcullis_testkit::builder().scopes(names);
    let store = builder.create_cluster(nodes, cluster::Replica::named("a")).unwrap();
    assert!(store.scopes(["x.scope0", "x.scope239"]).is_ok());
    std::thread::scope(|scope| {
        for number in 0..150 {
            let new = portcullis_testkit::new_key(&store, &number.to_string(), &["api.read"]);
            let store = &store;
            scope.spawn(move || store.issue(new).unwrap());
        }
    });
    assert_eq!(store.count().active, 150);
}

#[needs("etcd", "etcdctl")]
#[test]
fn added_and_hidden_scopes_hold_on_every_replica_when_the_command_returns() {
    let etcd = Etcd::start(1);
    let url = etcd.url();
    let homes = [Home::new(), Home::new()];
    homes[0].done(&["--etcd", &url, "init"]);
    let serve = |home: &Home| home.serve(&["--etcd", &url, "--behind-proxy"]);
    let servers = homes.each_ref().map(serve);
    for round in 0..5 {
        let name = format!("ledger.s{round}");
        homes[0].done(&["scopes", "add", &name, "one of the ledger"]);
        assert!(homes[1].done(&["scopes"]).contains(&format!("{name}  ")));
        let key = homes[1].key("a", &name);
        homes[1].done(&["scopes", "hide", &name]);
        homes[0].fails(2, &["key", "create", "--name", "b", "--scope", &name]);
        assert_eq!(homes[0].verify(&key, &["--scope", &name]), 0);
        homes[1].done(&["scopes", "add", &name, "offered again"]);
    }
    assert!(servers.into_iter().all(|server| server.stop().success()));
    // A replica that reads the whole store again finds them too.
    let _again = serve(&homes[1]);
    let listed = homes[1].done(&["scopes"]);
    assert_eq!(
        listed.lines().filter(|line| line.ends_with("offered again")).count(),
        5,
        "{listed}"
    );
}

#[needs("etcd", "etcdctl")]
#[test]
fn last_used_time_survives_its_replica_and_reaches_the_others() {
    let etcd = Etcd::start(1);
    let url = etcd.url();
    let homes = [Home::new(), Home::new()];
    homes[0].done(&["--etcd", &url, "init", "--scopes=financial-data"]);
    let serve = |home: &Home| home.serve(&["--etcd", &url, "--behind-proxy"]);
    let servers = homes.each_ref().map(serve);
    let (key, unused) = (homes[0].key("a", "api.read"), homes[0].key("b", "api.read"));
    eventually("the other follows", || status(&servers[1].url, "/v1/whoami", Some(&key)) == 200);
    assert!(homes[1].done(&["key", "show", &id_of(&key)]).contains("last used  2"));
    assert!(servers.into_iter().all(|server| server.stop().success()));
    assert_eq!(
        etcd.say(&["get", "portcullis/u/", "--prefix", "-w", "fields"])
            .lines()
            .find(|line| line.contains("Count")),
        Some("\"Count\" : 1")
    );
    let _again = serve(&homes[0]);
    eventually("it is known", || {
        homes[0].done(&["key", "show", &id_of(&key)]).contains("last used  2")
    });
    assert!(homes[0].done(&["key", "show", &id_of(&unused)]).contains("last used  never"));
}

#[needs("etcd", "etcdctl")]
#[test]
fn change_beyond_the_etcd_quota_is_refused_with_the_reason() {
    let mut etcd = Etcd::start(1);
    etcd.restart_with(0, &["--quota-backend-bytes", "400000"]);
    assert!(etcd.wait_until_up());
    let url = etcd.url();
    let home = Home::new();
    home.done(&["--etcd", &url, "init", "--scopes=financial-data"]);
    let serving = home.serve(&["--etcd", &url, "--behind-proxy"]);
    let key = home.key("a", "api.read");
    eventually("etcd is full", || {
        let put = etcd.ctl().args(["put", "filler", &"x".repeat(50_000)]).output().unwrap();
        text(&put.stderr).contains("space exceeded")
    });
    let said = fails(&home, 1, &["key", "revoke", &id_of(&key)]);
    assert!(said.contains("nothing was changed"), "{said}");
    let asked = || status(&serving.url, "/v1/whoami", Some(&key));
    eventually("it is accepted", || asked() == 200);
    assert!(home.log().contains("database space exceeded: make room in etcd"), "{}", home.log());
    etcd.compact();
    etcd.say(&["defrag"]);
    etcd.say(&["alarm", "disarm"]);
    home.done(&["key", "revoke", &id_of(&key)]);
    assert_ne!(asked(), 200);
    eventually("it is refused", || asked() == 401);
}

/// A revocation waits for the freshness of the unreachable replica, not for that of the revoking one.
#[needs("etcd", "etcdctl")]
#[test]
fn unreachable_replica_with_longer_freshness_refuses_a_revoked_key() {
    let etcd = Etcd::start(1);
    let url = etcd.url();
    let proxy = Proxy::to(&etcd.address(0));
    let homes = [Home::new(), Home::new()];
    let root = homes[0].done(&["--etcd", &url, "init", "--scopes=financial-data"]);
    let _revoker = homes[0].serve(&["--etcd", &url, "--behind-proxy", "--freshness", "1s"]);
    let unreachable =
        homes[1].serve(&["--etcd", &proxy.url(), "--behind-proxy", "--freshness", "6s"]);
    for _ in 0..2 {
        let key = homes[0].key("a", "api.read");
        eventually("the other follows", || {
            status(&unreachable.url, "/v1/whoami", Some(&key)) == 200
        });
        proxy.swallow();
        homes[0].done(&["key", "revoke", &id_of(&key)]);
        assert_eq!(status(&unreachable.url, "/v1/whoami", Some(&key)), 503);
        proxy.pass();
        eventually("it is back", || status(&unreachable.url, "/v1/whoami", Some(&root)) == 200);
    }
}

#[needs("etcd", "curl", "bash")]
#[test]
fn local_cluster_script_starts_revokes_and_stops() {
    let room = tempfile::tempdir().unwrap();
    let script = format!("{WORKSPACE}/deploy/local-cluster");
    let run = |word: &str| {
        let mut command = Command::new("bash");
        command
            .args([&script, word])
            .current_dir(room.path())
            .env("PORTCULLIS", env!("CARGO_BIN_EXE_portcullis"))
            // Below the ports that the other tests use.
            .env("LOCAL_CLUSTER_PORT", "12443");
        let output = command.output().unwrap();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let up = run("up");
    let revoked = if up.0 { run("revoke") } else { (false, String::new()) };
    let down = run("down");
    assert!(up.0, "{}", up.1);
    assert!(revoked.0, "{}", revoked.1);
    let after = revoked.1.lines().find_map(|line| line.strip_prefix("after:  "));
    assert!(after.is_some_and(|after| !after.contains("200")), "{}", revoked.1);
    assert!(down.0, "{}", down.1);
}

/// Creates a certificate authority with a server and a client certificate.
fn authority(room: &Path) -> Tls {
    let write = |name: &str, text: String| {
        fs::write(room.join(name), text).unwrap();
        fs::set_permissions(room.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        room.join(name)
    };
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut about = rcgen::CertificateParams::new(Vec::new()).unwrap();
    about.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    about.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
    let ca = about.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(about, ca_key);
    let issue = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(String::from);
        let about = rcgen::CertificateParams::new(names).unwrap();
        let certificate = about.signed_by(&key, &issuer).unwrap();
        let cert = write(&format!("{name}.pem"), certificate.pem());
        (cert, write(&format!("{name}.key"), key.serialize_pem()))
    };
    let (server, client) = (issue("server"), issue("client"));
    Tls { ca: write("ca.pem", ca.pem()), server, client }
}
