//! Scripts: versions of plugins that are source and not a component. The engine that runs them is part of the host.
//!
//! # Guarantees
//! - A stored script begins with a line that no component begins with, and names the engine for which it was uploaded. So the sha256 of
//!   a version is that of engine and source, and everything that stores, names and compares versions is the same for both kinds.
//!
//! # Limits
//! A script runs on the engine of this host, whichever it was uploaded for.

use super::PluginError;
use super::author_error::ScriptError;
use super::report::Refusal;
use bytes::Bytes;
use flate2::read::GzDecoder;
use std::io::Read as _;

/// Beginning of a stored script. JavaScript skips a first line of this form.
const PREFIX: &str = "#!hookloom-script ";

/// Maximum size of a script, in bytes.
pub const SCRIPT_BYTES_MAX: usize = 1 << 20;

/// The engine's component, compressed.
static ENGINE: &[u8] = include_bytes!("../../../plugins/script-engine/engine.wasm.gz");

/// Returns the sha256 of the engine's component, in hex.
pub(super) fn engine_sha256() -> &'static str {
    include_str!("../../../plugins/script-engine/engine.wasm.sha256").trim_ascii()
}

/// Returns the engine's component.
pub(super) fn engine() -> Result<Bytes, PluginError> {
    let mut component = Vec::new();
    GzDecoder::new(ENGINE).read_to_end(&mut component)?;
    Ok(component.into())
}

/// Returns a script in the form in which it is stored.
///
/// # Errors
/// The source is empty, too large, or not UTF-8.
pub fn stored(source: &[u8]) -> Result<Bytes, Refusal> {
    let remedy = "upload a module with `export function transform(event) { … }`";
    if source.len() > SCRIPT_BYTES_MAX {
        let what = format!("the script has {} bytes, and a host takes {SCRIPT_BYTES_MAX}", source.len());
        return Err(Refusal::new("too-large", what, "make it smaller"));
    }
    let source =
        std::str::from_utf8(source).map_err(|_| Refusal::new("not-text", "the script is not UTF-8", remedy))?;
    if source.trim().is_empty() {
        return Err(Refusal::new("empty", "the script is empty", remedy));
    }
    Ok(format!("{PREFIX}{}\n{source}", engine_sha256()).into())
}

/// Returns the source of a stored script. None: the bytes are a component.
pub fn source(stored: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(stored.strip_prefix(PREFIX.as_bytes())?).ok()?;
    text.split_once('\n').map(|(_, source)| source)
}

/// Code of the refusal of a script that fails before its function is called.
pub(super) const DOES_NOT_LOAD: &str = "script";

/// Returns the refusal of a script that fails before its function is called.
pub(super) fn refusal(error: &ScriptError) -> Option<Refusal> {
    let remedy = "correct the script; it must load without errors and export a function transform";
    error.before_call.then(|| Refusal::new(DOES_NOT_LOAD, format!("the script does not load: {error}"), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    #[test]
    fn the_engine_is_the_one_that_was_built() {
        assert_eq!(hex::encode(Sha256::digest(engine().expect("a component"))), engine_sha256());
    }

    #[test]
    fn a_stored_script_has_its_source() {
        let kept = stored(b"export const transform = () => pass()").expect("a script");
        assert_eq!(source(&kept), Some("export const transform = () => pass()"));
        assert_eq!(source(b"\0asm\x0d\0\x01\0"), None);
        assert_eq!(stored(b" \n").expect_err("empty").code, "empty");
        assert_eq!(stored(b"\xff").expect_err("no text").code, "not-text");
        assert_eq!(stored(&vec![b' '; SCRIPT_BYTES_MAX + 1]).expect_err("large").code, "too-large");
    }
}
