//! Limits of a plugin call, and their combination from the settings of the subscription and the maxima of tenant and host.
//!
//! Pure. Each limit has one name, which error messages show as well. The numbers are those of docs/reference/limits.md.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Resource limits of one plugin call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// CPU time of a call, in milliseconds.
    pub cpu_ms: u64,
    /// Wall time of a call, in milliseconds.
    pub wall_ms: u64,
    /// Linear memory of all memories of the component together, in bytes.
    pub memory_bytes: u64,
    /// Number of elements of all tables together.
    pub table_elements: u64,
    /// Size of the outgoing body, in bytes.
    pub output_bytes: u64,
    /// Maximum number of headers that a plugin adds.
    pub headers: u64,
    /// Size of their names and values together, in bytes.
    pub header_bytes: u64,
    /// Maximum stored size of a call's log, in bytes. Of a line, at most 1 KiB is stored.
    pub log_bytes: u64,
    /// Maximum stored size of the logs of all calls of a subscription in a minute, in bytes.
    pub log_bytes_per_minute: u64,
    /// Number of calls into the host, of every kind.
    pub host_calls: u64,
    /// Bytes passed to the host by all these calls together: log lines, keys, hashed and printed data.
    pub host_call_bytes: u64,
    /// Bytes passed to `secrets.hmac-sha256` by all calls together.
    pub hashed_bytes: u64,
}

/// Returns the beginning of a text, at most this many bytes, in whole characters.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Maximum length of a reason that is stored for people, in bytes, for the state of a delivery, a subscription or a rollout.
pub const REASON_BYTES_MAX: usize = 1 << 10;

/// Returns a text unchanged, or its beginning with an ellipsis, in at most this many bytes. For stored or shown texts that quote
/// foreign text.
pub fn shortened(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    const ELLIPSIS: &str = "…";
    format!("{}{ELLIPSIS}", cut(text, bytes_max.saturating_sub(ELLIPSIS.len())))
}

/// Default size of a guest's stack, in bytes. The engine has one size for all guests.
pub const STACK_BYTES: u64 = 512 << 10;

/// Default maximum size of a component, in bytes: a Python runtime has 18 MB.
pub const COMPONENT_BYTES_MAX: u64 = 20 << 20;

/// Limits that must not be 0.
const RUNS_NOTHING: [&str; 6] = ["cpu_ms", "wall_ms", "memory_bytes", "table_elements", "host_calls", "output_bytes"];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            cpu_ms: 50,
            wall_ms: 500,
            memory_bytes: 64 * MIB,
            // JavaScript and Python runtimes need more than wasmtime's default of 20,000.
            table_elements: 100_000,
            output_bytes: 256 * KIB,
            headers: 16,
            header_bytes: 8 * KIB,
            log_bytes: 16 * KIB,
            log_bytes_per_minute: 256 * KIB,
            host_calls: 10_000,
            host_call_bytes: 16 * MIB,
            hashed_bytes: 4 * MIB,
        }
    }
}

impl Limits {
    /// Default maxima of a host.
    pub const HOST_MAX: Limits = Limits {
        cpu_ms: 1_000,
        wall_ms: 5_000,
        memory_bytes: 256 * MIB,
        table_elements: 100_000,
        output_bytes: 4 * MIB,
        headers: 64,
        header_bytes: 32 * KIB,
        log_bytes: 64 * KIB,
        log_bytes_per_minute: 4 * MIB,
        host_calls: 100_000,
        host_call_bytes: 128 * MIB,
        hashed_bytes: 64 * MIB,
    };

    /// Returns an error if a limit is above the host's maximum, or is 0 where it must not be. A default above the maximum is no
    /// error: the maximum applies (see [`Limits::within`]).
    pub fn check(&self, host_max: &Limits) -> Result<(), String> {
        let limits = self.named().into_iter().zip(host_max.named()).zip(Limits::default().named());
        for (((name, wanted), (_, most)), (_, default)) in limits {
            if wanted > most && wanted != default {
                return Err(format!("limits.{name} is {wanted}, but at most {most} is allowed"));
            }
            if wanted == 0 && RUNS_NOTHING.contains(&name) {
                return Err(format!("limits.{name} is 0, so no plugin could run; leave it out for the default"));
            }
        }
        Ok(())
    }

