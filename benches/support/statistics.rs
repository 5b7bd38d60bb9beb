//! Percentiles of measured values.

/// Sorts the values and returns the one that this share of them does not exceed; 0.5 is the median.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}
