//! `hookloom plugin bench`: measures calls, each in a fresh instance as in the host, or in reused instances, and the host's part of
//! them.
//!
//! Calls are measured with the largest limits of time that a host allows, so that one slow call on a busy machine does not end the
//! measurement. Calls that a host would stop with its default limit are counted.

use super::super::terminal::{self, outln};
use super::Failure;
use super::source::{Source, event_in, pair};
use crate::clock::now_ms;
use crate::delivery::{Cost, Verdict};
use crate::limits::Limits;
use crate::plugin::workbench::{BenchPlugin, Workbench};
use crate::plugin::{Judgement, PluginInput};
use crate::plural::counted;
use crate::subscription::{CallSettings, Reuse, Subscription, TenantId};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Options of `plugin bench`.
#[derive(Args)]
pub(in crate::cli) struct BenchArgs {
    /// Component (.wasm), or folder of a plugin.
    #[arg(default_value = ".")]
    plugin: PathBuf,
    /// File with one event.
    #[arg(long, value_name = "FILE")]
    event: PathBuf,
    /// Configuration that the plugin reads through `config`.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Number of calls.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    calls: u32,
    /// Number of calls for which an instance is reused, as by a subscription with `reuse`.
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    reuse: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn bench(args: BenchArgs) -> Result<(), Failure> {
    let event = event_in(&args.event, now_ms())?;
    let workbench = Workbench::start()?;
    let source = Source::find(&args.plugin)?;
    let (plugin, _) = source.load(&workbench).await?;
    let reuse = args.reuse.map(|calls| Reuse { calls, idle_s: 60 });
    let usual = Limits::default();
    let settings = CallSettings { config: args.config.into_iter().collect(), reuse, ..CallSettings::default() };
    let subscription = Arc::new(Subscription::passing(TenantId::default(), settings));
    let input = PluginInput::new(event, subscription);
    let Calls { costs, verdict } = call(&workbench, &plugin, &input, args.calls).await?;
    let compared = match args.reuse {
        // Reused instances cannot be measured without the host's additions.
        Some(_) => <[Vec<Duration>; 2]>::default(),
        None => workbench.compare_with_baseline(&plugin, input, args.calls.min(COMPARED_MAX)).await,
    };
    let [bare, whole] = compared.map(|times| sorted(times.iter().map(|time| nanos(*time))));
    let wall = sorted(costs.iter().map(|cost| cost.wall_us));
    let cpu = sorted(costs.iter().map(|cost| cost.cpu_us));
    let above = cpu.iter().filter(|us| **us > usual.cpu_ms * 1_000).count();
    let memory = costs.iter().map(|cost| cost.memory_bytes).max().unwrap_or_default();
    let wall_row = row(&wall);
    let cpu_row = row(&cpu);
    if args.json {
        fn figures([p50, p95, p99]: [u64; 3]) -> serde_json::Value {
            json!({"p50": p50, "p95": p95, "p99": p99})
        }
        let whole = json!({"calls": args.calls, "verdict": verdict, "wall_us": figures(wall_row), "cpu_us": figures(cpu_row), "above_cpu_ms": {"limit": usual.cpu_ms, "calls": above}, "memory_bytes": memory, "bare_ns": bare.first().map(|_| figures(row(&bare))), "whole_ns": whole.first().map(|_| figures(row(&whole)))});
        return Ok(terminal::json_pretty(&whole)?);
    }
    outln!(
        "{} of {}, the last verdict {}, up to {} KiB of memory",
        counted(args.calls.into(), "call", "calls"),
        source.name,
        verdict,
        memory.div_ceil(1 << 10)
    );
    outln!("  {:<10}{:>9}{:>9}{:>9}", "", "p50", "p95", "p99");
    for (name, [p50, p95, p99]) in [("wall, µs", wall_row), ("cpu, µs", cpu_row)] {
        outln!("  {:<10}{:>9}{:>9}{:>9}", name, p50, p95, p99);
    }
    outln!("calls above limits.cpu_ms ({} ms): {}", usual.cpu_ms, above);
    if let (Some([bare, ..]), Some([whole, ..])) =
        (bare.first().map(|_| row(&bare)), whole.first().map(|_| row(&whole)))
    {
        outln!(
            "a call with all that the host adds takes {} µs, bare wasmtime {} µs: {} times as long",
            format!("{:.1}", whole as f64 / 1e3),
            format!("{:.1}", bare as f64 / 1e3),
            format!("{:.2}", whole as f64 / bare as f64)
        );
    }
    Ok(())
}

/// Measured calls.
struct Calls {
    costs: Vec<Cost>,
    /// Verdict of the last call.
    verdict: Verdict,
}

async fn call(workbench: &Workbench, plugin: &BenchPlugin, input: &PluginInput, count: u32) -> Result<Calls, Failure> {
    let mut calls = Calls { costs: Vec::new(), verdict: Verdict::Pass };
    for number in 1..=count {
        let judged = workbench.judge(plugin, input.clone()).await;
        if let Judgement::Fault(fault) = &judged.judgement {
            return Err(format!("call {number} failed: {fault}").into());
        }
        calls.verdict = judged.judgement.verdict();
        calls.costs.push(judged.cost());
    }
    Ok(calls)
}

/// Maximum number of calls that are compared with calls without the host's additions.
const COMPARED_MAX: u32 = 10_000;

/// Returns the median and the 95th and 99th percentiles. Zeros if there are no times.
fn row(times: &[u64]) -> [u64; 3] {
    [50, 95, 99].map(|percent| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn sorted(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values
}
