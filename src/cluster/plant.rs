//! The faults that the simulation must catch. Without one the code is as it ships.

/// A fault, planted for a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A replica says that it has applied a change, and applies it after.
    AcknowledgeBeforeApply,
    /// A proof counts from when its answer came.
    ProofAtTheResponse,
    /// A validation looks at the index and then passes the gate.
    IndexBeforeGate,
    /// A writer leaves the epoch out.
    NoEpoch,
    /// A fenced member counts as gone at once.
    NoFenceWait,
    /// The prototype's hold: too short for two clocks that both err.
    ShortHold,
    /// Whoever waits for a member waits by its own freshness, though the member's is longer.
    OwnHold,
    /// A replica that leaves does not stop its prover first.
    LateProof,
    /// A replica believes in the numbers of an engine that was restored.
    TrustTheNumbers,
    /// A proof opens the gate though its epoch is not applied yet.
    ProofWithoutApply,
    /// A bootstrap that failed half-way counts as never begun.
    FailureForgotten,
}
