//! Settling in a webhook's form: quiet time and longest wait, both in seconds. Blank: every event is delivered.

use crate::api::pages::forms::Form;
use crate::operations::Problem;
use crate::settle::{Settle, SettleKeep};

/// Field of the quiet time. A form without it keeps the setting.
const QUIET: &str = "quiet_s";

/// Field of the longest wait.
const MAX_WAIT: &str = "max_wait_s";

/// Values of the fields, as text.
#[derive(Default)]
pub(in crate::api::pages) struct SettleForm {
    pub(in crate::api::pages) quiet_s: String,
    pub(in crate::api::pages) max_wait_s: String,
}

impl SettleForm {
    pub(super) fn of(settle: Option<Settle>) -> Self {
        settle.map_or_else(SettleForm::default, |settle| SettleForm {
            quiet_s: settle.quiet_s.to_string(),
            max_wait_s: settle.max_wait_s.to_string(),
        })
    }

    /// Returns the values of a submitted form.
    pub(super) fn again(form: &Form) -> Self {
        SettleForm { quiet_s: form.get(QUIET).to_owned(), max_wait_s: form.get(MAX_WAIT).to_owned() }
    }
}

/// Returns the setting of a form. A form without the fields keeps the one before.
pub(super) fn settle_in(form: &Form, before: Option<Settle>) -> Result<Option<Settle>, Problem> {
    if !form.contains(QUIET) {
        return Ok(before);
    }
    if !form.has(QUIET) && !form.has(MAX_WAIT) {
        return Ok(None);
    }
    let quiet_s = seconds(form, QUIET, "the quiet time")?;
    let max_wait_s = seconds(form, MAX_WAIT, "the longest wait")?;
    Ok(Some(Settle { quiet_s, max_wait_s, keep: SettleKeep::Last }))
}

fn seconds(form: &Form, field: &str, what: &str) -> Result<u32, Problem> {
    let unfit = |_| Problem::field(&format!("/settle/{field}"), format!("{what} is a whole number of seconds"));
    form.get(field).parse().map_err(unfit)
}
