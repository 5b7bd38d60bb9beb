//! Random bytes from the operating system, the only source of secrets and ids.

use rand::{TryRng, rngs::SysRng};

/// The operating system returned no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system returned no random bytes: {0}")]
pub struct NoRandomness(Box<dyn std::error::Error + Send + Sync>);

/// Fills `bytes` with random bytes.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    SysRng.try_fill_bytes(bytes).map_err(|e| NoRandomness(Box::new(e)))
}

/// Returns `N` bytes from the operating system's random source. For names and numbers, not for
/// secrets: the array is not wiped.
///
/// ```
/// let serial: [u8; 16] = portcullis::random_bytes()?;
/// # Ok::<(), portcullis::NoRandomness>(())
/// ```
pub fn array<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}
