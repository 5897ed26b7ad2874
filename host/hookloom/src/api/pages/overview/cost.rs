//! CPU time that plugins take, by plugin, the most expensive first. Pure.

use crate::api::pages::duration;
use crate::figures::PluginCpu;
use crate::store::SpanFigures;
use std::collections::BTreeMap;

/// Plugin with its cost.
pub(super) struct PluginCostRow {
    pub(super) name: String,
    pub(super) calls: u64,
    /// CPU time of a call: its mean, and what 99 % of the calls do not exceed.
    pub(super) mean: String,
    pub(super) p99: String,
    pub(super) faults: u64,
    /// CPU time of all calls.
    pub(super) total: String,
    /// Its part of the CPU time of all plugins.
    pub(super) share: String,
}

/// Cost of a plugin.
#[derive(Default)]
struct PluginCost {
    cpu: PluginCpu,
    faults: u64,
}

/// Returns the plugins that were called or have faulted, at most `rows_max` of them.
pub(super) fn rows(figures: &[SpanFigures], rows_max: usize) -> Vec<PluginCostRow> {
    let mut costs: BTreeMap<&str, PluginCost> = BTreeMap::new();
    for span in figures {
        for (name, cpu) in &span.figures.cpu {
            costs.entry(name).or_default().cpu.merge(cpu);
        }
        for (version, count) in &span.figures.faults {
            let name = version.split('@').next().unwrap_or(version);
            costs.entry(name).or_default().faults += count;
        }
    }
    let all_us: u64 = costs.values().map(|cost| cost.cpu.total_us).sum();
    let mut costs: Vec<(&str, PluginCost)> = costs.into_iter().collect();
    costs.sort_by_key(|(_, cost)| std::cmp::Reverse(cost.cpu.total_us));
    costs.into_iter().take(rows_max).map(|(name, cost)| row(name, &cost, all_us)).collect()
}

fn row(name: &str, PluginCost { cpu, faults }: &PluginCost, all_us: u64) -> PluginCostRow {
    fn time(us: Option<u64>) -> String {
        us.map_or_else(|| "–".to_owned(), duration)
    }
    PluginCostRow {
        name: name.to_owned(),
        calls: cpu.calls.count(),
        mean: time(cpu.mean_us()),
        p99: time(cpu.calls.percentile(99.0)),
        faults: *faults,
        total: duration(cpu.total_us),
        share: format!("{:.1} %", cpu.total_us as f64 * 100.0 / all_us.max(1) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;
    use crate::subscription::SubscriptionId;

    fn span(calls: &[(&str, u64)], faults: &[(&str, &str)]) -> SpanFigures {
        let mut figures = Figures::default();
        calls.iter().for_each(|(name, cpu_us)| figures.add_call(name, *cpu_us));
        faults.iter().for_each(|(name, sha256)| figures.add_fault(name, sha256));
        SpanFigures { at_s: 0, subscription: SubscriptionId(uuid::Uuid::nil()), plugin: String::new(), figures }
    }

    #[test]
    fn a_plugin_has_one_row_for_all_its_webhooks_and_versions() {
        let figures = [
            span(&[("flatten", 100), ("redact", 900)], &[]),
            span(&[("redact", 1_000)], &[("redact", "a"), ("redact", "b")]),
            span(&[], &[("loops", "c")]),
        ];
        let found: Vec<_> = rows(&figures, 9)
            .into_iter()
            .map(|one| (one.name, one.calls, one.mean, one.faults, one.total, one.share))
            .collect();
        fn expected(
            name: &str,
            calls: u64,
            mean: &str,
            faults: u64,
            total: &str,
            share: &str,
        ) -> (String, u64, String, u64, String, String) {
            (name.to_owned(), calls, mean.to_owned(), faults, total.to_owned(), share.to_owned())
        }
        let redact = expected("redact", 2, "950 µs", 2, "1.9 ms", "95.0 %");
        let flatten = expected("flatten", 1, "100 µs", 0, "100 µs", "5.0 %");
        assert_eq!(found, [redact, flatten, expected("loops", 0, "–", 1, "0 µs", "0.0 %")]);
        assert_eq!(rows(&figures, 1).len(), 1);
        assert!(rows(&[], 1).is_empty());
    }
}
