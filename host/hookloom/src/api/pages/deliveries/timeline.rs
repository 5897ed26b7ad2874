//! Attempt on the timeline of a delivery.

use crate::api::pages::{DisplayTime, duration, short, size};
use crate::delivery::{Arm, Attempt, AttemptOutcome, JudgedStep, Reason, Timings};

/// Attempt for display.
pub(super) struct AttemptView {
    pub(super) number: u32,
    pub(super) at: DisplayTime,
    pub(super) outcome: AttemptOutcome,
    /// Reason in one line, or the first line of one with several.
    pub(super) reason: String,
    /// Further lines of the reason, such as a backtrace.
    pub(super) fault: String,
    pub(super) status: Option<u16>,
    pub(super) echoed: bool,
    pub(super) timings: String,
    pub(super) generation: u64,
    pub(super) body_sha256: String,
    pub(super) steps: Vec<StepView>,
    pub(super) log: String,
    pub(super) request: String,
    pub(super) response: String,
}

/// Plugin call for display.
pub(super) struct StepView {
    pub(super) plugin: String,
    pub(super) arm: &'static str,
    pub(super) version: String,
    pub(super) verdict: String,
    pub(super) time: String,
    pub(super) memory: String,
}

impl AttemptView {
    pub(super) fn new(attempt: &Attempt) -> Self {
        let reason = attempt.reason.as_ref().map(ToString::to_string).unwrap_or_default();
        let (reason, fault) = reason.split_once('\n').unwrap_or((&reason, ""));
        AttemptView {
            number: attempt.number,
            at: DisplayTime::at_ms(attempt.started_at_ms),
            outcome: attempt.outcome,
            reason: reason.to_owned(),
            fault: fault.to_owned(),
            status: attempt.status,
            echoed: attempt.echoed,
            timings: attempt.timings.map(|timings| parts(&timings, is_tls(attempt))).unwrap_or_default(),
            generation: attempt.config_generation,
            body_sha256: attempt.body_sha256.as_deref().map(short).unwrap_or_default(),
            steps: attempt.steps.iter().map(|one| step(one, attempt.reason.as_ref())).collect(),
            log: attempt.log.join("\n"),
            request: attempt.request.as_ref().map(|lines| lines.join("\n")).unwrap_or_default(),
            response: response(attempt),
        }
    }
}

/// Returns a step. A reason that is the attempt's stands there, and not twice.
fn step(step: &JudgedStep, of_attempt: Option<&Reason>) -> StepView {
    let reason = step.reason.as_ref().filter(|reason| Some(*reason) != of_attempt);
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    StepView {
        plugin: step.plugin.clone(),
        arm: match step.arm {
            Arm::Active => "",
            Arm::Pinned => "pinned",
            Arm::Canary => "canary",
        },
        version: step.sha256.as_deref().map(short).unwrap_or_default(),
        verdict: format!("{}{reason}", step.verdict),
        time: duration(step.cost.wall_us),
        memory: size(step.cost.memory_bytes),
    }
}

/// Returns true if the request went to an `https` URL. Attempts of older hosts have no recorded request.
fn is_tls(attempt: &Attempt) -> bool {
    let line = attempt.request.as_ref().and_then(|lines| lines.first());
    line.is_some_and(|line| line.split(' ').any(|word| word.starts_with("https://")))
}

/// Returns the parts of a POST, in their order.
fn parts(timings: &Timings, is_tls: bool) -> String {
    fn part(name: &str, us: Option<u64>) -> Option<String> {
        us.map(|us| format!("{name} {}", duration(us)))
    }
    let connect = if timings.reused {
        Some("connection used again".to_owned())
    } else {
        part(if is_tls { "connect with TLS" } else { "connect" }, timings.connect_us)
    };
    let all = [
        part("DNS", timings.dns_us),
        connect,
        part("first byte after", timings.first_byte_us),
        part("body", timings.body_us),
        part("total", Some(timings.total_us)),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn response(attempt: &Attempt) -> String {
    let head = attempt.response_headers.as_ref().map(|lines| lines.join("\n")).unwrap_or_default();
    match (head.is_empty(), attempt.response.as_deref()) {
        (_, None) => head,
        (true, Some(body)) => body.to_owned(),
        (false, Some(body)) => format!("{head}\n\n{body}"),
    }
}
