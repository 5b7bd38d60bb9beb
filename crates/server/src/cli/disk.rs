//! How much of the disk a store keeps for revocations.

use clap::Args;

/// The disk reserve.
#[derive(Args, Clone)]
#[command(next_help_heading = "Options of the store")]
pub(crate) struct DiskReserve {
    /// Keep this much of the disk for revocations, such as 64MiB; 0 keeps nothing, and then a full
    /// disk ends all writing. Without this it is 64MiB, or 5 % of the volume if that is less.
    #[arg(long, global = true, value_name = "SIZE", env = "PORTCULLIS_DISK_RESERVE", value_parser = bytes)]
    pub(crate) disk_reserve: Option<u64>,
}

fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "B" => Some(1),
        "K" | "KiB" => Some(1 << 10),
        "M" | "MiB" => Some(1 << 20),
        "G" | "GiB" => Some(1 << 30),
        _ => None,
    };
    digits
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(count, factor)| count.checked_mul(factor))
        .ok_or_else(|| {
            "a size is a number of bytes, or one with KiB, MiB or GiB, such as 64MiB".into()
        })
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn size_is_a_number_and_a_binary_unit() {
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("512KiB"), Ok(512 << 10));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("2G"), Ok(2 << 30));
        for wrong in ["", "MiB", "64MB", "-1", "1.5MiB", "64 MiB", "99999999999GiB", "9é"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
