//! Lists of keys: every filter, order, total and page against a plain selection of the records.

use portcullis::{
    Acting, Actor, BulkAct, Change, Error, Expiry, Grant, KeyId, NewKey, Prefix, Record, Store,
    Timestamp,
    list::{ListQuery, Sort, SortBy},
};
use proptest::prelude::*;
use std::{collections::HashMap, sync::Arc, time::Duration};

const DAY: u64 = 86_400;

/// A store with keys of several creators, owners, expiries and states.
fn store(keys: &[(u8, u8, u8, bool, bool)]) -> Store {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let scopes = |names: &[&str]| Grant::Scopes(store.scopes(names).unwrap());
    let clerk_scopes =
        scopes(&["admin.key.create", "admin.key.owner", "admin.key.list", "api.read"]);
    let clerk = store.issue(NewKey::new("Clerk", clerk_scopes, Expiry::Never)).unwrap();
    let names = ["Till", "till", "Übersicht", "STRASSE", "Straße", "a", "Nightly export"];
    for (name, owner, days, active, used) in keys {
        let expiry = match days % 4 {
            0 => Expiry::Never,
            days => {
                Expiry::At(Timestamp::from_secs(store.now().as_secs() + u64::from(days) * 10 * DAY))
            }
        };
        let expiry = if owner % 2 == 0 { expiry } else { Expiry::Never };
        let mut new = NewKey::new(names[usize::from(*name) % 7], scopes(&["api.read"]), expiry);
        if owner % 3 > 0 {
            new = new.with_owner(format!("shop-{}", owner % 3));
        }
        // A key grants at most its own lifetime; the clerk's has no end.
        let actor = if days % 2 == 0 { Actor::Host } else { Actor::Key(clerk.record.id) };
        let issued = store.acting_as(actor).issue(new).unwrap();
        let id = issued.record.id;
        if *used {
            issued.secret.reveal(|text| store.authenticate_key(text.as_bytes()).unwrap());
        }
        if name % 5 == 0 {
            store.rotate(id, Duration::from_secs(DAY)).unwrap();
        }
        if !active {
            store.revoke(id).unwrap();
        }
    }
    store
}

/// All records of a query, page by page.
fn listed(store: &Store, query: &ListQuery, size: usize) -> Vec<KeyId> {
    let (mut found, mut query) = (Vec::new(), query.clone().with_page_size(size));
    loop {
        let page = store.list(&query).unwrap();
        found.extend(page.records.iter().map(|record| record.id));
        match page.next_page_token {
            Some(token) => query.page_token = Some(token),
            None => return found,
        }
    }
}

/// The plain form of a filter.
fn fits(store: &Store, query: &ListQuery, record: &Record) -> bool {
    let (now, used) = (store.now(), store.last_used(record.id));
    let has_expired = record.expiry.has_come(now);
    let within = |span: &Duration| {
        let end = Timestamp::from_secs(now.as_secs() + span.as_secs());
        record.active && !has_expired && record.replaced_by.is_none() && record.expiry.has_come(end)
    };
    query.active.is_none_or(|active| record.active == active)
        && query.scope.as_ref().is_none_or(|scope| record.grant.allows(scope))
        && query.owner.as_ref().is_none_or(|owner| record.owner == *owner)
        && query.creator.is_none_or(|creator| record.created_by == creator)
        && query.expired.is_none_or(|expired| has_expired == expired)
        && query.replaced.is_none_or(|replaced| record.replaced_by.is_some() == replaced)
        && query.expiring_within.as_ref().is_none_or(within)
        && query
            .unused_since
            .is_none_or(|since| record.created_at < since && used.is_none_or(|at| at < since))
        && query.used.is_none_or(|wanted| used.is_some() == wanted)
        && query.created_from.is_none_or(|from| record.created_at >= from)
        && query.created_until.is_none_or(|until| record.created_at < until)
}

fn folded(name: &str) -> String {
    name.to_lowercase().replace('ß', "ss")
}

