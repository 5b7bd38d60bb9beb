//! The metrics of reports from a secret-scanning service.

use super::shared::{ByResult, register};
use portcullis_admin::LeakReports;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::sync::atomic::Ordering::Relaxed;

/// The reports, and the tokens in them.
#[derive(Clone)]
pub(super) struct Leaks {
    source: LeakReports,
    reports: Family<ByResult, Counter>,
    tokens: Family<ByResult, Counter>,
}

impl Leaks {
    pub(super) fn new(source: LeakReports, registry: &mut Registry) -> Self {
        let reports = register(registry, "leak_reports", "Reports of leaked keys");
        let tokens = register(registry, "leaked_keys", "Texts in accepted reports of leaked keys");
        Self { source, reports, tokens }
    }

    /// Copies the counters of the reports.
    pub(super) fn update(&self) {
        set(&self.reports, self.source.report_counts());
        set(&self.tokens, self.source.token_counts());
    }
}

fn set(family: &Family<ByResult, Counter>, counts: impl Iterator<Item = (&'static str, u64)>) {
    for (result, count) in counts {
        family.get_or_create(&ByResult { result }).inner().store(count, Relaxed);
    }
}
