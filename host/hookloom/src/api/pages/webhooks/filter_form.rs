//! Filter in a webhook's form: its JSON, the rows that are equal to it, and the last events that match.
//!
//! # Theory of operation
//! Without scripts, the form has the JSON, and a button that counts matching events and keeps all input. With `assets/filter.js`, it
//! has the rows as well. The script presses the button in each pause of typing, and takes over the answer, which is this part of the
//! form only ([`PART`]). So the host makes JSON of rows, and rows of JSON. The form says which of the two was typed last; that one is
//! saved.

use super::filter_rows::{FilterRow, OPERATORS, RowFault, RowOperator, filter_of, rows_in, rows_of};
use super::matching::Matching;
use crate::api::ApiState;
use crate::api::pages::forms::Form;
use crate::api::pages::user::TenantUser;
use crate::api::pages::{PageError, filters};
use crate::filter::{Filter, WrittenFilter};
use crate::operations::subscriptions::filter_problem;
use crate::operations::{FieldFault, Problem};
use askama::Template;
use http::StatusCode;
use serde_json::Value;
use uuid::Uuid;

/// Field of the filter's JSON. A form without it changes neither event names nor filter.
pub(super) const FILTER: &str = "filter";

/// Field of the button that counts matching events and saves nothing.
pub(super) const COUNT: &str = "count";

/// Field of the script, which wants this part of the form instead of the page.
pub(super) const PART: &str = "part";

/// Part of a webhook's form.
pub(in crate::api::pages) struct FilterForm {
    /// JSON as text.
    pub(in crate::api::pages) text: String,
    /// True if the rows were typed last.
    pub(in crate::api::pages) is_from_rows: bool,
    /// Rows that are equal to the JSON. None: rows cannot express it, or it has a fault.
    pub(in crate::api::pages) rows: Option<Vec<FilterRow>>,
    /// Index of the row with the fault.
    pub(in crate::api::pages) faulty_row: Option<usize>,
    pub(in crate::api::pages) error: Option<String>,
    /// Fault that kept the events from being counted.
    pub(in crate::api::pages) count_problem: Option<String>,
    pub(in crate::api::pages) matching: Option<Matching>,
    /// True in the portal, which has no documentation of the host.
    pub(in crate::api::pages) is_for_customer: bool,
}

/// Part of the form alone.
#[derive(Template)]
#[template(path = "webhook_filter.html")]
pub(super) struct FilterPart {
    pub(super) filter: FilterForm,
}

impl FilterForm {
    /// Returns the part with a filter.
    pub(super) fn of(filter: Option<&Filter>) -> Self {
        let source = filter.map_or(&Value::Null, Filter::source);
        FilterForm {
            text: pretty(source),
            is_from_rows: false,
            rows: rows_to_show(source),
            faulty_row: None,
            error: None,
            count_problem: None,
            matching: None,
            is_for_customer: false,
        }
    }

    /// Returns the part as it was submitted, with its problem.
    pub(super) fn again(form: &Form, problem: Option<&Problem>) -> Self {
        let is_from_rows = is_from_rows(form);
        let read = filter_in(form);
        let rows = match &read {
            _ if is_from_rows => Some(rows_in(form)),
            Ok(filter) => rows_to_show(filter),
            Err(_) => None,
        };
        let text = match &read {
            Ok(filter) if is_from_rows => pretty(filter),
            _ => form.get(FILTER).to_owned(),
        };
        let faults: Vec<(&str, &FieldFault)> = problem
            .iter()
            .flat_map(|problem| &problem.errors)
            .filter_map(|fault| Some((fault.pointer.strip_prefix("/filter")?, fault)))
            .collect();
        let at_fault = |row: &FilterRow| faults.iter().any(|(at, _)| !at.is_empty() && row.is_at(at));
        let faulty_row = rows.as_ref().and_then(|rows| match filter_of(rows) {
            Err(RowFault { index, .. }) => Some(index),
            Ok(_) => rows.iter().position(at_fault),
        });
        let error = faults.iter().map(|(at, fault)| match *at {
            "" => fault.detail.clone(),
            at => format!("{at}: {}", fault.detail),
        });
        let error = error.collect::<Vec<_>>().join(" · ");
        FilterForm {
            text,
            is_from_rows,
            faulty_row,
            rows: rows.map(or_blank),
            error: Some(error).filter(|error| !error.is_empty()),
            count_problem: None,
            matching: None,
            is_for_customer: false,
        }
    }

