//! The words for how much one plugin call may use, and how a subscription's wishes meet the host's maxima.
//!
//! Pure. Every limit has one name, which is also the name that an error shows. The numbers' source is the table of
//! defaults in README.md, "Limits".

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
    /// Linear memory, all memories of the component together, in bytes.
    pub memory_bytes: u64,
    /// Elements of all its tables together.
    pub table_elements: u64,
    /// The outgoing body, in bytes.
    pub output_bytes: u64,
    /// Maximum number of headers that a plugin adds.
    pub headers: u64,
    /// Their names and values together, in bytes.
    pub header_bytes: u64,
    /// Maximum stored size of a call's log, in bytes; of a line at most 1 KiB is stored.
    pub log_bytes: u64,
    /// Maximum stored size of the logs of all calls of a subscription in a minute, in bytes.
    pub log_bytes_per_minute: u64,
    /// Calls into the host, of every kind.
    pub host_calls: u64,
    /// Bytes handed to the host by all of them together: log lines, keys, what is hashed, what is printed.
    pub host_call_bytes: u64,
    /// Bytes handed to `secrets.hmac-sha256`, all calls together.
    pub hashed_bytes: u64,
}

/// Returns the beginning of a text: at most so many bytes, whole characters.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Maximum length of a reason that the host writes down for people, in bytes: why a delivery, a subscription or a rollout
/// is in its state.
pub const REASON_BYTES_MAX: usize = 1 << 10;

/// Returns a text as it is, or its beginning with an ellipsis, in at most so many bytes. For texts that are stored or
/// shown and that quote what somebody else wrote.
pub fn shortened(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    const ELLIPSIS: &str = "…";
    format!("{}{ELLIPSIS}", cut(text, bytes_max.saturating_sub(ELLIPSIS.len())))
}

/// A guest's stack until a host's operator says otherwise, in bytes. One for all guests: the engine has it.
pub const STACK_BYTES: u64 = 512 << 10;

/// The largest component until a host's operator says otherwise, in bytes: a Python runtime has 18 MB.
pub const COMPONENT_BYTES_MAX: u64 = 20 << 20;

/// Limits without which nothing runs.
const RUNS_NOTHING: [&str; 6] = ["cpu_ms", "wall_ms", "memory_bytes", "table_elements", "host_calls", "output_bytes"];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            cpu_ms: 50,
            wall_ms: 500,
            memory_bytes: 64 * MIB,
            // JavaScript and Python runtimes need more than wasmtime's own 20,000.
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
    /// The most that a host allows until its operator says otherwise.
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

    /// Says which limit is above the host's maximum, or is nothing at all. A default is no wish: where the maximum is
    /// lower, it holds instead (see [`Limits::within`]).
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

    /// Each limit, or the host's maximum where that is lower.
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

    /// These limits where `names` does not name them, and the smaller of both where it does: a tenant's maxima.
    ///
    /// # Errors
    /// In words, if a name is no limit's, or if no plugin could run under it.
    pub fn lowered(self, names: &BTreeMap<String, u64>) -> Result<Limits, String> {
        let mut all = serde_json::to_value(self).map_err(|error| error.to_string())?;
        for (name, value) in names {
            let known = self.named().into_iter().find(|(own, _)| own == name);
            let (name, own) = known.ok_or_else(|| {
                let names = self.named().map(|(name, _)| name).join(", ");
                format!("{name:?} is not a limit; the limits are {names}")
            })?;
            if *value == 0 && RUNS_NOTHING.contains(&name) {
                return Err(format!("{name} is 0, so no plugin could run"));
            }
            all[name] = own.min(*value).into();
        }
        serde_json::from_value(all).map_err(|error| error.to_string())
    }

    /// Every limit with its name.
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
