//! The sessions of users, in memory: a restart logs everybody out.
//!
//! A session grants nothing by itself. It has a handle of its key, and the store authenticates the
//! key again for each request.
//!
//! A form that issues a key can be submitted once:
//!
//! | state | event | next state |
//! |---|---|---|
//! | `Open` | submitted | `Submitted`; the request executes its act |
//! | `Submitted` | the act issued a key | `Done` |
//! | `Submitted` | the act failed and issued no key | `Open` |
//! | `Submitted` | the outcome of the act is unknown | `InDoubt` |
//! | `Submitted`, `Done`, `InDoubt` | submitted again | unchanged; the request executes nothing |

use data_encoding::HEXLOWER;
use portcullis::{KeyHandle, KeyId, NoRandomness, random_bytes};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const IDLE_TIMEOUT: Duration = Duration::from_mins(30);
const MAX_AGE: Duration = Duration::from_hours(12);
const MAX_SESSIONS: usize = 1000;
/// At this limit, a further login with the key ends its least recently used session.
const MAX_SESSIONS_PER_KEY: usize = 20;
/// Forms of one session, open or submitted. At this limit, the oldest is forgotten.
const MAX_FORMS: usize = 64;

/// 256 random bits that identify a session or a form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token([u8; 32]);

impl Token {
    fn random() -> Result<Self, NoRandomness> {
        random_bytes().map(Self)
    }

    /// Formats the token as hexadecimal digits.
    pub(crate) fn to_text(self) -> String {
        HEXLOWER.encode(&self.0)
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

/// The state of a form that issues a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormState {
    /// The form can be submitted.
    Open,
    /// The form was submitted, and its act is in progress.
    Submitted,
    /// The form issued this key, which was revealed then.
    Done(KeyId),
    /// The form was submitted, and the outcome of its act is unknown.
    InDoubt,
    /// The form belongs to another session, or was forgotten.
    Unknown,
}

struct Session {
    key: KeyId,
    handle: Arc<KeyHandle>,
    started: Instant,
    last_used: Instant,
    forms: VecDeque<(Token, FormState)>,
}

impl Session {
    fn has_ended(&self, now: Instant) -> bool {
        now.duration_since(self.last_used) >= IDLE_TIMEOUT
            || now.duration_since(self.started) >= MAX_AGE
    }

    fn form(&mut self, token: Token) -> Option<&mut FormState> {
        self.forms.iter_mut().find(|(known, _)| *known == token).map(|(_, form)| form)
    }
}

/// All sessions of a portal.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<Token, Session>>);

impl Sessions {
    /// Starts a session for this key.
    ///
    /// The number of sessions is limited for each key and in total. A login ends only a session of a
    /// key that has at least as many sessions as the key that logs in. So the logins of one key
    /// cannot end the sessions of a key with fewer.
    pub(crate) fn start(&self, key: KeyId, handle: KeyHandle) -> Result<Token, NoRandomness> {
        self.start_at((key, Arc::new(handle)), Instant::now())
    }

    fn start_at(
        &self,
        (key, handle): (KeyId, Arc<KeyHandle>),
        now: Instant,
    ) -> Result<Token, NoRandomness> {
        let token = Token::random()?;
        let mut sessions = self.lock();
        if sessions.len() >= MAX_SESSIONS {
            sessions.retain(|_, session| !session.has_ended(now));
        }
        let of_this_key = sessions.values().filter(|session| session.key == key).count();
        if of_this_key >= MAX_SESSIONS_PER_KEY {
            end_least_recently_used(&mut sessions, key);
        } else if sessions.len() >= MAX_SESSIONS {
            let most_frequent = most_frequent_key(&sessions, key);
            end_least_recently_used(&mut sessions, most_frequent);
        }
        let session = Session { key, handle, started: now, last_used: now, forms: VecDeque::new() };
        sessions.insert(token, session);
        Ok(token)
    }

    /// Returns the handle of the session's key, unless the session has ended, and records its use.
    pub(crate) fn find(&self, token: Token) -> Option<Arc<KeyHandle>> {
        self.find_at(token, Instant::now())
    }

    fn find_at(&self, token: Token, now: Instant) -> Option<Arc<KeyHandle>> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(&token)?;
        if session.has_ended(now) {
            sessions.remove(&token);
            return None;
        }
        session.last_used = now;
        Some(Arc::clone(&session.handle))
    }

    /// Ends a session.
    pub(crate) fn end(&self, token: Token) {
        self.lock().remove(&token);
    }

    /// Creates the token of a form that can be submitted once.
    pub(crate) fn open_form(&self, session: Token) -> Result<Token, NoRandomness> {
        let form = Token::random()?;
        if let Some(session) = self.lock().get_mut(&session) {
            session.forms.truncate(MAX_FORMS - 1);
            session.forms.push_front((form, FormState::Open));
        }
        Ok(form)
    }

    /// Returns the state of a form before this submission. `Open` means that this request executes
    /// the act.
    pub(crate) fn submit_form(&self, session: Token, form: Option<Token>) -> FormState {
        let mut sessions = self.lock();
        let found = form.and_then(|form| sessions.get_mut(&session)?.form(form));
        found.map_or(FormState::Unknown, |form| match *form {
            FormState::Open => std::mem::replace(form, FormState::Submitted),
            other => other,
        })
    }