    /// Returns the smaller value of each limit and of the host's maximum.
    pub fn within(self, most: &Limits) -> Limits {
        Limits {
            cpu_ms: self.cpu_ms.min(most.cpu_ms),
            wall_ms: self.wall_ms.min(most.wall_ms),
            memory_bytes: self.memory_bytes.min(most.memory_bytes),
            table_elements: self.table_elements.min(most.table_elements),
            output_bytes: self.output_bytes.min(most.output_bytes),
            headers: self.headers.min(most.headers),
            header_bytes: self.header_bytes.min(most.header_bytes),
            log_bytes: self.log_bytes.min(most.log_bytes),
            log_bytes_per_minute: self.log_bytes_per_minute.min(most.log_bytes_per_minute),
            host_calls: self.host_calls.min(most.host_calls),
            host_call_bytes: self.host_call_bytes.min(most.host_call_bytes),
            hashed_bytes: self.hashed_bytes.min(most.hashed_bytes),
        }
    }

    /// Returns these limits, with the smaller value for each limit in `names`, the maxima of a tenant.
    ///
    /// # Errors
    /// A sentence, if a name is unknown, or if no plugin could run under the limit.
    pub fn lowered(self, names: &BTreeMap<String, u64>) -> Result<Limits, String> {
        let mut all = serde_json::to_value(self).map_err(|error| error.to_string())?;
        for (name, value) in names {
            let known = self.named().into_iter().find(|(known, _)| known == name);
            let (name, limit) = known.ok_or_else(|| {
                let names = self.named().map(|(name, _)| name).join(", ");
                format!("{name:?} is not a limit; the limits are {names}")
            })?;
            if *value == 0 && RUNS_NOTHING.contains(&name) {
                return Err(format!("{name} is 0, so no plugin could run"));
            }
            all[name] = limit.min(*value).into();
        }
        serde_json::from_value(all).map_err(|error| error.to_string())
    }

    /// Returns every limit with its name.
    pub fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("cpu_ms", self.cpu_ms),
            ("wall_ms", self.wall_ms),
            ("memory_bytes", self.memory_bytes),
            ("table_elements", self.table_elements),
            ("output_bytes", self.output_bytes),
            ("headers", self.headers),
            ("header_bytes", self.header_bytes),
            ("log_bytes", self.log_bytes),
            ("log_bytes_per_minute", self.log_bytes_per_minute),
            ("host_calls", self.host_calls),
            ("host_call_bytes", self.host_call_bytes),
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
        assert_eq!(greedy.check(&Limits::HOST_MAX), Err("limits.cpu_ms is 1001, but at most 1000 is allowed".into()));
        let none = Limits { memory_bytes: 0, ..Limits::default() };
        assert!(none.check(&Limits::HOST_MAX).is_err());
    }

    #[test]
    fn a_tenant_can_only_be_given_less() {
        fn lowered(pairs: &[(&str, u64)]) -> Result<Limits, String> {
            let names = pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            Limits::HOST_MAX.lowered(&names)
        }
        assert_eq!(lowered(&[]), Ok(Limits::HOST_MAX));
        let less = lowered(&[("cpu_ms", 20), ("wall_ms", 99_999)]).expect("names of limits");
        assert_eq!(less, Limits { cpu_ms: 20, ..Limits::HOST_MAX });
        assert!(
            lowered(&[("cpu", 20)])
                .expect_err("no limit")
                .contains("\"cpu\" is not a limit; the limits are cpu_ms, wall_ms")
        );
        assert!(lowered(&[("cpu_ms", 0)]).is_err());
    }
}
