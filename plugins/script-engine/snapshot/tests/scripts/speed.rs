//! Time of a call in a fresh instance.

use crate::run::{Call, Host, compiled, event};
use std::time::{Duration, Instant};
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

/// Script of a usual size: a filter and a body.
const SCRIPT: &str = r#"
// Deals over 1,000, flattened.
const FIELDS = ["name", "expected_value", "probability"];

function flatten(deal) {
  const flat = {};
  for (const field of FIELDS) {
    if (deal[field] !== undefined) flat[field] = deal[field];
  }
  for (const { name, value } of deal.custom_data ?? []) flat[name] = value;
  return flat;
}

export function transform(event) {
  const deal = event.payload.eventData;
  if (deal.expected_value < 100) return drop("too-small");
  return replace({ text: `${deal.name}: ${deal.milestone}`, ...flatten(deal) }, { headers: { "x-source": "crm" } });
}
"#;

/// Prints the figures that the documentation names. The bound is far above them, for a busy machine.
#[test]
fn a_call_in_a_fresh_instance_is_short() {
    let mut config = Config::new();
    config.epoch_interruption(true);
    let mut pool = PoolingAllocationConfig::new();
    pool.max_memory_size(64 << 20).max_core_instances_per_component(64).max_memories_per_component(4);
    pool.total_core_instances(64).linear_memory_keep_resident(64 << 10).max_core_instance_size(4 << 20);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let began = Instant::now();
    let engine = compiled(config);
    let compile = began.elapsed();
    let payload = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../tests/fixtures/opportunity_created_full.json"
    ));
    let event = event(&payload.unwrap());
    let call = Call::of(SCRIPT);
    let mut times: Vec<Duration> = (0..500)
        .map(|_| {
            let began = Instant::now();
            let mut store = Store::new(engine.engine(), Host::new(&call, 64 << 20));
            store.set_epoch_deadline(1);
            let instance = engine.instantiate(&mut store).unwrap();
            let answer = instance.hookloom_plugin_transform().call_transform(&mut store, &event).unwrap();
            assert!(answer.is_ok());
            drop(store);
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    eprintln!("compile {compile:?}, call: least {:?}, median {:?}, 99% {:?}", times[0], times[250], times[495]);
    assert!(times[0] < Duration::from_millis(5), "{:?}", times[0]);
}
