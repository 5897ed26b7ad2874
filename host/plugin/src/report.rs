//! Reports of the compile child about a component: its parts, its manifest and its first calls, or the reason of a refusal.
//!
//! # Guarantees
//! - Texts and lists that the component's author chooses have maximum lengths.

use super::convert::cut;
use hookloom_model::delivery::Verdict;
use hookloom_model::manifest::Manifest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Prefix of the import with which a component reads the previous event of an entity.
const HISTORY: &str = "hookloom:plugin/history@";

/// Result of the check of a component that passed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Contract for which the component was built.
    pub contract: String,
    /// sha256 of the engine that runs the script. Absent: the version is a component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script_engine: Option<String>,
    /// Imported interfaces.
    pub imports: Vec<String>,
    /// Imported functions of this host: `log`, `config`, `secrets`, `history`. All other imports are linked and empty.
    #[serde(default)]
    pub may_use: Vec<String>,
    /// Number of linear memories. Absent if that depends on imports.
    pub memories: Option<u32>,
    /// Initial size of its memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Size of the compiled code, in bytes.
    pub compiled_bytes: u64,
    /// Duration of the compilation, in milliseconds.
    pub compile_ms: u64,
    /// Result of the probe. Absent: there was no probe.
    #[serde(default)]
    pub probe: Option<Probe>,
    /// Description of the plugin by its author. Absent: the component has none.
    #[serde(default)]
    pub manifest: Option<Manifest>,
    /// Name of the plugin of the host's library as which the version was added. Absent: it was not added from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
}

/// Maximum length of a name or text of a report, in bytes, and maximum number of names. A linked interface may have a version of any
/// length.
const REPORT_TEXT_BYTES_MAX: usize = 200;
const REPORT_NAMES_MAX: usize = 200;

impl Report {
    /// Returns whether the component may read the previous event of an entity.
    pub(super) fn reads_history(&self) -> bool {
        self.imports.iter().any(|name| name.starts_with(HISTORY))
    }

    /// Cuts names and texts to their maximum lengths, because the component's author chooses them.
    pub(super) fn bounded(mut self) -> Self {
        for names in [&mut self.imports, &mut self.may_use] {
            names.truncate(REPORT_NAMES_MAX);
            names.iter_mut().for_each(|name| *name = printable(name, REPORT_TEXT_BYTES_MAX));
        }
        self.contract = printable(&self.contract, REPORT_TEXT_BYTES_MAX);
        self
    }
}

/// Returns the beginning of an untrusted text: at most this many bytes, without control characters.
pub(super) fn printable(text: &str, bytes_max: usize) -> String {
    let printable: String =
        cut(text, bytes_max).chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if text.len() > bytes_max { format!("{printable}…") } else { printable }
}

/// Refusal of a component: the problem and its remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Refusal {
    /// Stable code of the problem.
    pub code: String,
    /// Problem of the component, for its author.
    pub what: String,
    /// Remedy for the problem, for its author.
    pub remedy: String,
}

/// Maximum length of a text of a refusal, in bytes.
const REFUSAL_TEXT_BYTES_MAX: usize = 2_000;

impl Refusal {
    /// Creates a refusal.
    pub fn new(code: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Refusal { code: code.to_owned(), what: what.into(), remedy: remedy.into() }
    }

    /// Cuts texts to their maximum lengths.
    pub(super) fn bounded(&self) -> Self {
        let Refusal { code, what, remedy } = self;
        Refusal {
            code: printable(code, 64),
            what: printable(what, REFUSAL_TEXT_BYTES_MAX),
            remedy: printable(remedy, REFUSAL_TEXT_BYTES_MAX),
        }
    }
}

/// Result of the probe of a version.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ProbeOutcome {
    /// The probe is complete.
    Done(Probe),
    /// A script does not load.
    Refused(Refusal),
    /// A call was not stopped at its limit of CPU time.
    Overrun {
        /// Used CPU time, in milliseconds.
        cpu_ms: u64,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
}

/// Maximum length of the reason in a probe, in bytes.
const REASON_BYTES_MAX: usize = 8 << 10;

/// Findings of the first calls of a version, on a sample event and without config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// Verdict on the sample.
    pub verdict: Verdict,
    /// Reason of the verdict. Absent for `pass` and `replace`.
    pub reason: Option<String>,
    /// Wall time of the first call, in microseconds, including the instance and untouched memory pages.
    pub first_call_us: u64,
    /// Median wall time of later calls, in microseconds, each in a fresh instance.
    pub steady_call_us: u64,
    /// Maximum size of its linear memory, in bytes.
    pub memory_bytes: u64,
    /// Inputs other than the event that change the answer: `time`, `random`, `earlier calls`. Absent: unknown, because the plugin failed
    /// on the sample.
    #[serde(default)]
    pub depends_on: Option<Vec<String>>,
}

impl Probe {
    /// Cuts the reason to its maximum length.
    pub(super) fn bounded(mut self) -> Self {
        self.reason = self.reason.map(|reason| cut(&reason, REASON_BYTES_MAX).to_owned());
        self
    }
}
