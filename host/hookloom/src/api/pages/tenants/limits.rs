//! Form of a tenant's limits: those of plugin calls, and its address ranges. Pure.

use crate::address::Egress;
use crate::api::pages::forms::Form;
use crate::api::pages::size;
use crate::limits::Limits;
use crate::operations::{FieldFault, Problem, TenantWrite};
use crate::store::grouped;
use crate::subscription::Tenant;
use ipnet::IpNet;
use std::collections::BTreeMap;

/// Form of the limits.
pub(super) struct LimitsForm {
    pub(super) limits: Vec<LimitField>,
    pub(super) deny: RangesField,
    pub(super) only: RangesField,
    /// Problem of the form as a whole. Empty: none.
    pub(super) problem: String,
}

/// Field of a limit of plugin calls.
pub(super) struct LimitField {
    /// Name in the API.
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) text: String,
    pub(super) hint: String,
    /// Empty: none.
    pub(super) error: String,
}

/// Field of address ranges, one a line.
pub(super) struct RangesField {
    pub(super) text: String,
    /// Empty: none.
    pub(super) error: String,
}

/// Names of the limits for people, in the order of the form.
const LABELS: [(&str, &str); 12] = [
    ("cpu_ms", "CPU time (ms)"),
    ("wall_ms", "Time (ms)"),
    ("memory_bytes", "Memory (bytes)"),
    ("output_bytes", "Outgoing body (bytes)"),
    ("table_elements", "Elements of tables"),
    ("headers", "Headers of the plugin"),
    ("header_bytes", "Their size (bytes)"),
    ("log_bytes", "Log of a call (bytes)"),
    ("log_bytes_per_minute", "Logs in a minute (bytes)"),
    ("host_calls", "Calls into the host"),
    ("host_call_bytes", "Data of these calls (bytes)"),
    ("hashed_bytes", "Hashed data (bytes)"),
];

impl LimitsForm {
    /// Returns the form of a tenant, on a host with these maxima.
    pub(super) fn of(tenant: &Tenant, most: &Limits) -> Self {
        let text = |name: &str| tenant.limits_max.get(name).map(|limit| grouped(*limit)).unwrap_or_default();
        let field =
            |(name, label)| LimitField { name, label, text: text(name), hint: hint(name, most), error: String::new() };
        LimitsForm {
            limits: LABELS.into_iter().map(field).collect(),
            deny: RangesField::of(&tenant.egress.deny),
            only: RangesField::of(&tenant.egress.only),
            problem: String::new(),
        }
    }

    /// Returns the form with the submitted texts and the faults of each field.
    pub(super) fn refused(self, form: &Form, problem: &Problem) -> Self {
        let fault = |pointer: &str| {
            let own = problem.errors.iter().filter(|fault| fault.pointer == pointer);
            own.map(|fault| fault.detail.as_str()).collect::<Vec<_>>().join(" · ")
        };
        let ranges = |name: &'static str| RangesField {
            text: form.get(name).to_owned(),
            error: fault(&format!("/egress/{name}")),
        };
        let field = |field: LimitField| LimitField {
            text: form.get(field.name).to_owned(),
            error: fault(&format!("/limits_max/{}", field.name)),
            ..field
        };
        let limits: Vec<LimitField> = self.limits.into_iter().map(field).collect();
        let deny = ranges("deny");
        let only = ranges("only");
        let has_own =
            limits.iter().any(|field| !field.error.is_empty()) || !deny.error.is_empty() || !only.error.is_empty();
        let problem = if has_own { String::new() } else { problem.in_words() };
        LimitsForm { limits, deny, only, problem }
    }

    /// Returns the number of limits that the tenant has of its own.
    pub(super) fn count(&self) -> usize {
        self.limits.iter().filter(|field| !field.text.is_empty()).count()
    }
}

impl RangesField {
    fn of(ranges: &[IpNet]) -> Self {
        let lines: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        RangesField { text: lines.join("\n"), error: String::new() }
    }
}

