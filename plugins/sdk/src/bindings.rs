//! The guest's side of the WIT files, generated, and the way between its words and this crate's. Not for plugins to use.
#![allow(missing_docs, unsafe_code, reason = "generated; the documentation is in the WIT files")]

wit_bindgen::generate!({
    path: ["../../wit", "wit"],
    world: "hookloom:errors/plugin",
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "hookloom_sdk::bindings",
});

use crate::{Body, Event, Failure, Outgoing, Plugin, Reason, Verdict};
use hookloom::errors::report;
use hookloom::plugin::types;
use std::panic::PanicHookInfo;

/// Calls a plugin with the host's event.
pub fn judge<P: Plugin>(event: types::Event) -> Result<types::Verdict, types::Failure> {
    std::panic::set_hook(Box::new(fail));
    P::transform(&self::event(event)).map(verdict).map_err(failure)
}

/// Ends the call with a panic's message and place. The names of the functions come from the host, which knows those of the component.
fn fail(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    report::fail(&report::Error {
        message: message.unwrap_or("a panic without a message").to_owned(),
        position: panic.location().map(|at| report::Position {
            file: at.file().to_owned(),
            line: at.line(),
            column: Some(at.column()),
        }),
        frames: Vec::new(),
    });
}

/// An event in this crate's words.
pub fn event(event: types::Event) -> Event {
    Event {
        id: event.id,
        tenant: event.tenant,
        subscription: event.subscription,
        name: event.name,
        module: event.module,
        entity_id: event.entity_id,
        received_at_ms: event.received_at,
        payload: event.payload,
        attributes: event.attributes.into_iter().map(|one| (one.name, one.value)).collect(),
    }
}

fn reason(reason: Reason) -> types::Reason {
    types::Reason { code: reason.code, message: reason.message }
}

fn verdict(verdict: Verdict) -> types::Verdict {
    match verdict {
        Verdict::Pass => types::Verdict::Pass,
        Verdict::Replace(one) => types::Verdict::Replace(vec![outgoing(one)]),
        Verdict::Drop(why) => types::Verdict::Drop(reason(why)),
        Verdict::Later { delay_ms, reason: why } => {
            types::Verdict::Later(types::Postponement { delay_ms, reason: reason(why) })
        }
    }
}

fn outgoing(one: Outgoing) -> types::Outgoing {
    types::Outgoing {
        body: match one.body {
            Body::Text(text) => types::Body::Text(text),
            Body::Binary(bytes) => types::Body::Binary(bytes),
        },
        content_type: one.content_type,
        headers: one.headers.into_iter().map(|(name, value)| types::Header { name, value }).collect(),
        url: one.url,
        attributes: Vec::new(),
    }
}

fn failure(failure: Failure) -> types::Failure {
    match failure {
        Failure::InvalidEvent(why) => types::Failure::InvalidEvent(reason(why)),
        Failure::Transient(why) => types::Failure::Transient(reason(why)),
        Failure::BadConfig(why) => types::Failure::BadConfig(reason(why)),
    }
}
