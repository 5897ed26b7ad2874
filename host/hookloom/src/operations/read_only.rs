//! Fields of a body that only the host changes, in bodies that can be written as they were read.
//!
//! Most of them change by themselves, so their values do not matter. A field that a client may want to change by writing it must be
//! unchanged ([`ReadOnly::check_unchanged`]).

use super::Problem;
use serde::Serialize;
use serde_json::{Map, Value};

/// Fields of a body that only the host changes, as the client sent them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ReadOnly(Map<String, Value>);

impl ReadOnly {
    /// Removes the fields with these names from a body.
    pub(crate) fn split_off(body: &mut Map<String, Value>, names: &[&str]) -> Self {
        ReadOnly(names.iter().filter_map(|name| body.remove_entry(*name)).collect())
    }

    /// Refuses a field that differs from its present value. `how` says how to change it.
    pub(crate) fn check_unchanged(&self, name: &str, now: &impl Serialize, how: &str) -> Result<(), Problem> {
        let Some(sent) = self.0.get(name) else { return Ok(()) };
        if serde_json::to_value(now).is_ok_and(|now| now == *sent) {
            return Ok(());
        }
        Err(Problem::field(&format!("/{name}"), format!("cannot be changed here: {how}")))
    }

    /// Refuses an id that differs from the one in the path.
    pub(crate) fn check_id(&self, now: &impl Serialize) -> Result<(), Problem> {
        self.check_unchanged("id", now, "it is not the id in the path")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_that_is_as_it_is_may_be_sent() {
        let mut body = json!({"id": "a", "received": 5, "name": "x"}).as_object().cloned().unwrap_or_default();
        let read_only = ReadOnly::split_off(&mut body, &["id", "received", "path"]);
        assert_eq!(Value::Object(body), json!({"name": "x"}));
        assert!(read_only.check_id(&"a").is_ok() && read_only.check_unchanged("path", &"p", "").is_ok());
        let problem = read_only.check_id(&"b").expect_err("another id");
        assert_eq!(problem.detail, "/id: cannot be changed here: it is not the id in the path");
    }
}
