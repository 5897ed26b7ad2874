//! Settings of a webhook that its form has in folded parts: those of the REST body that have no part of their own.
//!
//! A test compares the list with the fields of the REST body.

use super::setting_kinds::SettingKind;

/// Part of the form.
pub(super) struct SettingPart {
    pub(super) title: &'static str,
    pub(super) settings: &'static [Setting],
}

/// Setting with its field.
pub(super) struct Setting {
    /// JSON pointer in the REST body.
    pub(super) pointer: &'static str,
    pub(super) label: &'static str,
    pub(super) hint: &'static str,
    pub(super) kind: SettingKind,
}

const fn setting(pointer: &'static str, label: &'static str, kind: SettingKind, hint: &'static str) -> Setting {
    Setting { pointer, label, hint, kind }
}

use SettingKind::{Block, Count, Duration, Durations, Lines, OneOf, Pairs, Text, YesNo};

/// Parts, in the order of the form.
pub(super) const PARTS: [SettingPart; 5] = [
    SettingPart {
        title: "Retries",
        settings: &[
            setting(
                "/retry/schedule_s",
                "Delay before each attempt",
                Durations,
                "One for each attempt, separated by commas, such as 0 s, 5 s, 5 min, 2 h. The first is usually 0 s.",
            ),
            setting(
                "/retry/age_max_s",
                "Given up after",
                Duration,
                "No attempt is made of a delivery that is older. At most 60 d.",
            ),
            setting(
                "/disable_after_s",
                "Webhook disabled after",
                Duration,
                "Time of nothing but failures. At most 90 d; 0 s: never.",
            ),
        ],
    },
    SettingPart {
        title: "Requests",
        settings: &[
            setting("/timeout_ms", "Timeout (ms)", Count, "For a request with its answer: 1,000 to 30,000."),
            setting("/concurrency", "Requests at once", Count, "1 to 256."),
            setting("/rate_per_s", "Requests per second", Count, "1 to 10,000. Blank: no limit."),
            setting(
                "/ordering/on_failure",
                "Order of the events of a contact or deal",
                OneOf(&[
                    ("", "None: events may overtake each other"),
                    ("block", "Strict: later events wait for one that fails"),
                    ("skip-after", "Later events wait for some attempts of one that fails"),
                ]),
                "For events that are accepted from then on.",
            ),
            setting(
                "/ordering/attempts",
                "Attempts that later events wait for",
                Count,
                "1 to 100. Only for the last choice.",
            ),
            setting(
                "/headers",
                "Headers",
                Pairs,
                "Added to every request, one name = value a line. {{secret:NAME}} stands for a secret.",
            ),
            setting(
                "/traceparent",
                "Send traceparent",
                YesNo,
                "W3C Trace Context: the trace is the event, the span the attempt.",
            ),
        ],
    },
    SettingPart {
        title: "Plugin calls",
        settings: &[
            setting(
                "/on_plugin_fault",
                "When the plugin fails",
                OneOf(&[
                    ("hold", "Send nothing: wait for another version or config"),
                    ("pass", "Send the original event"),
                ]),
                "",
            ),
            setting(
                "/reuse/calls",
                "Calls of an instance",
                Count,
                "2 to 100,000. Blank: each call has a fresh instance.",
            ),
            setting(
                "/reuse/idle_s",
                "Instance kept without a call",
                Duration,
                "1 s to 1 h. Only if instances are reused.",
            ),
            setting("/limits/cpu_ms", "CPU time (ms)", Count, ""),
            setting("/limits/wall_ms", "Time (ms)", Count, ""),
            setting("/limits/memory_bytes", "Memory (bytes)", Count, ""),
            setting("/limits/table_elements", "Elements of tables", Count, ""),
            setting("/limits/output_bytes", "Outgoing body (bytes)", Count, ""),
            setting("/limits/headers", "Headers of the plugin", Count, ""),
            setting("/limits/header_bytes", "Their size (bytes)", Count, ""),
            setting("/limits/log_bytes", "Log of a call (bytes)", Count, ""),
            setting("/limits/log_bytes_per_minute", "Logs in a minute (bytes)", Count, ""),
            setting("/limits/host_calls", "Calls into the host", Count, ""),
            setting("/limits/host_call_bytes", "Data of these calls (bytes)", Count, ""),
            setting("/limits/hashed_bytes", "Hashed data (bytes)", Count, ""),
        ],
    },
    SettingPart {
        title: "Way to the receiver",
        settings: &[
            setting(
                "/url_hosts",
                "Other hosts",
                Lines,
                "Hosts to which the plugin may send, besides that of the Notify URL. One a line.",
            ),
            setting(
                "/url_allow_http",
                "The plugin may choose http",
                YesNo,
                "Otherwise only https, if the Notify URL is https.",
            ),
            setting("/transport/proxy", "Forward proxy", Text, "Such as http://proxy.example:3128."),
            setting(
                "/transport/proxy_authorization",
                "Proxy-Authorization",
                Text,
                "Write {{secret:NAME}} for a secret, so that nobody reads it here.",
            ),
            setting(
                "/transport/authorities",
                "Certificate authorities",
                Block,
                "Trusted instead of the system's, as PEM.",
            ),
            setting(
                "/transport/client_certificate",
                "Client certificate",
                Text,
                "Name of the secret with the certificate chain and its private key, as PEM.",
            ),
        ],
    },
    SettingPart { title: "Secrets", settings: &[] },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Module;
    use crate::limits::Limits;
    use crate::retry::RetryPolicy;
    use crate::subscription::{Ordering, Reuse, Settings};
    use serde_json::Value;

    /// Fields with a part of their own in the form.
    const ELSEWHERE: [&str; 8] =
        ["/notify_url", "/modules", "/events", "/filter", "/description", "/plugin", "/config", "/settle"];

    /// Returns the pointers of all fields, and of those of objects with a fixed set of fields.
    fn pointers(settings: &Value) -> Vec<String> {
        let mut found = Vec::new();
        for (name, value) in settings.as_object().expect("an object") {
            let inner = value.as_object().filter(|_| !["config", "headers"].contains(&name.as_str()));
            match inner {
                Some(inner) => found.extend(inner.keys().map(|key| format!("/{name}/{key}"))),
                None => found.push(format!("/{name}")),
            }
        }
        found
    }

    #[test]
    fn every_setting_of_the_rest_body_is_in_the_form() {
        let settings = Settings {
            retry: RetryPolicy::default(),
            limits: Limits::default(),
            reuse: Some(Reuse { calls: 2, idle_s: 60 }),
            ordering: Some(Ordering::SkipAfter { attempts: 2 }),
            ..Settings::new("http://a.example/".into(), vec![Module::Deal])
        };
        let mut expected = pointers(&serde_json::to_value(&settings).expect("JSON"));
        expected.retain(|pointer| !ELSEWHERE.contains(&pointer.as_str()));
        let mut listed: Vec<&str> =
            PARTS.iter().flat_map(|part| part.settings).map(|setting| setting.pointer).collect();
        expected.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, expected);
    }
}
