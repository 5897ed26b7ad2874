//! Functions of the contract as scripts call them: log, config, secrets, history, and random numbers.

use crate::bindings::hookloom::plugin::{config, history, log, secrets, types};
use crate::{hexadecimal, numbers};
use rquickjs::{Ctx, Function, IntoJs, Object, TypedArray, Value};
use std::cell::Cell;

/// Maximum number of log lines of a call that reach the host, whose log is full long before. The rest is counted.
const LINES_MAX: u32 = 2_000;

thread_local! {
    /// State of the random numbers. 0: not seeded yet.
    static RANDOM: Cell<u64> = const { Cell::new(0) };
    /// Number of log lines of the call.
    static LINES: Cell<u32> = const { Cell::new(0) };
}

/// Returns the functions that `prelude.js` makes the globals of.
pub(crate) fn native<'js>(ctx: &Ctx<'js>) -> rquickjs::Result<Object<'js>> {
    let native = Object::new(ctx.clone())?;
    native.set("configGet", Function::new(ctx.clone(), |key: String| config::get(&key))?)?;
    native.set("configEntries", Function::new(ctx.clone(), entries)?)?;
    native.set("hmac", Function::new(ctx.clone(), hmac)?)?;
    native.set("previous", Function::new(ctx.clone(), previous)?)?;
    native.set("write", Function::new(ctx.clone(), write)?)?;
    native.set("random", Function::new(ctx.clone(), random)?)?;
    Ok(native)
}

fn entries() -> Vec<Vec<String>> {
    config::entries().into_iter().map(|(key, value)| vec![key, value]).collect()
}

/// Computes the code of a text, or of bytes in hexadecimal digits. Returns 32 bytes, or a text that tells why there are none.
fn hmac(ctx: Ctx<'_>, name: String, data: String, is_hexadecimal: bool) -> rquickjs::Result<Value<'_>> {
    let data = if is_hexadecimal { hexadecimal::bytes(&data) } else { data.into_bytes() };
    match secrets::hmac_sha256(&name, &data) {
        Ok(code) => TypedArray::new(ctx, code).map(TypedArray::into_value),
        Err(secrets::SecretError::UnknownName) => format!("the subscription has no secret {name:?}").into_js(&ctx),
        Err(secrets::SecretError::NotGranted) => "the subscription does not let its plugins use secrets".into_js(&ctx),
    }
}

fn previous(ctx: Ctx<'_>) -> rquickjs::Result<Option<Value<'_>>> {
    history::previous().map(|event| fields(&ctx, event)).transpose()
}

/// Returns the fields of an event in the order in which `prelude.js` reads them.
pub(crate) fn fields<'js>(ctx: &Ctx<'js>, event: types::Event) -> rquickjs::Result<Value<'js>> {
    let lossy = numbers::lossy(&event.payload);
    let lossy = (!lossy.is_empty()).then_some(lossy);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 stay below 2^53 for 285,000 years")]
    let received_at = event.received_at as f64;
    let settled = settled(&event.attributes);
    let fields = (event.id, event.name, event.module, event.entity_id, received_at, event.payload.as_str(), lossy);
    let array = rquickjs::Array::new(ctx.clone())?;
    array.set(0, fields.0)?;
    array.set(1, fields.1)?;
    array.set(2, fields.2)?;
    array.set(3, fields.3)?;
    array.set(4, fields.4)?;
    array.set(5, fields.5)?;
    array.set(6, fields.6)?;
    array.set(7, settled)?;
    array.into_js(ctx)
}

/// Returns the number of events that the event stands for, and the time of the first. None: its subscription does not settle.
fn settled(attributes: &[types::Attribute]) -> Option<Vec<f64>> {
    let number = |name: &str| attributes.iter().find(|one| one.name == name)?.value.parse().ok();
    Some(vec![number("settled-events")?, number("settled-since")?])
}

fn write(level: u8, line: String) {
    let lines = LINES.get().saturating_add(1);
    LINES.set(lines);
    if lines <= LINES_MAX {
        let level = match level {
            0 => log::Level::Debug,
            1 => log::Level::Info,
            2 => log::Level::Warn,
            _ => log::Level::Error,
        };
        log::write(level, &line);
    }
}

/// Begins the log of a call.
pub(crate) fn begin_log() {
    LINES.set(0);
}

/// Writes how many lines of the call were left out, if any were.
pub(crate) fn end_log() {
    let left_out = LINES.get().saturating_sub(LINES_MAX);
    if left_out > 0 {
        log::write(log::Level::Warn, &format!("{left_out} more lines: the engine hands over {LINES_MAX} of a call"));
    }
}

/// Returns a number from 0 to 1 (xorshift64*), seeded by the host's random numbers at the first call.
fn random() -> f64 {
    let mut state = RANDOM.get();
    if state == 0 {
        state = wasip2::random::random::get_random_u64() | 1;
    }
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    RANDOM.set(state);
    let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits")]
    let number = bits as f64;
    number / (1_u64 << 53) as f64
}
