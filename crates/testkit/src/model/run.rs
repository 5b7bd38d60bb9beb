//! Runs steps on the store and on the model, and compares them. After each step it authenticates every
//! key, reads every record and compares the new audit entries.

use super::{
    Edit, End, ExpectedEntry, Fault, Fields, Filter, Key, Model, Position, Powers, Record,
    step::{Asked, By, Draft, Partial, Revision, Size, Step, When},
};
use portcullis::{
    Actor, Change, Error, Expiry, Grant, KeyId, NewKey, Principal, Refusal, Scope, Store,
    Timestamp,
    audit::{Act, AuditEntry},
    error::Field,
    list::ListQuery,
};
use std::{
    collections::BTreeSet,
    fmt::Debug,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How far the store's clock may be behind, in milliseconds.
const CLOCK_RESOLUTION: u64 = 1000;

/// Runs the steps on a store in the directory `home`, or in memory, where reopening is skipped.
pub fn run(steps: &[Step], home: Option<&Path>) {
    let mut run = Run { home, store: None, model: Model::default(), next_page: None, audited: 0 };
    run.open(Some(&["ledger.close"]));
    for step in steps {
        run.apply(step);
        run.check();
    }
    if home.is_some() {
        run.open(Some(&["ledger.close"]));
        run.check();
    }
}

/// The query of the next page, and the end of the last one.
type NextPage = (ListQuery, Filter, Position);

struct Run<'h> {
    home: Option<&'h Path>,
    /// `None` only while the store is reopened.
    store: Option<Store>,
    model: Model,
    /// The last page that had more.
    next_page: Option<NextPage>,
    /// The number of compared audit entries.
    audited: usize,
}

