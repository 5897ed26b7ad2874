//! Metrics of this process, under the names of Prometheus' client libraries (`process_*`).
//!
//! The kernel is asked at each collection. Compile children are separate processes and are not counted. A value that cannot be read
//! is left out.

use hookloom_model::clock;
use rustix::time::ClockId;
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

/// Start of this process, in seconds since the epoch: the time of the first read, a moment after the start.
static STARTED_S: LazyLock<f64> = LazyLock::new(|| {
    let since_epoch = clock::system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_secs_f64()
});

/// Records the time of the start.
pub(super) fn start() {
    LazyLock::force(&STARTED_S);
}

/// Returns all metrics in the text format of Prometheus.
pub(super) fn text() -> String {
    let mut text = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
        }
    };
    let memory = memory();
    let open = open_files();
    let most = rlimit::Resource::NOFILE.get_soft().ok();
    put(
        "process_cpu_seconds_total",
        "counter",
        "CPU time of this process, user and system.",
        Some(cpu().as_secs_f64()),
    );
    put("process_resident_memory_bytes", "gauge", "Memory in use.", memory.map(|memory| memory.resident));
    put("process_virtual_memory_bytes", "gauge", "Address space in use.", memory.map(|memory| memory.virtual_));
    put("process_open_fds", "gauge", "File descriptors in use.", open.map(|open| open as f64));
    put("process_max_fds", "gauge", "Maximum number of file descriptors.", most.map(|most| most as f64));
    put("process_threads", "gauge", "Threads.", threads().map(|threads| threads as f64));
    put("process_start_time_seconds", "gauge", "When this process started, since the epoch.", Some(*STARTED_S));
    text
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[derive(Clone, Copy)]
struct Memory {
    virtual_: f64,
    resident: f64,
}

/// Reads the sizes of the process (proc(5), `/proc/pid/statm`), which are in pages.
fn memory() -> Option<Memory> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let page = rustix::param::page_size() as f64;
    let mut pages = statm.split_whitespace().map_while(|field| field.parse::<u64>().ok());
    Some(Memory { virtual_: pages.next()? as f64 * page, resident: pages.next()? as f64 * page })
}

/// Counts open file descriptors, without the one that counting needs.
fn open_files() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_there_and_plausible() {
        start();
        let text = text();
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect(name);
            line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_threads") >= 1.0 && value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert!(text.contains("# TYPE process_cpu_seconds_total counter"));
    }
}