/// The plain form of an order.
fn sort(store: &Store, sort: Sort, records: &mut [Arc<Record>]) {
    let number = |record: &Record| match sort.by {
        SortBy::CreatedAt => record.created_at.as_millis(),
        SortBy::LastUse => store.last_used(record.id).map_or(0, |at| at.as_secs() / 60),
        SortBy::Expiry => match record.expiry {
            Expiry::At(end) => end.as_secs(),
            Expiry::Never => u64::MAX,
        },
        _ => 0,
    };
    let name = |record: &Record| {
        if sort.by == SortBy::Name { folded(&record.name) } else { String::new() }
    };
    records.sort_by_key(|record| (number(record), name(record), record.id));
    if sort.descending {
        records.reverse();
    }
}

fn query() -> impl Strategy<Value = ListQuery> {
    let option = |odds: f64| prop::option::weighted(odds, any::<bool>());
    let by = prop::sample::select(vec![
        SortBy::CreatedAt,
        SortBy::Name,
        SortBy::LastUse,
        SortBy::Expiry,
    ]);
    let flags = (option(0.3), option(0.2), option(0.2), option(0.2));
    let rest = (
        prop::option::weighted(0.3, 0u8..3),
        prop::option::weighted(0.2, 1u64..40),
        by,
        any::<bool>(),
    );
    (flags, rest).prop_map(|((active, expired, replaced, used), (owner, days, by, descending))| {
        let mut query = ListQuery::default().sorted_by(by, descending).with_total();
        (query.active, query.expired, query.replaced, query.used) =
            (active, expired, replaced, used);
        query.owner = owner.map(|owner| (owner > 0).then(|| format!("shop-{owner}")));
        query.expiring_within = days.map(|days| Duration::from_secs(days * DAY));
        query
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn list_agrees_with_a_plain_selection(
        keys in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<bool>(), any::<bool>()), 0..40),
        queries in prop::collection::vec(query(), 8),
        size in 1usize..9,
    ) {
        let store = store(&keys);
        let clerk = store.records().last().map(|record| record.id);
        for (n, mut query) in queries.into_iter().enumerate() {
            query.creator = [None, Some(Actor::Host), clerk.map(Actor::Key)][n % 3];
            let mut expected: Vec<_> = store.records().filter(|record| fits(&store, &query, record)).collect();
            sort(&store, query.sort, &mut expected);
            let expected: Vec<KeyId> = expected.iter().map(|record| record.id).collect();
            prop_assert_eq!(store.list(&query).unwrap().total, Some(expected.len()));
            prop_assert_eq!(listed(&store, &query, size), expected, "{:?}", query);
        }
    }
}

#[test]
fn unused_keys_are_those_created_before_and_not_used_since() {
    let store = store(&[(1, 1, 0, true, true), (1, 1, 0, true, false)]);
    let count = |since: Timestamp| {
        let query = ListQuery::default().unused_since(since).with_active(true).with_total();
        store.list(&query).unwrap().total.unwrap()
    };
    let later = Timestamp::from_secs(store.now().as_secs() + 2 * 60);
    // The used key, the unused one and the clerk.
    assert_eq!(count(later), 3);
    // The minute of the use: the used key is not among them.
    let used_at = store.records().find_map(|record| store.last_used(record.id)).unwrap();
    assert!(count(used_at) <= 2);
    assert_eq!(count(Timestamp::from_secs(0)), 0);
}

#[test]
fn uses_of_before_a_reopening_are_filtered_and_sorted() {
    let dir = tempfile::tempdir().unwrap();
    let store = portcullis_testkit::builder().open(dir.path().join("keys")).unwrap();
    let new = |name: &str| NewKey::new(name, store.scopes(["api.read"]).unwrap(), Expiry::Never);
    let (used, unused) = (store.issue(new("used")).unwrap(), store.issue(new("unused")).unwrap());
    let used = used.secret.reveal(|text| store.authenticate_key(text.as_bytes()).unwrap().id());
    drop(store);
    let store = Store::builder().open(dir.path().join("keys")).unwrap();
    let by_use = ListQuery::default().sorted_by(SortBy::LastUse, true);
    assert_eq!(listed(&store, &by_use, 9), [used, unused.record.id]);
    assert_eq!(listed(&store, &ListQuery::default().with_used(false), 9), [unused.record.id]);
}

