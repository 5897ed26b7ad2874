//! Reuse of plugin instances, as a subscription sets it.
//!
//! Pure data with its limits. Does not know how instances are kept.

use serde::{Deserialize, Serialize};

/// Reuse of a plugin instance for several events of one subscription. Calls are faster, and the plugin's memory is kept for the
/// next event. An instance that fails is replaced by a fresh one within the same attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Reuse {
    /// Maximum number of calls of an instance: 2 to 100,000.
    pub calls: u32,
    /// Maximum time without a call, in seconds: 1 to 3,600.
    #[serde(default = "default_idle_s")]
    pub idle_s: u32,
}

fn default_idle_s() -> u32 {
    60
}

impl Reuse {
    /// Returns an error if a number is out of range.
    pub fn check(&self) -> Result<(), String> {
        if (2..=100_000).contains(&self.calls) && (1..=3_600).contains(&self.idle_s) {
            Ok(())
        } else {
            Err("calls is 2 to 100000, and idle_s is 1 to 3600".into())
        }
    }
}
