//! Times and memory of processes, as Linux tells them (`proc(5)`).

/// Returns the CPU seconds of a process so far (`proc(5)`), with its ended children.
pub(crate) fn cpu_s(pid: Option<u32>) -> f64 {
    let path = pid.map_or_else(|| "/proc/self/stat".to_owned(), |pid| format!("/proc/{pid}/stat"));
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: f64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Returns how often the threads of a process have waited and were woken so far (`voluntary_ctxt_switches` of `proc(5)`), without
/// threads that have ended.
pub(crate) fn wakeups(pid: Option<u32>) -> f64 {
    fn of_thread(thread: &std::fs::DirEntry) -> f64 {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0.0)
    }
    let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", pid.unwrap_or(0))) else { return 0.0 };
    threads.flatten().map(|thread| of_thread(&thread)).sum()
}

/// Returns the resident memory of a process, in MiB.
pub(crate) fn resident_mib(pid: Option<u32>) -> f64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", pid.unwrap_or(0))).unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4_096.0 / 1_048_576.0
}