#[test]
fn key_is_found_by_its_id_its_hint_and_its_whole_text() {
    let store = store(&[(1, 1, 0, true, true)]);
    let new = NewKey::new("Wanted", store.scopes(["api.read"]).unwrap(), Expiry::Never);
    let issued = store.issue(new).unwrap();
    let (id, hint) = (issued.record.id, store.prefix().hint(issued.record.id));
    let key = issued.secret.reveal(str::to_owned);
    let found = |text: &str| listed(&store, &ListQuery::default().with_text(text), 9);
    for text in
        [id.to_string(), hint.clone(), format!("{hint}_"), format!(" {key}\n"), "want".into()]
    {
        assert_eq!(found(&text), [id]);
    }
    assert_eq!(found(&hint[..9]), [id], "a part of the hint");
    let other = Prefix::new("acme").unwrap();
    assert_eq!(found(&other.hint(id)), []);
    let foreign = portcullis_testkit::builder().in_memory().unwrap();
    let new = NewKey::new("x", foreign.scopes(["api.read"]).unwrap(), Expiry::Never);
    assert_eq!(foreign.issue(new).unwrap().secret.reveal(found), [], "a key of another store");
}

#[test]
fn token_belongs_to_its_filters_and_its_order() {
    let store = store(&[(1, 1, 0, true, true), (2, 1, 0, true, true), (3, 2, 3, true, false)]);
    let token =
        |query: ListQuery| store.list(&query.with_page_size(1)).unwrap().next_page_token.unwrap();
    let by_name = ListQuery::default().sorted_by(SortBy::Name, false);
    let others = [
        ListQuery::default(),
        ListQuery::default().sorted_by(SortBy::Name, true),
        ListQuery::default().sorted_by(SortBy::LastUse, false),
        by_name.clone().with_active(true),
        by_name.clone().with_replaced(false),
    ];
    let of_name = token(by_name.clone());
    for other in others {
        let refused = store.list(&other.clone().with_page_token(&of_name)).unwrap_err();
        assert!(refused.to_string().contains("other filters"), "{refused}");
        let refused = store.list(&by_name.clone().with_page_token(token(other))).unwrap_err();
        assert!(refused.to_string().contains("other filters"), "{refused}");
    }
    for wrong in ["", "x", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", "é"] {
        let refused = store.list(&by_name.clone().with_page_token(wrong)).unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{wrong}: {refused}");
    }
}

fn shop_keys(store: &Store, shop: &str, count: usize) -> Vec<(KeyId, String)> {
    let new =
        || NewKey::new("Till", store.scopes(["api.read", "api.write"]).unwrap(), Expiry::Never);
    let all = (0..count).map(|_| new().with_owner(shop)).collect();
    let issued = store.acting_as(Actor::Host).issue_all(all).unwrap();
    issued
        .into_iter()
        .map(|issued| issued.unwrap())
        .map(|issued| (issued.record.id, issued.secret.reveal(str::to_owned)))
        .collect()
}

#[test]
fn all_keys_of_one_owner_are_revoked_in_one_act() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    // More than a part.
    let (bank, shop) = (shop_keys(&store, "bank", 1100), shop_keys(&store, "shop", 3));
    let acting = store.acting_as(Actor::Host);
    let keys = acting.count_for_bulk(&ListQuery::default().with_owner("bank")).unwrap();
    assert_eq!(keys.len(), 1100);
    let report = acting.bulk(&BulkAct::Revoke, &keys);
    assert_eq!((report.done.len(), report.not_done.len()), (1100, 0));
    assert!(bank.iter().all(|(_, key)| store.authenticate_key(key.as_bytes()).is_err()));
    assert!(shop.iter().all(|(_, key)| store.authenticate_key(key.as_bytes()).is_ok()));
}

