//! Bugs planted on purpose, so that each campaign is seen to find what it is for.
//!
//! They exist only where the crate is built with `--cfg planted`, and there `PORTCULLIS_PLANTED`
//! in the environment chooses one. Without that, [`Bug::is_planted`] is a constant, and the product
//! has nothing of it. `tests/planted.rs` says which campaign must find which.

/// One way to break a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A commit is not synced.
    NoFsync,
    /// The anchor is neither written nor compared.
    NoAnchor,
    /// The anchor is written before the database is.
    AnchorFirst,
    /// A change is applied and acknowledged before it is committed.
    PublishBeforeDurable,
    /// The records are written in one transaction, the trail and meta in the next.
    TwoTransactions,
    /// Tags of frames, heads of the trail and the sum of all records are not compared.
    NoMac,
    /// Writing goes on after a failed write.
    PoisonIgnored,
    /// A failed write is reported as a success.
    FailureSwallowed,
    /// A partial snapshot of the storage engine is left where it is.
    KeepGenerating,
    /// A key is refused only once its revocation is durable.
    DenyLate,
    /// Whether the database can be read is left to the storage engine.
    ReadUnchecked,
    /// A panic of the storage engine reaches the caller.
    Uncontained,
}

impl Bug {
    /// Whether this process has it.
    #[cfg(not(planted))]
    #[expect(clippy::unused_self, reason = "no bug can be planted here")]
    #[inline]
    pub(crate) const fn is_planted(self) -> bool {
        false
    }

    /// Whether this process has it.
    #[cfg(planted)]
    pub(crate) fn is_planted(self) -> bool {
        use std::sync::LazyLock;
        static CHOSEN: LazyLock<Option<String>> =
            LazyLock::new(|| std::env::var("PORTCULLIS_PLANTED").ok());
        CHOSEN.as_deref().is_some_and(|chosen| {
            // `NoFsync` is chosen as `no-fsync`.
            let words = format!("{self:?}");
            let mut name = String::new();
            for letter in words.chars() {
                if letter.is_uppercase() && !name.is_empty() {
                    name.push('-');
                }
                name.push(letter.to_ascii_lowercase());
            }
            name == chosen
        })
    }
}