    /// Returns the part as it was submitted, with the events that match, and the problem that kept them from being counted.
    pub(super) async fn counted(
        state: &ApiState,
        user: &TenantUser,
        form: &Form,
        id: Option<Uuid>,
    ) -> Result<(Self, Option<Problem>), PageError> {
        let matching = async { Matching::of(state, user, form, filter_in(form)?, id).await };
        match matching.await {
            Ok(matching) => Ok((FilterForm { matching: Some(matching), ..FilterForm::again(form, None) }, None)),
            Err(problem) if problem.status == StatusCode::UNPROCESSABLE_ENTITY.as_u16() => {
                let part = FilterForm::again(form, Some(&problem));
                let others: Vec<_> =
                    problem.errors.iter().filter(|fault| !fault.pointer.starts_with("/filter")).cloned().collect();
                let count_problem = (!others.is_empty()).then(|| Problem::fields(others).in_words());
                Ok((FilterForm { count_problem, ..part }, Some(problem)))
            }
            Err(problem) => Err(problem.into()),
        }
    }

    /// Returns the operators of a row.
    pub(in crate::api::pages) fn operators(&self) -> &'static [RowOperator] {
        &OPERATORS
    }

    /// Returns true if the row at an index has the fault.
    pub(in crate::api::pages) fn is_faulty(&self, index: &usize) -> bool {
        self.faulty_row == Some(*index)
    }
}

/// Filter for people.
pub(in crate::api::pages) struct ShownFilter {
    /// Conditions in words, all of which hold. Empty: they have no words.
    pub(in crate::api::pages) conditions: Vec<String>,
    /// JSON of the filter.
    pub(in crate::api::pages) text: String,
}

impl From<&Filter> for ShownFilter {
    fn from(filter: &Filter) -> Self {
        let rows = rows_of(filter.source()).unwrap_or_default();
        ShownFilter { conditions: rows.iter().map(FilterRow::in_words).collect(), text: pretty(filter.source()) }
    }
}

/// Returns the filter of a form. Null: there is none.
pub(super) fn filter_in(form: &Form) -> Result<Value, Problem> {
    if is_from_rows(form) {
        let filter = filter_of(&rows_in(form));
        return filter.map_err(|RowFault { index, detail }| {
            Problem::field("/filter", format!("condition {}: {detail}", index + 1))
        });
    }
    match form.get(FILTER) {
        "" => Ok(Value::Null),
        text => {
            let written: WrittenFilter = serde_json::from_str(text)
                .map_err(|error| Problem::field("/filter", format!("this is not JSON: {error}")))?;
            written.source().map_err(filter_problem)
        }
    }
}

fn is_from_rows(form: &Form) -> bool {
    form.get("filter_from") == "rows"
}

/// Returns the rows of a filter for the form, which has at least one. None: rows cannot express it.
fn rows_to_show(filter: &Value) -> Option<Vec<FilterRow>> {
    if filter.is_null() { Some(or_blank(Vec::new())) } else { rows_of(filter) }
}

fn or_blank(rows: Vec<FilterRow>) -> Vec<FilterRow> {
    if rows.is_empty() { vec![FilterRow::blank()] } else { rows }
}

fn pretty(filter: &Value) -> String {
    if filter.is_null() { String::new() } else { serde_json::to_string_pretty(filter).unwrap_or_default() }
}