/// Returns the sentence about the maximum of the host.
fn hint(name: &str, most: &Limits) -> String {
    let limit = most.named().into_iter().find(|(known, _)| *known == name).map_or(0, |(_, limit)| limit);
    let in_units = if name.contains("bytes") { format!(" ({})", size(limit)) } else { String::new() };
    format!("Blank: {}{in_units}, as on the whole host.", grouped(limit))
}

/// Reads a submitted form.
///
/// # Errors
/// A fault for each field that does not fit.
pub(super) fn change(form: &Form) -> Result<TenantWrite, Problem> {
    let mut faults = Vec::new();
    let mut limits = BTreeMap::new();
    for (name, _) in LABELS {
        match limit(name, form.get(name)) {
            Ok(Some(value)) => drop(limits.insert(name.to_owned(), value)),
            Ok(None) => {}
            Err(detail) => faults.push(FieldFault { pointer: format!("/limits_max/{name}"), detail }),
        }
    }
    let mut ranges = |name: &str| {
        parsed(form.get(name)).unwrap_or_else(|detail| {
            faults.push(FieldFault { pointer: format!("/egress/{name}"), detail });
            Vec::new()
        })
    };
    let egress = Egress { deny: ranges("deny"), only: ranges("only") };
    if faults.is_empty() { Ok(TenantWrite::limits(limits, egress)) } else { Err(Problem::fields(faults)) }
}

fn limit(name: &str, text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.replace([',', ' '], "");
    let value: u64 = digits.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
    Limits::HOST_MAX.lowered(&BTreeMap::from([(name.to_owned(), value)]))?;
    Ok(Some(value))
}

fn parsed(text: &str) -> Result<Vec<IpNet>, String> {
    fn range(line: &str) -> Result<IpNet, String> {
        let single = || line.parse().ok().map(|address: std::net::IpAddr| IpNet::from(address));
        line.parse()
            .ok()
            .or_else(single)
            .ok_or_else(|| format!("{line:?} is not a range: write 203.0.113.0/24 or 2001:db8::/32, one a line"))
    }
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> Form {
        Form::urlencoded(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().as_bytes())
    }

    #[test]
    fn every_limit_has_a_field() {
        let mut names: Vec<&str> = LABELS.iter().map(|(name, _)| *name).collect();
        let mut known: Vec<&str> = Limits::HOST_MAX.named().iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
    }

    #[test]
    fn each_field_has_its_fault() {
        #[track_caller]
        fn check(fields: &[(&str, &str)], expected: &[(&str, &str)]) {
            let faults = change(&form(fields)).map(drop).err().map(|problem| problem.errors).unwrap_or_default();
            let found: Vec<_> = faults.iter().map(|fault| (&*fault.pointer, &*fault.detail)).collect();
            assert_eq!(found, expected);
        }
        check(
            &[("cpu_ms", " 20 "), ("memory_bytes", "1,048,576"), ("deny", "10.0.0.0/8\n\n2001:db8::/32\n192.0.2.1")],
            &[],
        );
        check(
            &[("cpu_ms", "0"), ("wall_ms", "soon"), ("only", "10.0.0.0/8\nnowhere")],
            &[
                ("/limits_max/cpu_ms", "cpu_ms is 0, so no plugin could run"),
                ("/limits_max/wall_ms", "\"soon\" is not a whole number"),
                ("/egress/only", "\"nowhere\" is not a range: write 203.0.113.0/24 or 2001:db8::/32, one a line"),
            ],
        );
    }

    #[test]
    fn a_blank_limit_is_that_of_the_host() {
        assert_eq!(hint("cpu_ms", &Limits::HOST_MAX), "Blank: 1,000, as on the whole host.");
        assert_eq!(hint("memory_bytes", &Limits::HOST_MAX), "Blank: 268,435,456 (256.0 MiB), as on the whole host.");
    }
}