#[test]
fn key_that_changed_since_the_count_is_left_alone_and_named() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let keys = shop_keys(&store, "shop", 3);
    let acting = store.acting_as(Actor::Host);
    let mut counted = acting.count_for_bulk(&ListQuery::default()).unwrap();
    let changed = keys[1].0;
    store.update(changed, Change::default().with_name("Changed")).unwrap();
    let first = counted.take_first(1);
    assert_eq!((first.len(), counted.len()), (1, 2));
    // Keys of one millisecond are in the order of their ids, so either part may have the changed key.
    let mut report = acting.bulk(&BulkAct::Revoke, &first);
    let second = acting.bulk(&BulkAct::Revoke, &counted);
    report.done.extend(second.done);
    report.not_done.extend(second.not_done);
    assert_eq!(report.done.len(), 2);
    assert!(matches!(report.not_done[..], [(id, Error::Changed(_))] if id == changed));
    assert!(store.get(changed).unwrap().active);
}

#[test]
fn each_bulk_act_does_what_the_single_act_does() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let root = store.issue(NewKey::new("root", Grant::All, Expiry::Never)).unwrap().record.id;
    let keys = shop_keys(&store, "shop", 2);
    let acting = store.acting_as(Actor::Host);
    let run = |acting: &Acting<'_>, act: BulkAct, query: ListQuery| {
        let report = acting.bulk(&act, &acting.count_for_bulk(&query).unwrap());
        (report.done.len(), report.not_done.into_iter().collect::<HashMap<_, _>>())
    };
    let all = ListQuery::default;
    let write = BulkAct::RemoveScopes(vec!["api.write".parse().unwrap()]);
    let (done, left) = run(&acting, write, all());
    assert!(done == 2 && left[&root].to_string().contains("root key"), "{left:?}");
    let reads = Grant::Scopes(store.scopes(["api.read"]).unwrap());
    assert!(keys.iter().all(|(id, _)| store.get(*id).unwrap().grant == reads));
    let end = Expiry::At(Timestamp::from_secs(store.now().as_secs() + DAY));
    let (done, left) = run(&acting, BulkAct::SetExpiry(end), all());
    assert!(done == 2 && matches!(left[&root], Error::LastRoot(_)), "{left:?}");
    let shop = || ListQuery::default().with_owner("shop");
    assert_eq!(run(&acting, BulkAct::SetOwner(Some("bank".into())), shop()).0, 2);
    assert_eq!(store.list(&shop()).unwrap().records.len(), 0);
    let bank = || ListQuery::default().with_owner("bank");
    let (done, left) = run(&acting, BulkAct::Delete, bank());
    assert!(done == 0 && left.values().all(|error| matches!(error, Error::StillActive(_))));
    assert_eq!(run(&acting, BulkAct::Revoke, bank()).0, 2);
    assert_eq!(run(&acting, BulkAct::Delete, bank()).0, 2);
    assert_eq!(store.count().active, 1);
    let (done, left) = run(&acting, BulkAct::Revoke, all());
    assert!(done == 0 && matches!(left[&root], Error::LastRoot(_)));
}

#[test]
fn bulk_act_of_an_owner_touches_only_its_keys() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let (bank, shop) = (shop_keys(&store, "bank", 2), shop_keys(&store, "shop", 2));
    let scopes =
        store.scopes(["admin.key.list", "admin.key.update", "api.read", "api.write"]).unwrap();
    let clerk =
        store.issue(NewKey::new("Clerk", scopes, Expiry::Never).with_owner("shop")).unwrap();
    let acting = store.acting_as(Actor::Key(clerk.record.id));
    let counted = acting.count_for_bulk(&ListQuery::default().with_text("Till")).unwrap();
    assert_eq!(counted.len(), 2);
    assert!(acting.count_for_bulk(&ListQuery::default().with_owner("bank")).unwrap().is_empty());
    let ids: Vec<KeyId> = bank.iter().chain(&shop).map(|(id, _)| *id).collect();
    assert_eq!(acting.count_ids_for_bulk(&ids).unwrap(), counted);
    // Counted by the host, so with keys of both owners.
    let all = store.acting_as(Actor::Host).count_ids_for_bulk(&ids).unwrap();
    let report = acting.bulk(&BulkAct::Revoke, &all);
    assert_eq!(report.done.len(), 2);
    assert!(report.not_done.iter().all(|(_, error)| matches!(error, Error::NoSuchKey(_))));
    assert!(bank.iter().all(|(id, _)| store.get(*id).unwrap().active));
}