impl Run<'_> {
    fn open(&mut self, host: Option<&'static [&'static str]>) {
        self.store = None;
        self.model.close();
        // A new store gets the preset, and an existing one keeps its scopes.
        let is_new = self.home.is_none_or(|home| !home.exists());
        let has_scopes = is_new || host.is_some();
        let mut builder = if has_scopes { crate::builder() } else { Store::builder() };
        if let Some(names) = host {
            builder = builder.scopes(names.iter().map(|name| (scope(name), String::new())));
        }
        let store = match self.home {
            Some(home) => builder.open(home),
            None => builder.in_memory(),
        };
        self.store = Some(store.expect("a store"));
        self.model.open(host, self.home.is_some());
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("an open store")
    }

    fn apply(&mut self, step: &Step) {
        self.act(step);
        self.compare_views();
    }

    /// Compares what each key that may list is shown with the model.
    fn compare_views(&self) {
        let ids: Vec<KeyId> = self.model.keys.iter().map(|key| key.id).collect();
        for by in ids.iter().rev().take(4).map(|id| Actor::Key(*id)) {
            let Some(seen) = self.model.view(by, now()) else { continue };
            let acting = self.store().acting_as(by);
            let page = acting.list(&ListQuery::default().with_page_size(200)).expect("a page");
            let listed: Vec<KeyId> = page.records.iter().map(|record| record.id).collect();
            assert_eq!(listed, seen.iter().take(200).copied().collect::<Vec<_>>(), "{by}");
            let count = acting.count().expect("a count");
            assert_eq!(count.active + count.inactive, seen.len(), "{by}");
            for id in &ids {
                let (found, is_seen) = (acting.get(*id), seen.contains(id));
                assert_eq!(found.is_ok(), is_seen, "{by} {id}");
                assert!(is_seen || matches!(found, Err(Error::NoSuchKey(_))), "{by} {id}");
                assert_eq!(acting.visible(*id).is_some(), is_seen, "{by} {id}");
                if let (Ok(found), Some(record)) = (found, self.model.find(*id)) {
                    assert_eq!(plain(&found), self.model.shown(by, record.clone()), "{by} {id}");
                }
            }
            if self.home.is_some() {
                let expected = self.model.audit_of(by);
                let audit = self.model.audit.iter().filter(|entry| entry.act == "create");
                let known: BTreeSet<KeyId> = audit.filter_map(|entry| entry.key).collect();
                let (entries, _) = acting.audit(0, 10_000).expect("entries");
                let entries = entries.iter().filter(|entry| entry.act.as_str() != "refuse");
                let found = entries.filter_map(|entry| Some((entry.sequence, entry.key?)));
                let found: Vec<_> = found.filter(|(_, key)| known.contains(key)).collect();
                assert_eq!(found, expected, "{by}");
            }
        }
    }

    fn act(&mut self, step: &Step) {
        match step {
            Step::Issue { by, new } => self.issue(*by, new),
            Step::Update { by, key, edit, revision } => self.update(*by, *key, edit, *revision),
            Step::Revoke { by, key } => self.revoke(*by, *key),
            Step::Rotate { by, key, grace_hours } => self.rotate(*by, *key, *grace_hours),
            Step::Delete { by, key } => self.delete(*by, *key),
            Step::GrantForeign { key, name } => self.grant_foreign(*key, name),
            Step::List { active, scope: held, text, size } => {
                let filter = Filter {
                    active: *active,
                    scope: *held,
                    text: text.clone(),
                    size: if let Size::At(size) = size { Some(*size) } else { None },
                };
                let bad = matches!(size, Size::BadToken).then(|| "not a token".to_owned());
                let mut query = ListQuery::default();
                (query.active, query.scope) = (filter.active, filter.scope.map(scope));
                (query.text, query.page_size) = (filter.text.clone(), filter.size);
                query.page_token = bad;
                self.list_all(query, &filter);
            }
            Step::NextPage => {
                if let Some((query, filter, position)) = self.next_page.take() {
                    self.next_page = self.list(query, filter, Some(position));
                }
            }
            Step::Corrupt { key, how, at } => self.corrupt(*key, *how, *at),
            Step::Reopen { host } => {
                if self.home.is_some() {
                    self.open(*host);
                }
            }
        }
    }

    fn issue(&mut self, by: By, draft: &Draft) {
        let by = self.actor(by);
        let (fields, expiry) = self.fields(draft);
        let asked = self.model.powers(&fields.powers);
        let grant = self.grant(&fields.powers);
        let Ok(grant) = grant else { return same_fault(&grant, &asked) };
        asked.expect("a grant that the store accepted");
        let mut new = NewKey::new(&fields.name, grant, expiry).with_active(fields.active);
        (new.owner, new.metadata) = (fields.owner.clone(), fields.metadata.clone());
        let start = now();
        let real = self.store().acting_as(by).issue(new);
        let moment = real.as_ref().map_or(start, |issued| issued.record.created_at);
        let expected = self.model.issue(by, fields, moment);
        match (real, expected) {
            (Ok(issued), Ok(expected)) => {
                check_moment(start, moment);
                assert_eq!(plain(&issued.record), self.model.shown(by, expected.clone()));
                let id = issued.record.id;
                let text = issued.secret.reveal(str::to_owned);
                assert!(text.starts_with(&format!("{}_", self.store().prefix().hint(id))));
                self.model.issued(id, text, expected);
            }
            (real, expected) => self.fail(&real, &expected),
        }
    }

    fn update(&mut self, by: By, key: usize, partial: &Partial, revision: Revision) {
        let (by, id) = (self.actor(by), self.id(key));
        let (fields, expiry) = self.fields(&partial.draft);
        let grant = if partial.asked {
            let (real, expected) = (self.grant(&fields.powers), self.model.powers(&fields.powers));
            let Ok(grant) = real else { return same_fault(&real, &expected) };
            Some(grant)
        } else {
            None
        };
        let all = fields.all();
        let edit = Edit {
            name: all.name.filter(|_| partial.name),
            powers: all.powers.filter(|_| partial.asked),
            active: all.active.filter(|_| partial.active),
            end: all.end.filter(|_| partial.when),
            owner: all.owner.filter(|_| partial.owner),
            metadata: all.metadata.filter(|_| partial.metadata),
        };
        let mut change = Change::default();
        (change.name, change.grant, change.active) = (edit.name.clone(), grant, edit.active);
        change.expiry = partial.when.then_some(expiry);
        (change.owner, change.metadata) = (edit.owner.clone(), edit.metadata.clone());
        let seen = self.model.find(id).map_or(0, |record| record.revision);
        let revision = match revision {
            Revision::Any => None,
            Revision::Right => Some(seen),
            Revision::Stale => Some(seen.wrapping_sub(1)),
        };
        self.change(by, id, &edit, revision, |store| {
            let acting = store.acting_as(by);
            match revision {
                None => acting.update(id, change),
                Some(revision) => acting.update_if(id, revision, change),
            }
        });
    }

    fn revoke(&mut self, by: By, key: usize) {
        let (by, id) = (self.actor(by), self.id(key));
        let edit = Edit { active: Some(false), ..Edit::default() };
        self.change(by, id, &edit, None, |store| store.acting_as(by).revoke(id));
    }

    fn change(
        &mut self,
        by: Actor,
        id: KeyId,
        edit: &Edit,
        revision: Option<u64>,
        change: impl FnOnce(&Store) -> Result<Arc<portcullis::Record>, Error>,
    ) {
        let before = self.model.find(id).map(|record| record.revision);
        let start = now();
        let real = change(self.store());
        let moment = real.as_ref().map_or(start, |record| record.updated_at);
        match (real, self.model.update(by, id, edit, revision, moment)) {
            (Ok(record), Ok(expected)) => {
                if before != Some(expected.revision) {
                    check_moment(start, moment);
                }
                assert_eq!(plain(&record), self.model.shown(by, expected));
            }
            (real, expected) => self.fail(&real, &expected),
        }
    }

    fn rotate(&mut self, by: By, key: usize, grace_hours: u64) {
        let (by, id) = (self.actor(by), self.id(key));
        let start = now();
        let grace = Duration::from_secs(grace_hours * 3600);
        let real = self.store().acting_as(by).rotate(id, grace);
        let moment = real.as_ref().map_or(start, |issued| issued.record.created_at);
        match (real, self.model.rotate(by, id, grace_hours, moment)) {
            (Ok(issued), Ok(expected)) => {
                check_moment(start, moment);
                assert_eq!(plain(&issued.record), self.model.shown(by, expected.clone()));
                let new = issued.record.id;
                self.model.rotated(new, issued.secret.reveal(str::to_owned), expected);
            }
            (real, expected) => self.fail(&real, &expected),
        }
    }

    fn delete(&mut self, by: By, key: usize) {
        let (by, id) = (self.actor(by), self.id(key));
        let real = self.store().acting_as(by).delete(id);
        let expected = self.model.delete(by, id, now());
        if real.is_err() || expected.is_err() {
            self.fail(&real, &expected);
        }
    }

    /// Grants a scope set of another store. Its bits mean other scopes here, so the names must decide.
    fn grant_foreign(&mut self, key: usize, name: &'static str) {
        let id = self.id(key);
        let host = ["foreign.one", "ledger.close"].map(|name| (scope(name), String::new()));
        let foreign = Store::builder().scopes(host).in_memory().expect("another store");
        let set = foreign.scopes([name]).expect("its scope");
        let powers = Powers::Scopes([name.to_owned()].into());
        let change = Change::default().with_grant(Grant::Scopes(set));
        if self.model.find(id).is_some() && self.model.powers(&powers).is_err() {
            let real = self.store().update(id, change);
            return same_fault(&real, &Err::<(), _>(Fault::UnknownScope));
        }
        let edit = Edit { powers: Some(powers), ..Edit::default() };
        self.change(Actor::Host, id, &edit, None, |store| store.update(id, change));
    }

    /// Lists every page. A later step may continue from the first page after other changes.
    fn list_all(&mut self, query: ListQuery, filter: &Filter) {
        let first = self.list(query, filter.clone(), None);
        let mut next = first.clone();
        while let Some((query, filter, position)) = next {
            next = self.list(query, filter, Some(position));
        }
        self.next_page = first.or(self.next_page.take());
    }

    /// Lists one page. Returns the query of the next one.
    fn list(
        &self,
        mut query: ListQuery,
        filter: Filter,
        position: Option<Position>,
    ) -> Option<NextPage> {
        let real = self.store().list(&query);
        let bad_token = position.is_none() && query.page_token.is_some();
        let expected = self.model.list(&filter, position).and_then(|page| {
            let token = Fault::Invalid(Field::PageToken);
            if bad_token { Err(token) } else { Ok(page) }
        });
        match (real, expected) {
            (Ok(page), Ok((ids, last))) => {
                let listed: Vec<KeyId> = page.records.iter().map(|record| record.id).collect();
                assert_eq!(listed, ids);
                for record in page.records {
                    assert_eq!(Some(&plain(&record)), self.model.find(record.id));
                }
                assert_eq!(page.next_page_token.is_some(), last.is_some());
                query.page_token = page.next_page_token;
                last.map(|last| (query, filter, last))
            }
            (real, expected) => {
                same_fault(&real, &expected);
                None
            }
        }
    }

    fn corrupt(&self, key: usize, how: u8, at: usize) {
        let Some(key) = self.model.keys.get(key % self.model.keys.len().max(1)) else { return };
        let mut text = key.text.clone().into_bytes();
        let at = at % text.len();
        match how % 6 {
            0 => text[at] = if text[at] == b'a' { b'b' } else { b'a' },
            1 => text.truncate(at),
            2 => text.insert(at, b'0'),
            3 => text[at] ^= 0x20,
            4 => text[at] ^= 0x80,
            _ => text.push(b'\n'),
        }
        assert_eq!(self.store().authenticate_key(&text).map(|_| ()), Err(Refusal::Unknown));
        let refused = [Refusal::Unknown, Refusal::Malformed];
        let header = basic(&text);
        let decision = self.store().authenticate_header(header.as_bytes()).map(|_| ());
        assert!(decision.is_err_and(|refusal| refused.contains(&refusal)));
    }

    /// Compares every key, every record and the new audit entries.
    fn check(&mut self) {
        for key in &self.model.keys {
            self.check_key(key);
            match (self.store().get(key.id), &key.record) {
                (Ok(record), Some(expected)) => assert_eq!(plain(&record), *expected),
                (Err(Error::NoSuchKey(id)), None) => assert_eq!(id, key.id),
                (real, expected) => panic!("{real:?} for {expected:?}"),
            }
        }
        self.check_audit();
    }

    fn check_key(&self, key: &Key) {
        let store = self.store();
        let expected = Model::decision(key, now());
        let decision = store.authenticate_key(key.text.as_bytes());
        let header = store.authenticate_header(basic(key.text.as_bytes()).as_bytes());
        assert_eq!(header.as_ref().map(Principal::id), decision.as_ref().map(Principal::id));
        match (decision, expected) {
            (Ok(principal), Ok(powers)) => {
                assert_eq!((principal.id(), plain_powers(principal.grant())), (key.id, powers));
                for name in &self.model.known {
                    let allowed = principal.require(&scope(name));
                    assert_eq!(allowed.is_ok(), plain_powers(principal.grant()).have(name));
                }
            }
            (decision, expected) => assert_eq!(decision.map(|_| ()), expected.map(|_| ())),
        }
    }

    fn check_audit(&mut self) {
        let after = u64::try_from(self.audited).expect("a short audit log");
        let entries = self.store().audit(after, 1000).expect("the audit log");
        if self.home.is_none() {
            return assert_eq!(entries, []);
        }
        let entries: Vec<ExpectedEntry> = entries.iter().map(plain_entry).collect();
        assert_eq!(entries, self.model.audit[self.audited..]);
        self.audited = self.model.audit.len();
    }

    /// Checks that both fail alike, and records the refusal with the text of the error.
    fn fail<R: Debug, E: Debug>(&mut self, real: &Result<R, Error>, expected: &Result<E, Fault>) {
        same_fault(real, expected);
        if let Err(error) = real {
            self.model.record_refusal(error.to_string());
        }
    }

    fn actor(&self, by: By) -> Actor {
        match by {
            By::Host => Actor::Host,
            By::Local(uid) => Actor::Local(uid),
            By::Key(key) => Actor::Key(self.id(key)),
        }
    }

    fn id(&self, key: usize) -> KeyId {
        let unknown = "key_00000000000".parse().expect("an id");
        self.model.keys.get(key % (self.model.keys.len() + 1)).map_or(unknown, |key| key.id)
    }

    fn fields(&self, draft: &Draft) -> (Fields, Expiry) {
        let inserted = self.model.keys.get(draft.key % (self.model.keys.len() + 1));
        let inserted = inserted.map_or("pcl_", |key| &key.text);
        let fill = |text: &String| text.replace("{key}", inserted);
        let expiry = match draft.when {
            When::Never => Expiry::Never,
            When::JustNow => {
                Expiry::At(Timestamp::from_millis(now().as_millis() - CLOCK_RESOLUTION))
            }
            When::AtMillis(millis) => Expiry::At(Timestamp::from_millis(millis)),
        };
        let fields = Fields {
            name: fill(&draft.name),
            powers: match &draft.asked {
                Asked::All => Powers::All,
                Asked::Scopes(names) => {
                    Powers::Scopes(names.iter().map(|name| (*name).to_owned()).collect())
                }
            },
            active: draft.active,
            end: plain_end(expiry),
            owner: draft.owner.as_ref().map(fill),
            metadata: draft.metadata.iter().map(|(key, value)| (fill(key), fill(value))).collect(),
        };
        (fields, expiry)
    }

    fn grant(&self, powers: &Powers) -> Result<Grant, Error> {
        match powers {
            Powers::All => Ok(Grant::All),
            Powers::Scopes(names) => self.store().scopes(names).map(Grant::Scopes),
        }
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Checks that the time of a change is between its call and its return.
fn check_moment(start: Timestamp, moment: Timestamp) {
    assert!(start.as_millis() <= moment.as_millis() + CLOCK_RESOLUTION, "{start:?} {moment:?}");
    assert!(moment <= now(), "{moment:?}");
}

fn scope(name: &str) -> Scope {
    name.parse().expect("a scope's name")
}

fn basic(key: &[u8]) -> String {
    format!("Basic {}", crate::base64(&[key, b":"].concat()))
}

fn same_fault<R: Debug, E: Debug>(real: &Result<R, Error>, expected: &Result<E, Fault>) {
    match (real, expected) {
        (Err(error), Err(expected)) => assert_eq!(fault(error), *expected),
        _ => panic!("the store returned {real:?}, the model {expected:?}"),
    }
}

fn fault(error: &Error) -> Fault {
    match error {
        Error::Invalid { field, .. } => Fault::Invalid(*field),
        Error::UnknownScope(_) => Fault::UnknownScope,
        Error::NoSuchKey(_) => Fault::NoSuchKey,
        Error::StillActive(_) => Fault::StillActive,
        Error::LastRoot(_) => Fault::LastRoot,
        Error::Changed(_) => Fault::Changed,
        Error::NotCurrent { .. } => Fault::NotCurrent,
        Error::Forbidden(reason) => Fault::Forbidden(reason.clone()),
        other => panic!("no step fails with {other}"),
    }
}

fn plain(record: &portcullis::Record) -> Record {
    Record {
        replaces: record.replaces,
        replaced_by: record.replaced_by,
        fields: Fields {
            name: record.name.clone(),
            powers: plain_powers(&record.grant),
            active: record.active,
            end: plain_end(record.expiry),
            owner: record.owner.clone(),
            metadata: record.metadata.clone(),
        },
        created_at: record.created_at,
        created_by: record.created_by,
        updated_at: record.updated_at,
        updated_by: record.updated_by,
        inactive_since: record.inactive_since,
        revision: record.revision,
    }
}

fn plain_powers(grant: &Grant) -> Powers {
    match grant {
        Grant::All => Powers::All,
        Grant::Scopes(set) => {
            Powers::Scopes(set.iter().map(|scope| scope.as_str().to_owned()).collect())
        }
    }
}

fn plain_end(expiry: Expiry) -> End {
    match expiry {
        Expiry::Never => End::Never,
        Expiry::At(end) => End::At(end.as_millis() / 1000),
    }
}

fn plain_change(change: &Change) -> Edit {
    Edit {
        name: change.name.clone(),
        powers: change.grant.as_ref().map(plain_powers),
        active: change.active,
        end: change.expiry.map(plain_end),
        owner: change.owner.clone(),
        metadata: change.metadata.clone(),
    }
}

fn plain_entry(entry: &AuditEntry) -> ExpectedEntry {
    assert_eq!(entry.source, None);
    let (attempt, reason, again) = match &entry.act {
        Act::Refuse { attempt, reason } => (Some(*attempt), Some(reason.clone()), 0),
        Act::RefuseRepeated { attempt, reason, count, first, last } => {
            assert!(first <= last && *last <= entry.at);
            (Some(*attempt), Some(reason.clone()), *count)
        }
        _ => (None, None, 0),
    };
    ExpectedEntry {
        sequence: entry.sequence,
        actor: entry.actor,
        act: entry.act.as_str(),
        attempt,
        reason,
        again,
        key: entry.key,
        before: plain_change(&entry.before),
        after: plain_change(&entry.after),
    }
}
