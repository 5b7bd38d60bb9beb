//! Bytes from the operating system's random source; nothing else makes a secret or an id.

use rand::{TryRng, rngs::SysRng};

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct NoRandomness(Box<dyn std::error::Error + Send + Sync>);

/// Fills `bytes`, or says that the operating system gave no randomness.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    SysRng.try_fill_bytes(bytes).map_err(|e| NoRandomness(Box::new(e)))
}

/// `N` random bytes. For names and numbers, not for secrets: the array is not wiped.
pub fn array<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}
