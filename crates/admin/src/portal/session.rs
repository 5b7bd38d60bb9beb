//! Who is logged in, in memory: a restart logs everybody out.
//!
//! A session is no right of its own. It remembers the digest of the key that was presented, and the
//! store decides on that digest anew with each request.

use portcullis::{Digest, KeyId, NoRandomness, internal};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const IDLE: Duration = Duration::from_mins(30);
const LONGEST: Duration = Duration::from_hours(12);
const MOST_SESSIONS: usize = 1000;
/// Sessions of one key. A further login ends the one of that key that was idle for longest.
const MOST_OF_A_KEY: usize = 20;
/// Forms that one session may have open in its tabs, and those that it sent a while ago.
const MOST_FORMS: usize = 64;

/// 256 random bits that nobody guesses, as the browser sends them back.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token([u8; 32]);

impl Token {
    fn fresh() -> Result<Self, NoRandomness> {
        internal::array().map(Self)
    }

    /// As hexadecimal digits.
    pub(crate) fn to_text(self) -> String {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// What became of a form that makes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// It can be sent. Whoever reads this state is the one who sends it.
    Open,
    /// It was sent, and its act is in progress.
    Sent,
    /// It was sent and made this key, which was revealed then.
    Done(KeyId),
    /// It was sent, and the outcome of its act is unknown.
    InDoubt,
    /// It belongs to another session, or was forgotten.
    Unknown,
}

struct Session {
    key: KeyId,
    digest: Digest,
    started: Instant,
    seen: Instant,
    forms: VecDeque<(Token, Form)>,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.seen) >= IDLE || now.duration_since(self.started) >= LONGEST
    }

    fn form(&mut self, token: Token) -> Option<&mut Form> {
        self.forms.iter_mut().find(|(known, _)| *known == token).map(|(_, form)| form)
    }
}

/// All sessions of a portal.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<Token, Session>>);

impl Sessions {
    /// Begins a session for the holder of this key.
    ///
    /// Sessions are bounded for each key and in all, and a login only ever ends a session of a key
    /// that has at least as many sessions as the one that logs in. So no key's logins end the
    /// sessions of keys that have fewer.
    pub(crate) fn begin(&self, key: KeyId, digest: Digest) -> Result<Token, NoRandomness> {
        self.begin_at((key, digest), Instant::now())
    }

    fn begin_at(
        &self,
        (key, digest): (KeyId, Digest),
        now: Instant,
    ) -> Result<Token, NoRandomness> {
        let token = Token::fresh()?;
        let mut sessions = self.lock();
        if sessions.len() >= MOST_SESSIONS {
            sessions.retain(|_, session| !session.is_over(now));
        }
        let of_this_key = sessions.values().filter(|session| session.key == key).count();
        if of_this_key >= MOST_OF_A_KEY {
            end_idlest(&mut sessions, key);
        } else if sessions.len() >= MOST_SESSIONS {
            let crowded = most_frequent_key(&sessions, key);
            end_idlest(&mut sessions, crowded);
        }
        let session = Session { key, digest, started: now, seen: now, forms: VecDeque::new() };
        sessions.insert(token, session);
        Ok(token)
    }

    /// The digest of the session's key, if the session is not over; it counts as seen now.
    pub(crate) fn find(&self, token: Token) -> Option<Digest> {
        self.find_at(token, Instant::now())
    }

