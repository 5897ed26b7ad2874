//! Exports of the component.
#![allow(unsafe_code, reason = "the generated macro that exports functions")]

use crate::bindings::exports::hookloom::plugin::transform;
use crate::bindings::hookloom::plugin::types;
use crate::bindings::{Guest, export};
use crate::engine;

struct Component;

impl Guest for Component {
    fn prepare() {
        engine::prepare();
    }
}

impl transform::Guest for Component {
    fn transform(event: types::Event) -> Result<types::Verdict, types::Failure> {
        engine::judge(event)
    }
}

export!(Component);
