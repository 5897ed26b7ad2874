//! The words for how much one plugin call may use, and how a subscription's wishes meet the host's maxima.
//!
//! Pure. Every limit has one name, which is also the name that an error shows. The numbers' source is the table of
//! defaults in README.md, "Limits".

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How much one plugin call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// CPU time of a call, in milliseconds.
    pub cpu_ms: u64,
    /// Wall time of a call, in milliseconds.
    pub wall_ms: u64,
    /// Linear memory, all memories of the component together, in bytes.
    pub memory_bytes: u64,
    /// The outgoing body, in bytes.
    pub output_bytes: u64,
    /// How many headers a plugin may add.
    pub headers: u64,
    /// Their names and values together, in bytes.
    pub header_bytes: u64,
    /// What is kept of a call's log, in bytes; a line keeps at most 1 KiB.
    pub log_bytes: u64,
    /// What is kept of the logs of all calls of a subscription in a minute, in bytes.
    pub log_bytes_per_minute: u64,
    /// Calls into the host, of every kind.
    pub host_calls: u64,
    /// Bytes handed to `secrets.hmac-sha256`, all calls together.
    pub hashed_bytes: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            cpu_ms: 50,
            wall_ms: 500,
            memory_bytes: 64 * MIB,
            output_bytes: 256 * KIB,
            headers: 16,
            header_bytes: 8 * KIB,
            log_bytes: 16 * KIB,
            log_bytes_per_minute: 256 * KIB,
            host_calls: 10_000,
            hashed_bytes: 4 * MIB,
        }
    }
}

impl Limits {
    /// The most that a host allows until its operator says otherwise.
    pub const HOST_MAX: Limits = Limits {
        cpu_ms: 1_000,
        wall_ms: 5_000,
        memory_bytes: 256 * MIB,
        output_bytes: 4 * MIB,
        headers: 64,
        header_bytes: 32 * KIB,
        log_bytes: 64 * KIB,
        log_bytes_per_minute: 4 * MIB,
        host_calls: 100_000,
        hashed_bytes: 64 * MIB,
    };

    /// Says which limit is above the host's maximum, or is nothing at all. A default is no wish: where the maximum is
    /// lower, it holds instead (see [`Limits::within`]).
    pub fn check(&self, host_max: &Limits) -> Result<(), String> {
        let limits = self.named().into_iter().zip(host_max.named()).zip(Limits::default().named());
        for (((name, wanted), (_, most)), (_, default)) in limits {
            if wanted > most && wanted != default {
                return Err(format!("limits.{name} is {wanted}, but this host allows at most {most}"));
            }
            if wanted == 0 && matches!(name, "cpu_ms" | "wall_ms" | "memory_bytes" | "host_calls" | "output_bytes") {
                return Err(format!("limits.{name} is 0, so no plugin could run; leave it out for the default"));
            }
        }
        Ok(())
    }

    /// Each limit, or the host's maximum where that is lower.
    pub fn within(self, most: &Limits) -> Limits {
        Limits {
            cpu_ms: self.cpu_ms.min(most.cpu_ms),
            wall_ms: self.wall_ms.min(most.wall_ms),
            memory_bytes: self.memory_bytes.min(most.memory_bytes),
            output_bytes: self.output_bytes.min(most.output_bytes),
            headers: self.headers.min(most.headers),
            header_bytes: self.header_bytes.min(most.header_bytes),
            log_bytes: self.log_bytes.min(most.log_bytes),
            log_bytes_per_minute: self.log_bytes_per_minute.min(most.log_bytes_per_minute),
            host_calls: self.host_calls.min(most.host_calls),
            hashed_bytes: self.hashed_bytes.min(most.hashed_bytes),
        }
    }

    /// Every limit with its name.
    pub fn named(&self) -> [(&'static str, u64); 10] {
        [
            ("cpu_ms", self.cpu_ms),
            ("wall_ms", self.wall_ms),
            ("memory_bytes", self.memory_bytes),
            ("output_bytes", self.output_bytes),
            ("headers", self.headers),
            ("header_bytes", self.header_bytes),
            ("log_bytes", self.log_bytes),
            ("log_bytes_per_minute", self.log_bytes_per_minute),
            ("host_calls", self.host_calls),
            ("hashed_bytes", self.hashed_bytes),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_above_the_host_is_refused_by_name() {
        assert_eq!(Limits::default().check(&Limits::HOST_MAX), Ok(()));
        let greedy = Limits { cpu_ms: 1_001, ..Limits::default() };
        assert_eq!(
            greedy.check(&Limits::HOST_MAX),
            Err("limits.cpu_ms is 1001, but this host allows at most 1000".into())
        );
        let none = Limits { memory_bytes: 0, ..Limits::default() };
        assert!(none.check(&Limits::HOST_MAX).is_err());
    }
}
