//! The consensus store that all replicas share: the requirements of the protocol.

mod values;

pub use self::values::{
    Committed, ConsensusError, Epoch, ImportProgress, Key, LastUses, Latest, MemberEvent, MemberId,
    MemberList, MemberRow, Proof, RecordPage, Revision, Transaction, TransactionOutcome,
    WatchEvent, Write,
};

use std::future::Future;

/// The store of a cluster's data, shared by all replicas: etcd, or another one that keeps this
/// contract.
///
/// The protocol promises that every replica refuses a revoked key once `revoke` has returned. This promise
/// depends only on this contract. The module `cluster::conformance` (feature `conformance`) checks an
/// implementation against it. A reference implementation to read, in memory and with about 500 lines, is
/// `src/cluster/sim/memory.rs` in the sources of this crate. A replica opens its store with
/// [`Builder::cluster`](crate::Builder::cluster), which takes any implementation.
///
/// # Data
///
/// A *consensus store* holds the values of one *store*, that is of one Portcullis store: the values under
/// each [`Key`], one [`Epoch`], and the members. It also holds at most one unfinished import. There is a
/// store once there is an epoch.
///
/// All values are opaque bytes, and are returned as they were written. Callers keep the limits of a
/// [`Transaction`], and these:
///
/// - A value has at most 4096 bytes.
/// - The information of a member and the source of an import have at most 512 bytes.
/// - A call has no key twice.
///
/// An implementation need not check these limits. It may refuse a call that exceeds them, but must not
/// execute a part of it.
///
/// # History
///
/// 1. **Revisions.** Each transaction that writes anything gets a revision, which is greater than
///    every earlier one. Members, acknowledgements and last uses are written by transactions too. The
///    newest revision is above 0 even before the first transaction.
/// 2. **Linearizability.** Each write takes effect at one instant between call and return, or never.
///    Each read without a revision returns the state at one instant between call and return. So a node
///    that lost its quorum answers no call.
/// 3. **Reads at a revision** return the state right after that revision, whatever was written
///    later, or [`ConsensusError::Compacted`]. An implementation may discard old history at any
///    time, but never the newest state; it should keep at least ten minutes. A read at revision 0 is
///    always `Compacted`. Callers read at no revision above the newest one.
/// 4. **Durability.** A write that was reported as done survives the crash of any minority of nodes.
///
/// # Transactions
///
/// 5. **Atomicity.** [`commit`](Self::commit) writes everything in the transaction or nothing.
/// 6. **Compare and set.** It writes only if the current epoch equals the expected one in revision
///    *and* value. (A store that was restored from a backup assigns revisions a second time.) Otherwise
///    it is a [`Conflict`](TransactionOutcome::Conflict), and nothing is written. While an import is
///    unfinished, a transaction that expects no epoch is refused: see 20.
/// 7. **Members of a transaction.** A committed transaction returns the members that there were at its
///    revision. Only members that joined or were removed after it may be added or missing.
/// 8. **Size.** A transaction of [`Transaction::MAX_WRITES`] and [`Transaction::MAX_BYTES`] fits.
/// 9. **Unknown outcomes.** An implementation may send a transaction again after a lost answer, but
///    it takes effect at most once. [`Conflict`](TransactionOutcome::Conflict) and
///    [`Refused`](TransactionOutcome::Refused) mean that it did not take effect and never will. If that is
///    not certain, the outcome is [`Unknown`](TransactionOutcome::Unknown): the transaction may take effect
///    even after the call has returned. Every transaction but the first has exactly one new
///    [`Key::AuditEntry`] for each change, which nothing overwrites: by it an implementation
///    recognises its own transaction. A transaction never deletes an audit entry. It may write and delete
///    all other keys, last uses too.
///
/// # Watches
///
/// 10. **Order and completeness.** A [`Watch`] delivers each transaction after the given revision that
///     wrote the epoch, a record, a scope name or the audit start. It delivers each one once, as a
///     whole, and in the order of the revisions. It delivers no other writes, and no event without
///     a transaction. Imports are delivered too: their values, and the deletion of an earlier import's
///     values, come without an epoch.
/// 11. **Timeliness.** It delivers a transaction soon after the commit, without another request. If it
///     cannot, for example because its node hangs, it reports [`WatchEvent::Lost`] within seconds.
/// 12. **Compaction.** If a transaction that it has to deliver is discarded, it reports
///     [`WatchEvent::Compacted`] instead of skipping it. It may do so whenever history after the given
///     revision is discarded.
/// 13. **Watches over members.** A [`MemberWatch`] delivers the events of members after the given
///     revision, in order and without a gap. If it cannot, it returns `None`, and the caller reads all
///     members.
///
/// # Members
///
/// 14. **Joining** creates a member that is not fenced, at a revision of its own. A call with an id that
///     is in use changes nothing and succeeds, even if another caller created the member. It returns the
///     revision at which the id joined, even if the row was fenced since: never the revision of a fence.
/// 15. **Proofs and acknowledgements** succeed only while the member's row has the revision at which
///     it joined, and the row is not fenced. After a fence or a removal they never succeed. The check and the
///     read or write are one atomic step. A proof is read after [`prove`](Self::prove) was called: the
///     replica's clock starts there.
/// 16. **Fencing and removal** succeed only while the member's row has the given revision, and fencing
///     only if the row is not fenced already. Each succeeds once, even if several callers try. An
///     implementation that repeats a call after a lost answer may report a failure although its first
///     attempt succeeded. Fencing gives the row a new revision. It keeps the information that the row
///     has, whatever the caller passes, and the acknowledgement. Removal also deletes the acknowledgement.
///
/// # Calls
///
/// 17. **Timeouts.** Each call ends by itself within 20 seconds, and reports
///     [`Unavailable`](ConsensusError::Unavailable) if no node has answered. `prove` and `acknowledge`
///     should time out after about 3 seconds. Replicas drop some calls earlier, but not all. A watch has no
///     timeout.
/// 18. **Cancellation.** A caller may drop any future. A dropped read has no effect. The outcome of a
///     dropped write is unknown. A watch loses nothing: the next call delivers the events of the dropped
///     call.
/// 19. **Runtime.** Calls run within a Tokio runtime with I/O and time enabled, several at a time. A
///     value may outlive one runtime and be used in another.
///
/// # Imports
///
/// 20. **Imports.** An import fills a consensus store that has no epoch. Its values can be read at once
///     like any others, also while it is unfinished. Meanwhile a [`commit`](Self::commit) that expects
///     no epoch is [`Refused`](TransactionOutcome::Refused). The reason names the remedy: to continue the
///     import, or to begin another one. So there is never both an unfinished import and an epoch.
///     [`import`](Self::import) and [`finish_import`](Self::finish_import) succeed only with the newest
///     progress, and while there is no epoch.
///
/// # Errors
///
/// A call that writes returns [`ConsensusError::Refused`] only if it wrote nothing, and
/// [`ConsensusError::Unavailable`] whenever that is uncertain.
pub trait ConsensusStore: Send + Sync + 'static {
    /// A watch over committed transactions.
    type Watch: Watch;
    /// A watch over members.
    type MemberWatch: MemberWatch;

    /// Returns the newest revision, and the epoch at it.
    fn latest(&self) -> impl Future<Output = Result<Latest, ConsensusError>> + Send;

    /// Returns all scope names at a revision, in the order of their numbers. Callers number them from 0
    /// without a gap.
    fn scope_names(
        &self,
        at: Revision,
    ) -> impl Future<Output = Result<Vec<Vec<u8>>, ConsensusError>> + Send;

    /// Returns some records at a revision: those that follow the digest `after`, or the first ones.
    ///
    /// The implementation chooses the size of the page. Only the last page may be empty. A caller passes
    /// the last digest of a page to get the next one, until a page is the last. Any other digest is valid
    /// too, whether there is a record with it or not.
    fn records(
        &self,
        at: Revision,
        after: Option<[u8; 32]>,
    ) -> impl Future<Output = Result<RecordPage, ConsensusError>> + Send;

    /// Returns the value of [`Key::AuditStart`] at a revision.
    fn audit_start(
        &self,
        at: Revision,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, ConsensusError>> + Send;

    /// Returns the audit entries at a revision whose sequence numbers are in
    /// `after + 1 ..= after + limit`, in ascending order.
    ///
    /// `limit` counts sequence numbers, not entries: pruned entries are not replaced by later ones.
    fn audit_entries(
        &self,
        at: Revision,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(u64, Vec<u8>)>, ConsensusError>> + Send;

    /// Deletes audit entries up to and including `through`, oldest first, if the current value of
    /// [`Key::AuditStart`] is `audit_start`; returns whether entries are left to delete.
    ///
    /// One call deletes at most about a thousand, so that no transaction waits long for it. Where the
    /// value differs nothing is deleted, and the result is `false`. The check and the deletion are one
    /// atomic step. The epoch does not change.
    fn prune_audit(
        &self,
        through: u64,
        audit_start: &[u8],
    ) -> impl Future<Output = Result<bool, ConsensusError>> + Send;

    /// Returns the last uses that were written after a revision and are not deleted.
    ///
    /// A use that is written during the call is returned by this call or, with the revision that this
    /// call returns, by the next one.
    fn last_uses(
        &self,
        after: Revision,
    ) -> impl Future<Output = Result<LastUses, ConsensusError>> + Send;

    /// Returns the last uses of these API keys, by their ids; those without one are left out. At most
    /// [`Transaction::MAX_WRITES`] ids.
    fn last_uses_of(
        &self,
        ids: &[u64],
    ) -> impl Future<Output = Result<Vec<(u64, Vec<u8>)>, ConsensusError>> + Send;

    /// Writes last uses, and leaves the epoch as it is. At most [`Transaction::MAX_WRITES`].
    fn put_last_uses(
        &self,
        uses: Vec<(u64, Vec<u8>)>,
    ) -> impl Future<Output = Result<(), ConsensusError>> + Send;

    /// Watches transactions after a revision. It connects when the first event is awaited.
    fn watch(&self, after: Revision) -> Self::Watch;

    /// Writes a transaction, and reads all members at its revision.
    fn commit(&self, transaction: Transaction) -> impl Future<Output = TransactionOutcome> + Send;

    /// Adds a member and returns the revision at which it joined.
    ///
    /// A call that is repeated after a lost answer returns the revision of the attempt that added the
    /// member. The row may have been fenced since.
    fn join(
        &self,
        id: MemberId,
        info: &[u8],
    ) -> impl Future<Output = Result<Revision, ConsensusError>> + Send;

    /// Reads the newest revision, the epoch and the member's acknowledgement, if the member's row has
    /// the revision `joined` and is not fenced. Otherwise, or without an epoch, returns `None`.
    fn prove(
        &self,
        id: MemberId,
        joined: Revision,
    ) -> impl Future<Output = Result<Option<Proof>, ConsensusError>> + Send;

    /// Replaces the member's acknowledgement by `applied`, if the member's row has the revision
    /// `joined` and is not fenced. Otherwise returns `false`.
    ///
    /// The last acknowledgement counts, not the highest. Revision 0 is valid.
    fn acknowledge(
        &self,
        id: MemberId,
        joined: Revision,
        applied: Revision,
    ) -> impl Future<Output = Result<bool, ConsensusError>> + Send;

    /// Returns all members.
    fn members(&self) -> impl Future<Output = Result<MemberList, ConsensusError>> + Send;

    /// Watches members after a revision. It connects when the first events are awaited.
    fn watch_members(&self, after: Revision) -> Self::MemberWatch;

    /// Fences the member, if its row has the revision that is given and is not fenced; returns the row's
    /// new revision. Only the id and the revision of `member` count.
    fn fence(
        &self,
        member: &MemberRow,
    ) -> impl Future<Output = Result<Option<Revision>, ConsensusError>> + Send;

    /// Removes the member and its acknowledgement, if its row has this revision. Otherwise
    /// returns `false`.
    fn remove_member(
        &self,
        id: MemberId,
        revision: Revision,
    ) -> impl Future<Output = Result<bool, ConsensusError>> + Send;

    /// Begins an import into a consensus store without an epoch, or resumes it.
    ///
    /// If an import of the same `source` was begun before, its progress is returned, and the caller
    /// continues after the values that are done. The values of any other unfinished import are deleted
    /// first, in the transaction that begins the new one. [`ConsensusError::Refused`] if there is an epoch.
    fn begin_import(
        &self,
        source: &[u8],
    ) -> impl Future<Output = Result<ImportProgress, ConsensusError>> + Send;

    /// Writes the next values of an import together with its progress, as one atomic step, and returns
    /// the new progress. The values are within the limits of a [`Transaction`].
    ///
    /// [`ConsensusError::Refused`] if another process continued or finished the import meanwhile.
    fn import(
        &self,
        progress: ImportProgress,
        values: Vec<(Key, Vec<u8>)>,
    ) -> impl Future<Output = Result<ImportProgress, ConsensusError>> + Send;

    /// Writes the epoch and deletes the progress, as one atomic step: from now on there is a store.
    ///
    /// [`ConsensusError::Refused`] if another process continued or finished the import meanwhile, or if
    /// there is an epoch.
    fn finish_import(
        &self,
        progress: ImportProgress,
        epoch: &[u8],
    ) -> impl Future<Output = Result<(), ConsensusError>> + Send;
}

/// Committed transactions as they happen: see the [contract](ConsensusStore#watches).
pub trait Watch: Send {
    /// Waits for the next event. After [`WatchEvent::Lost`] or [`WatchEvent::Compacted`] the watch has
    /// ended: callers drop it, and do not call this again.
    fn next(&mut self) -> impl Future<Output = WatchEvent> + Send;
}

/// Events of members as they happen: see the [contract](ConsensusStore#watches).
pub trait MemberWatch: Send {
    /// Waits for the next events, at least one. After `None` the watch has ended: callers drop it, and do
    /// not call this again.
    fn next(&mut self) -> impl Future<Output = Option<Vec<MemberEvent>>> + Send;
}