    /// Records the outcome of a submitted form.
    pub(crate) fn record_outcome(&self, session: Token, form: Token, outcome: FormState) {
        if let Some(form) = self.lock().get_mut(&session).and_then(|s| s.form(form)) {
            *form = outcome;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the least recently used session of this key.
fn end_least_recently_used(sessions: &mut HashMap<Token, Session>, key: KeyId) {
    let of_key = sessions.iter().filter(|(_, session)| session.key == key);
    if let Some(oldest) =
        of_key.min_by_key(|(_, session)| session.last_used).map(|(token, _)| *token)
    {
        sessions.remove(&oldest);
    }
}

/// The key with the most sessions. Of several, `own`, or the key whose sessions were all idle for
/// longest.
fn most_frequent_key(sessions: &HashMap<Token, Session>, own: KeyId) -> KeyId {
    let mut keys: HashMap<KeyId, (usize, Instant)> = HashMap::new();
    for session in sessions.values() {
        let (count, last_used) = keys.entry(session.key).or_insert((0, session.last_used));
        (*count, *last_used) = (*count + 1, (*last_used).max(session.last_used));
    }
    let order = |(key, (count, last_used)): &(KeyId, (usize, Instant))| {
        (*count, *key == own, std::cmp::Reverse(*last_used))
    };
    keys.into_iter().max_by_key(order).map_or(own, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis::{Expiry, Grant, NewKey, Store};
    use std::sync::LazyLock;

    fn id(number: u64) -> KeyId {
        format!("key_{number:011}").parse().unwrap()
    }

    fn any_handle() -> KeyHandle {
        let store = Store::builder()
            .scopes(portcullis::scope::catalogue::financial_data())
            .in_memory()
            .unwrap();
        let new = NewKey::new("a", Grant::All, Expiry::Never);
        let key = store.issue(new).unwrap().secret.reveal(str::to_owned);
        store.authenticate_with_handle(key.as_bytes()).unwrap().1
    }

    fn holder(number: u64) -> (KeyId, Arc<KeyHandle>) {
        static HANDLE: LazyLock<Arc<KeyHandle>> = LazyLock::new(|| Arc::new(any_handle()));
        (id(number), Arc::clone(&HANDLE))
    }

    #[test]
    fn session_ends_after_the_idle_timeout_and_at_the_maximum_age() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let token = sessions.start_at(holder(1), start).unwrap();
        let mut now = start;
        while now + IDLE_TIMEOUT < start + MAX_AGE {
            now += IDLE_TIMEOUT / 2;
            assert!(sessions.find_at(token, now).is_some());
        }
        assert!(sessions.find_at(token, start + MAX_AGE).is_none());
        let token = sessions.start_at(holder(1), start).unwrap();
        assert!(sessions.find_at(token, start + IDLE_TIMEOUT).is_none());
        assert!(sessions.find_at(token, start).is_none());
    }

    #[test]
    fn logins_with_one_key_end_only_sessions_of_that_key() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let at = |second: u64| start + Duration::from_secs(second);
        let other = sessions.start_at(holder(1), start).unwrap();
        let first = sessions.start_at(holder(2), at(1)).unwrap();
        let used = sessions.start_at(holder(2), at(1)).unwrap();
        for _ in 0..MAX_SESSIONS {
            sessions.find_at(used, at(3)).unwrap();
            sessions.start_at(holder(2), at(2)).unwrap();
        }
        assert!(sessions.find_at(other, at(4)).is_some());
        assert!(sessions.find_at(first, at(4)).is_none());
        assert!(sessions.find_at(used, at(4)).is_some());
        assert_eq!(sessions.lock().len(), 1 + MAX_SESSIONS_PER_KEY);
    }

    #[test]
    fn full_table_ends_a_session_of_the_key_with_the_most_sessions() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let modest = sessions.start_at(holder(0), start).unwrap();
        let mut key = 0;
        while sessions.lock().len() < MAX_SESSIONS {
            key += 1;
            let room = MAX_SESSIONS - sessions.lock().len();
            let of_key = if key == 1 { MAX_SESSIONS_PER_KEY } else { MAX_SESSIONS_PER_KEY - 1 };
            for _ in 0..of_key.min(room) {
                sessions.start_at(holder(key), start).unwrap();
            }
        }
        let count = |key| sessions.lock().values().filter(|s| s.key == id(key)).count();
        sessions.start_at(holder(99_999_999_999), start).unwrap();
        assert_eq!((count(1), sessions.lock().len()), (MAX_SESSIONS_PER_KEY - 1, MAX_SESSIONS));
        // A key that has as many sessions as any other ends its own.
        sessions.start_at(holder(2), start).unwrap();
        assert_eq!((count(2), sessions.lock().len()), (MAX_SESSIONS_PER_KEY - 1, MAX_SESSIONS));
        assert!(sessions.find_at(modest, start).is_some());
    }

    #[test]
    fn form_can_be_submitted_once() {
        let sessions = Sessions::default();
        let session = sessions.start_at(holder(1), Instant::now()).unwrap();
        let form = sessions.open_form(session).unwrap();
        assert_eq!(sessions.submit_form(session, Some(form)), FormState::Open);
        assert_eq!(sessions.submit_form(session, Some(form)), FormState::Submitted);
        sessions.record_outcome(session, form, FormState::Open);
        assert_eq!(sessions.submit_form(session, Some(form)), FormState::Open);
        for _ in 0..MAX_FORMS {
            sessions.open_form(session).unwrap();
        }
        assert_eq!(sessions.submit_form(session, Some(form)), FormState::Unknown);
        assert_eq!(sessions.submit_form(session, None), FormState::Unknown);
    }

    #[test]
    fn token_parses_to_the_same_value() {
        let token = Token::random().unwrap();
        assert!(Token::from_text(&token.to_text()) == Some(token));
        for wrong in ["", "zz", &"g".repeat(64), &"é".repeat(32), &"0".repeat(63)] {
            assert!(Token::from_text(wrong).is_none());
        }
    }
}
