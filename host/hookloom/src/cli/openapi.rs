//! `hookloom openapi`: the OpenAPI document, without a host.

use super::{Failure, terminal};

/// Prints the document that a host serves under `/openapi.json`, indented.
pub(super) fn openapi() -> Result<(), Failure> {
    Ok(terminal::json_pretty(&crate::api::openapi())?)
}
