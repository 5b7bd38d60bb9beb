//! One step of a run, decoded from ten bytes: the property test and the fuzz target share the decoding,
//! and small bytes are simple steps.

/// The number of bytes of a step.
const STEP_BYTES: usize = 10;

/// An operation on a store. A key is a number modulo the keys in the order of creation and one unknown
/// key.
#[derive(Clone, Debug)]
pub enum Step {
    /// Issue a key.
    Issue { by: By, new: Draft },
    /// Change the chosen fields, if the revision matches.
    Update { by: By, key: usize, edit: Partial, revision: Revision },
    /// Revoke a key.
    Revoke { by: By, key: usize },
    /// Rotate a key; the old one stays valid for some hours.
    Rotate { by: By, key: usize, grace_hours: u64 },
    /// Delete a key.
    Delete { by: By, key: usize },
    /// Grant a key scopes of another store.
    GrantForeign { key: usize, name: &'static str },
    /// List keys from the start.
    List { active: Option<bool>, scope: Option<&'static str>, text: Option<String>, size: Size },
    /// List the page after the last one that had more.
    NextPage,
    /// Present a corrupted key.
    Corrupt { key: usize, how: u8, at: usize },
    /// Close the store and open it again with the scopes of the host.
    Reopen { host: Option<&'static [&'static str]> },
}

/// The actor of a step.
#[derive(Clone, Copy, Debug)]
pub enum By {
    Host,
    Local(u32),
    Key(usize),
}

/// The requested grant.
#[derive(Clone, Debug)]
pub enum Asked {
    All,
    Scopes(Vec<&'static str>),
}

/// The expiry of a key.
#[derive(Clone, Copy, Debug)]
pub enum When {
    Never,
    /// A second ago, rounded down.
    JustNow,
    AtMillis(u64),
}

/// The fields of a new key. `{key}` is replaced by the text of the key that the step names.
#[derive(Clone, Debug)]
pub struct Draft {
    pub key: usize,
    pub name: String,
    pub asked: Asked,
    pub active: bool,
    pub when: When,
    pub owner: Option<String>,
    pub metadata: Vec<(String, String)>,
}

/// The fields of a draft that a change sets.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each field")]
pub struct Partial {
    pub draft: Draft,
    pub name: bool,
    pub asked: bool,
    pub active: bool,
    pub when: bool,
    pub owner: bool,
    pub metadata: bool,
}

/// The revision that a change requires.
#[derive(Clone, Copy, Debug)]
pub enum Revision {
    Any,
    Right,
    Stale,
}

/// The requested size of a page, or an invalid page token.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    Default,
    At(usize),
    BadToken,
}

impl Step {
    /// Decodes bytes into steps.
    pub fn decode(bytes: &[u8]) -> Vec<Self> {
        bytes.as_chunks::<STEP_BYTES>().0.iter().copied().map(Self::decode_one).collect()
    }

