//! Seeded random numbers, numbers from the environment, and numbers with separators.

/// A seeded random number generator (`SplitMix64`).
pub struct Chance(pub u64);

impl Chance {
    /// Returns the next 64 random bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.word() % end as u64).unwrap()
    }
}

/// Returns the generator of one part of a campaign. `PORTCULLIS_SEED` selects another series for all parts.
pub fn seeded(part: usize) -> Chance {
    Chance((number("PORTCULLIS_SEED", 0) as u64) << 32 | part as u64)
}

/// Returns a number from an environment variable, or the default.
pub fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

/// Formats `4812` as `4,812`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
