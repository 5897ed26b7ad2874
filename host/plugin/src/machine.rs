//! Requirements of plugins that some machines do not meet: address space and executable memory.
//!
//! Both are checked at the start of the host, for a clear message. Without address space the host refuses to start, because the runtime
//! cannot be created. Without executable memory the host starts, and no plugin can run.

use super::PluginConfig;
use super::engine;
use memmap2::MmapMut;
use rlimit::Resource;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Requirement of plugins that this machine does not meet.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The address space of this process is limited.
    #[error(
        "the address space of this process is limited to {limit} bytes (ulimit -v, RLIMIT_AS, LimitAS=), and plugins reserve {needed} bytes of it, of which they use little: lift this limit, and bound the memory itself instead (MemoryMax= of systemd, --memory of Docker)"
    )]
    AddressSpace {
        /// Allowed address space, in bytes.
        limit: u64,
        /// Minimum address space that plugins reserve, in bytes.
        needed: u64,
    },
}

/// Checks that the address space of this process is large enough for the memory that plugins reserve.
pub fn require_address_space(config: &PluginConfig) -> Result<(), MachineError> {
    let needed = engine::address_space(engine::instances(config));
    match Resource::AS.get() {
        Ok((limit, _)) if limit < needed => Err(MachineError::AddressSpace { limit, needed }),
        // If the limit cannot be read, reserving memory will show it.
        _ => Ok(()),
    }
}

/// Returns the reason why this process cannot run compiled code, if there is one. Checks once.
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

/// Returns the program of this process, even if its file was replaced or deleted since the start (proc(5), `/proc/pid/exe`).
pub fn current_program() -> std::io::Result<PathBuf> {
    // In a child, the link refers to the child, which still runs this program before it executes another one.
    let program = Path::new("/proc/self/exe");
    std::fs::read_link(program)?;
    Ok(program.to_owned())
}
