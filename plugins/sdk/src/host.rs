//! Functions of the host: log, config, secrets, history. Outside of a component, the sdk simulates the host (see
//! [`testing`](crate::testing)).

/// Write to the log of the attempt. A line is cut at 1 KiB, and a call can log 16 KiB.
pub mod log {
    /// Writes a detail for the plugin's author to the log.
    pub fn debug(message: impl AsRef<str>) {
        super::write("debug", message.as_ref());
    }

    /// Writes information to the log.
    pub fn info(message: impl AsRef<str>) {
        super::write("info", message.as_ref());
    }

    /// Writes a warning to the log.
    pub fn warn(message: impl AsRef<str>) {
        super::write("warn", message.as_ref());
    }

    /// Writes an error to the log.
    pub fn error(message: impl AsRef<str>) {
        super::write("error", message.as_ref());
    }
}

/// Read the subscription's config: a map of texts that its owner wrote.
pub mod config {
    use crate::Failure;
    use std::str::FromStr;

    /// Returns the value of a key, trimmed. None if there is none or it is blank.
    pub fn get(key: &str) -> Option<String> {
        super::config_value(key).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Returns all keys and values, ordered by key.
    pub fn entries() -> Vec<(String, String)> {
        super::config_entries()
    }

    /// Returns the value of a key as another type. None if there is none.
    ///
    /// # Errors
    /// [`Failure::BadConfig`] that names the key and the value, if the value cannot be parsed.
    pub fn parse<T: FromStr>(key: &str) -> Result<Option<T>, Failure> {
        let Some(value) = get(key) else { return Ok(None) };
        let unfit = |_| Failure::bad_config("unfit-value", format!("config {key:?} is {value:?}, which does not fit"));
        value.parse().map(Some).map_err(unfit)
    }

    /// Returns the value of a key as a list: divided by commas or line ends, each item trimmed. Empty if there is none.
    pub fn list(key: &str) -> Vec<String> {
        let value = get(key).unwrap_or_default();
        value.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

/// Use the subscription's secrets without reading them.
pub mod secrets {
    use crate::Failure;

    /// Returns the HMAC-SHA256 of `data` with the named secret: 32 bytes.
    ///
    /// # Errors
    /// [`Failure::BadConfig`] if the subscription has no secret of this name or does not grant it.
    pub fn hmac_sha256(name: &str, data: &[u8]) -> Result<Vec<u8>, Failure> {
        super::hmac(name, data).ok_or_else(|| {
            Failure::bad_config("no-secret", format!("the subscription has no secret {name:?} for its plugin"))
        })
    }
}

/// Read earlier events.
pub mod history {
    use crate::Event;

    /// Returns the previous event of the same contact or deal, with the whole entity at that time. Every attempt gets the same
    /// event. None: there is none, the host has pruned it, or the event has no id.
    pub fn previous() -> Option<Event> {
        super::previous()
    }
}

#[cfg(target_family = "wasm")]
mod inside {
    use crate::Event;
    use crate::bindings::hookloom::plugin::{config, history, log, secrets};

    pub(super) fn previous() -> Option<Event> {
        history::previous().map(crate::bindings::event)
    }

    pub(super) fn write(level: &str, message: &str) {
        let level = match level {
            "debug" => log::Level::Debug,
            "info" => log::Level::Info,
            "warn" => log::Level::Warn,
            _ => log::Level::Error,
        };
        log::write(level, message);
    }

    pub(super) fn config_value(key: &str) -> Option<String> {
        config::get(key)
    }

    pub(super) fn config_entries() -> Vec<(String, String)> {
        config::entries()
    }

    pub(super) fn hmac(name: &str, data: &[u8]) -> Option<Vec<u8>> {
        secrets::hmac_sha256(name, data).ok()
    }
}

#[cfg(target_family = "wasm")]
use inside::{config_entries, config_value, hmac, previous, write};

#[cfg(not(target_family = "wasm"))]
use crate::testing::{config_entries, config_value, hmac, previous, write};
