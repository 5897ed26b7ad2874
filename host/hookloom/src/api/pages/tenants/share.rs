//! Used parts of limits, for meters.

use crate::api::ApiState;
use crate::api::pages::size;
use crate::api::pages::usage::is_nearly;
use crate::operations::SUBSCRIPTIONS_MAX;
use crate::plugin::PLUGINS_MAX;
use crate::store::grouped;
use crate::subscription::TenantId;

/// Used part of a limit.
pub(super) struct Share {
    pub(super) used: u64,
    /// At least 1, as a meter needs it.
    pub(super) max: u64,
    /// Text of what is used.
    pub(super) used_text: String,
    /// Text of the limit.
    pub(super) max_text: String,
}

impl Share {
    /// Returns the part of a limit that is a number of things.
    pub(super) fn of(used: u64, max: u64) -> Self {
        Share { used, max: max.max(1), used_text: grouped(used), max_text: grouped(max) }
    }

    /// Returns the part of a limit in bytes.
    pub(super) fn of_bytes(used: u64, max: u64) -> Self {
        Share { used, max: max.max(1), used_text: size(used), max_text: size(max) }
    }

    /// Returns the used part in percent, for people.
    pub(super) fn percent(&self) -> String {
        let percent = self.used as f64 * 100.0 / self.max as f64;
        if percent > 0.0 && percent < 1.0 { "under 1 %".to_owned() } else { format!("{percent:.0} %") }
    }

    /// Returns true if nine tenths are used.
    pub(super) fn is_nearly_full(&self) -> bool {
        is_nearly(self.used, self.max)
    }
}

/// Returns the number of a tenant's webhooks.
pub(super) fn webhooks(state: &ApiState, tenant: &TenantId) -> Share {
    let count = state.operations.store.catalog().subscriptions(tenant).len();
    Share::of(count as u64, SUBSCRIPTIONS_MAX as u64)
}

/// Returns the number of a tenant's plugins.
pub(super) fn plugins(state: &ApiState, tenant: &TenantId) -> Share {
    Share::of(state.operations.plugins.count(tenant) as u64, PLUGINS_MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_in_percent() {
        #[track_caller]
        fn check(used: u64, max: u64, expected: &str, is_nearly_full: bool) {
            let share = Share::of(used, max);
            assert_eq!((share.percent().as_str(), share.is_nearly_full()), (expected, is_nearly_full));
        }
        check(0, 0, "0 %", false);
        check(1, 1_000, "under 1 %", false);
        check(895, 1_000, "90 %", false);
        check(900, 1_000, "90 %", true);
        check(3, 2, "150 %", true);
        assert_eq!(Share::of_bytes(2_048, 20 << 30).max_text, "20.0 GiB");
    }
}
