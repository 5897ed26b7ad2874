//! What plugins need of the machine that not every machine gives: address space, and memory that becomes executable.
//!
//! Both are looked at when the host starts, so that the cause has a name. A start is refused without address space, because the
//! runtime cannot exist then. Without executable memory no plugin can run, but everything else can.

use super::PluginConfig;
use super::engine;
use memmap2::MmapMut;
use rlimit::Resource;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Faults of a machine on which plugins cannot run.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A limit for this process.
    #[error(
        "the address space of this process is limited to {limit} bytes (ulimit -v, RLIMIT_AS, LimitAS=), and plugins reserve {needed} bytes of it, of which they use little: lift this limit, and bound the memory itself instead (MemoryMax= of systemd, --memory of Docker)"
    )]
    AddressSpace {
        /// What is allowed.
        limit: u64,
        /// What is reserved at least.
        needed: u64,
    },
}

/// Refuses a process whose address space is limited to less than plugins reserve.
pub fn require_address_space(config: &PluginConfig) -> Result<(), MachineError> {
    let needed = engine::address_space(engine::instances(config));
    match Resource::AS.get() {
        Ok((limit, _)) if limit < needed => Err(MachineError::AddressSpace { limit, needed }),
        // A limit that is not known is found when memory is reserved.
        _ => Ok(()),
    }
}

/// Returns what keeps this process from running compiled code, if something does. Looks once.
pub fn no_executable_memory() -> Option<&'static str> {
    static FOUND: LazyLock<Option<String>> = LazyLock::new(|| {
        let page = MmapMut::map_anon(1).and_then(MmapMut::make_exec);
        page.err().map(|error| {
            format!(
                "this system does not let the host make memory executable ({error}), so no plugin can be compiled or called: allow it (execmem of SELinux, MemoryDenyWriteExecute= of systemd, MPROTECT of PaX)"
            )
        })
    });
    FOUND.as_deref()
}

/// The program that this process runs, also when its file was replaced or deleted since the start (proc(5), `/proc/pid/exe`).
pub fn own_program() -> std::io::Result<PathBuf> {
    // A child that is about to run another program is still this one.
    let program = Path::new("/proc/self/exe");
    std::fs::read_link(program)?;
    Ok(program.to_owned())
}