    fn decode_one(
        [kind, who, which, mask, name, asked, when, owner, metadata, rest]: [u8; 10],
    ) -> Self {
        let key = usize::from(which);
        let by = match who % 8 {
            0..=2 => By::Host,
            3 => By::Local(7),
            _ => By::Key(usize::from(who / 8)),
        };
        let draft = || Draft {
            key,
            name: name_of(name),
            asked: asked_of(asked),
            active: rest % 8 != 7,
            when: when_of(when),
            owner: owner_of(owner),
            metadata: metadata_of(metadata),
        };
        match kind % 32 {
            0..=9 => Self::Issue { by, new: draft() },
            10..=16 => {
                let bit = |place: u8| mask >> place & 1 == 1;
                let edit = Partial {
                    draft: draft(),
                    name: bit(0),
                    asked: bit(1),
                    active: bit(2),
                    when: bit(3),
                    owner: bit(4),
                    metadata: bit(5),
                };
                let revision = match mask >> 6 {
                    0 | 1 => Revision::Any,
                    2 => Revision::Right,
                    _ => Revision::Stale,
                };
                Self::Update { by, key, edit, revision }
            }
            18 | 19 => Self::Revoke { by, key },
            20 => Self::Revoke { by: By::Key(key), key },
            21 | 22 => Self::Update { by, key, edit: activation(draft()), revision: Revision::Any },
            // The longest grace is a year; the last value is longer.
            17 | 24 => Self::Rotate {
                by,
                key,
                grace_hours: [0, 0, 1, 366 * 24, 366 * 24 + 1][usize::from(mask % 5)],
            },
            23 => Self::Delete { by, key },
            25 => Self::GrantForeign {
                key,
                name: ["foreign.one", "ledger.close"][usize::from(mask % 2)],
            },
            26 | 27 => Self::List {
                active: [None, Some(true), Some(false)][usize::from(mask % 3)],
                scope: [None, None, Some("api.read"), Some("admin.key.create")]
                    [usize::from(asked % 4)],
                text: [None, None, Some("nightly"), Some("ÜB"), Some("KEY_"), Some("3")]
                    [usize::from(name % 6)]
                .map(str::to_owned),
                size: match rest % 8 {
                    0 => Size::Default,
                    1..=3 => Size::At(usize::from(rest % 8)),
                    4 => Size::At(200),
                    5 => Size::At(201),
                    6 => Size::At(0),
                    _ => Size::BadToken,
                },
            },
            28 => Self::NextPage,
            29 => Self::Corrupt { key, how: mask, at: usize::from(rest) },
            _ => Self::Reopen {
                host: [None, None, Some(&[][..]), Some(&["ledger.close"][..])]
                    [usize::from(mask % 4)],
            },
        }
    }
}

fn activation(draft: Draft) -> Partial {
    Partial {
        draft: Draft { active: true, ..draft },
        name: false,
        asked: false,
        active: true,
        when: false,
        owner: false,
        metadata: false,
    }
}

fn name_of(byte: u8) -> String {
    match byte % 16 {
        0..=4 => "Nightly export".to_owned(),
        5 | 6 => "Übersicht 3".to_owned(),
        7 => "a \u{1f511} of Zoë's".to_owned(),
        8 => "ü".repeat(128),
        9 => "n".repeat(1 + usize::from(byte / 2)),
        10 => "x".repeat(129),
        11 => String::new(),
        12 => "two\nlines".to_owned(),
        13 => "made with {key} by hand".to_owned(),
        _ => format!("key no {byte}"),
    }
}

fn asked_of(byte: u8) -> Asked {
    const NAMES: [&str; 7] = [
        "api.read",
        "api.write",
        "admin.key.create",
        "admin.key.update",
        "admin.key.delete",
        "ledger.close",
        "admin.key.owner",
    ];
    match byte {
        0x60..=0x6f => Asked::Scopes(vec!["no.such"]),
        0x70..=0x8f => Asked::Scopes(NAMES[..5].to_vec()),
        0x90..=0xbf => {
            let others: &[&str] =
                if byte & 1 == 1 { &["admin.key.list", NAMES[6]] } else { &["admin.key.list"] };
            Asked::Scopes([&NAMES[..5], others].concat())
        }
        0xc0.. => Asked::All,
        _ => {
            let has = |(place, _): &(usize, &&str)| byte >> place & 1 == 1;
            Asked::Scopes(NAMES.iter().enumerate().filter(has).map(|(_, name)| *name).collect())
        }
    }
}

fn when_of(byte: u8) -> When {
    match byte % 16 {
        0..=5 => When::Never,
        6 => When::JustNow,
        7 => When::AtMillis(1_000_000_000_000),
        8 => When::AtMillis(0),
        9..=11 => When::AtMillis(4_000_000_000_000),
        12 => When::AtMillis(4_000_000_001_999),
        13 => When::AtMillis(16_725_225_600_999),
        14 => When::AtMillis(16_725_225_601_000),
        _ => When::AtMillis(u64::MAX),
    }
}

fn owner_of(byte: u8) -> Option<String> {
    match byte % 16 {
        0..=5 => None,
        6..=9 => Some("shop".to_owned()),
        10 => Some("rival".to_owned()),
        11 => Some("o".repeat(128)),
        12 => Some("o".repeat(129)),
        13 => Some(String::new()),
        14 => Some("tab\tbed".to_owned()),
        _ => Some("{key}".to_owned()),
    }
}

fn metadata_of(byte: u8) -> Vec<(String, String)> {
    let some = |count: usize, length: usize| {
        (0..count).map(|n| (format!("k{n}"), "v".repeat(length))).collect()
    };
    let one = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    match byte % 32 {
        0..=11 => Vec::new(),
        12..=15 => one("team", "blue"),
        16 => one("team", ""),
        17 => one("", "v"),
        18 => one(&"k".repeat(64), "two\nlines"),
        19 => one(&"k".repeat(65), "v"),
        20 => one("k", &"v".repeat(257)),
        21 => one("k", "{key} "),
        22 => one("{key}", "v"),
        23 => some(16, 1),
        24 => some(17, 1),
        25 => some(16, 256),
        // Around the limit on the size of a record.
        26..=29 => some(5, 225 + usize::from(byte / 8)),
        30 => some(5, 256),
        _ => some(2, usize::from(byte)),
    }
}