    fn find_at(&self, token: Token, now: Instant) -> Option<Digest> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(&token)?;
        if session.is_over(now) {
            sessions.remove(&token);
            return None;
        }
        session.seen = now;
        Some(session.digest)
    }

    /// Ends a session.
    pub(crate) fn end(&self, token: Token) {
        self.lock().remove(&token);
    }

    /// A token for a form that may be sent once.
    pub(crate) fn open_form(&self, session: Token) -> Result<Token, NoRandomness> {
        let form = Token::fresh()?;
        if let Some(session) = self.lock().get_mut(&session) {
            session.forms.truncate(MOST_FORMS - 1);
            session.forms.push_front((form, Form::Open));
        }
        Ok(form)
    }

    /// What became of the form; one that was open is sent from now on.
    pub(crate) fn send_form(&self, session: Token, form: Option<Token>) -> Form {
        let mut sessions = self.lock();
        let found = form.and_then(|form| sessions.get_mut(&session)?.form(form));
        found.map_or(Form::Unknown, |form| match *form {
            Form::Open => std::mem::replace(form, Form::Sent),
            sent => sent,
        })
    }

    /// Notes what came of a form that was sent.
    pub(crate) fn settle_form(&self, session: Token, form: Token, outcome: Form) {
        if let Some(form) = self.lock().get_mut(&session).and_then(|s| s.form(form)) {
            *form = outcome;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the session of this key that was idle for longest.
fn end_idlest(sessions: &mut HashMap<Token, Session>, key: KeyId) {
    let of_key = sessions.iter().filter(|(_, session)| session.key == key);
    if let Some(idlest) = of_key.min_by_key(|(_, session)| session.seen).map(|(token, _)| *token) {
        sessions.remove(&idlest);
    }
}

/// The key with the most sessions; `own` where it has as many as any other, else the one whose
/// sessions were all idle for longest.
fn most_frequent_key(sessions: &HashMap<Token, Session>, own: KeyId) -> KeyId {
    let mut keys: HashMap<KeyId, (usize, Instant)> = HashMap::new();
    for session in sessions.values() {
        let (count, seen) = keys.entry(session.key).or_insert((0, session.seen));
        (*count, *seen) = (*count + 1, (*seen).max(session.seen));
    }
    let order = |(key, (count, seen)): &(KeyId, (usize, Instant))| {
        (*count, *key == own, std::cmp::Reverse(*seen))
    };
    keys.into_iter().max_by_key(order).map_or(own, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    fn id(number: u64) -> KeyId {
        KeyId::from_digits(format!("{number:011}").as_bytes()).unwrap()
    }

    fn holder(number: u64) -> (KeyId, Digest) {
        static DIGEST: LazyLock<Digest> =
            LazyLock::new(|| portcullis::Store::in_memory().unwrap().digest(b"any"));
        (id(number), *DIGEST)
    }

    #[test]
    fn a_session_ends_when_it_is_idle_and_when_it_is_old() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let token = sessions.begin_at(holder(1), start).unwrap();
        let mut now = start;
        while now + IDLE < start + LONGEST {
            now += IDLE / 2;
            assert!(sessions.find_at(token, now).is_some());
        }
        assert!(sessions.find_at(token, start + LONGEST).is_none());
        let token = sessions.begin_at(holder(1), start).unwrap();
        assert!(sessions.find_at(token, start + IDLE).is_none());
        assert!(sessions.find_at(token, start).is_none());
    }

    #[test]
    fn logins_with_one_key_end_only_sessions_of_that_key() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let at = |second: u64| start + Duration::from_secs(second);
        let other = sessions.begin_at(holder(1), start).unwrap();
        let first = sessions.begin_at(holder(2), at(1)).unwrap();
        let used = sessions.begin_at(holder(2), at(1)).unwrap();
        for _ in 0..MOST_SESSIONS {
            sessions.find_at(used, at(3)).unwrap();
            sessions.begin_at(holder(2), at(2)).unwrap();
        }
        assert!(sessions.find_at(other, at(4)).is_some());
        assert!(sessions.find_at(first, at(4)).is_none());
        assert!(sessions.find_at(used, at(4)).is_some());
        assert_eq!(sessions.lock().len(), 1 + MOST_OF_A_KEY);
    }

    #[test]
    fn full_table_takes_from_the_key_with_the_most_sessions() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let modest = sessions.begin_at(holder(0), start).unwrap();
        let mut key = 0;
        while sessions.lock().len() < MOST_SESSIONS {
            key += 1;
            let room = MOST_SESSIONS - sessions.lock().len();
            let of_key = if key == 1 { MOST_OF_A_KEY } else { MOST_OF_A_KEY - 1 };
            for _ in 0..of_key.min(room) {
                sessions.begin_at(holder(key), start).unwrap();
            }
        }
        let count = |key| sessions.lock().values().filter(|s| s.key == id(key)).count();
        sessions.begin_at(holder(99_999_999_999), start).unwrap();
        assert_eq!((count(1), sessions.lock().len()), (MOST_OF_A_KEY - 1, MOST_SESSIONS));
        // A key that has as many sessions as any other ends its own.
        sessions.begin_at(holder(2), start).unwrap();
        assert_eq!((count(2), sessions.lock().len()), (MOST_OF_A_KEY - 1, MOST_SESSIONS));
        assert!(sessions.find_at(modest, start).is_some());
    }

    #[test]
    fn a_form_is_sent_once() {
        let sessions = Sessions::default();
        let session = sessions.begin_at(holder(1), Instant::now()).unwrap();
        let form = sessions.open_form(session).unwrap();
        assert_eq!(sessions.send_form(session, Some(form)), Form::Open);
        assert_eq!(sessions.send_form(session, Some(form)), Form::Sent);
        sessions.settle_form(session, form, Form::Open);
        assert_eq!(sessions.send_form(session, Some(form)), Form::Open);
        for _ in 0..MOST_FORMS {
            sessions.open_form(session).unwrap();
        }
        assert_eq!(sessions.send_form(session, Some(form)), Form::Unknown);
        assert_eq!(sessions.send_form(session, None), Form::Unknown);
    }

    #[test]
    fn a_token_survives_its_text() {
        let token = Token::fresh().unwrap();
        assert!(Token::from_text(&token.to_text()) == Some(token));
        for wrong in ["", "zz", &"g".repeat(64), &"é".repeat(32), &"0".repeat(63)] {
            assert!(Token::from_text(wrong).is_none());
        }
    }
}
