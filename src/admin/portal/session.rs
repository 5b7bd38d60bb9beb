//! Who is logged in, in memory: a restart logs everybody out.
//!
//! A session is no right of its own. It remembers the digest of the key that was presented, and the
//! store decides on that digest anew with each request.

use crate::{Digest, KeyId, NoRandomness, random};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const IDLE: Duration = Duration::from_mins(30);
const LONGEST: Duration = Duration::from_hours(12);
const MOST_SESSIONS: usize = 1000;
/// Forms that one session may have open in its tabs, and those that it sent a while ago.
const MOST_FORMS: usize = 64;

/// 256 random bits that nobody guesses, as the browser sends them back.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token([u8; 32]);

impl Token {
    fn fresh() -> Result<Self, NoRandomness> {
        random::array().map(Self)
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
    /// It was not sent yet. Whoever learns this is the one who sends it.
    Open,
    /// It was sent before; the key that came of it is known once it is made.
    Sent(Option<KeyId>),
    /// It is none of this session's, or was forgotten.
    Unknown,
}

struct Session {
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
    /// Begins a session for the holder of this key. Where there is no room the one goes that was
    /// idle for longest.
    pub(crate) fn begin(&self, digest: Digest) -> Result<Token, NoRandomness> {
        self.begin_at(digest, Instant::now())
    }

    fn begin_at(&self, digest: Digest, now: Instant) -> Result<Token, NoRandomness> {
        let token = Token::fresh()?;
        let mut sessions = self.lock();
        if sessions.len() >= MOST_SESSIONS {
            sessions.retain(|_, session| !session.is_over(now));
        }
        if sessions.len() >= MOST_SESSIONS
            && let Some(idlest) = sessions.iter().min_by_key(|(_, s)| s.seen).map(|(t, _)| *t)
        {
            sessions.remove(&idlest);
        }
        let session = Session { digest, started: now, seen: now, forms: VecDeque::new() };
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
            Form::Open => std::mem::replace(form, Form::Sent(None)),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        crate::Store::in_memory().unwrap().digest(b"any")
    }

    #[test]
    fn a_session_ends_when_it_is_idle_and_when_it_is_old() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let token = sessions.begin_at(digest(), start).unwrap();
        let mut now = start;
        while now + IDLE < start + LONGEST {
            now += IDLE / 2;
            assert!(sessions.find_at(token, now).is_some());
        }
        assert!(sessions.find_at(token, start + LONGEST).is_none());
        let token = sessions.begin_at(digest(), start).unwrap();
        assert!(sessions.find_at(token, start + IDLE).is_none());
        assert!(sessions.find_at(token, start).is_none());
    }

    #[test]
    fn sessions_are_bounded_and_the_idlest_goes() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let first = sessions.begin_at(digest(), start).unwrap();
        let second = sessions.begin_at(digest(), start + Duration::from_secs(1)).unwrap();
        for _ in 0..MOST_SESSIONS {
            sessions.begin_at(digest(), start + Duration::from_secs(3)).unwrap();
            sessions.find_at(second, start + Duration::from_secs(4)).unwrap();
        }
        assert!(sessions.find_at(first, start + Duration::from_secs(5)).is_none());
        assert_eq!(sessions.lock().len(), MOST_SESSIONS);
    }

    #[test]
    fn a_form_is_sent_once() {
        let sessions = Sessions::default();
        let session = sessions.begin(digest()).unwrap();
        let form = sessions.open_form(session).unwrap();
        assert_eq!(sessions.send_form(session, Some(form)), Form::Open);
        assert_eq!(sessions.send_form(session, Some(form)), Form::Sent(None));
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
