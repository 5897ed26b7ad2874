//! Form of the settings of alerts: what it shows, and what was submitted.
//!
//! # Guarantees
//! - A refused form comes back as it was typed, with each fault at its field.

use crate::api::pages::forms::Form;
use crate::operations::{FieldFault, Problem, fault};
use hookloom_model::alerts::{
    AlertSettings, EmailAddress, IntakeSilent, PluginFaulting, QuietHours, ShareFilling, TimeOfDay, WebhookFailing,
    WebhookStopped,
};

/// Form with its values, as they are typed.
pub(super) struct AlertForm {
    pub(super) problem: String,
    /// Name of the field and message of each fault.
    errors: Vec<(String, String)>,
    /// E-mail addresses, one a line.
    pub(super) recipients: String,
    pub(super) webhook_failing: bool,
    pub(super) failed_percent: String,
    pub(super) failed_min: String,
    pub(super) webhook_stopped: bool,
    pub(super) plugin_faulting: bool,
    pub(super) faults_min: String,
    pub(super) share_filling: bool,
    pub(super) percent: String,
    pub(super) after_hours: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) time_zone: String,
    pub(super) except_critical: bool,
}

impl AlertForm {
    /// Returns the form of saved settings.
    pub(super) fn of(settings: &AlertSettings) -> AlertForm {
        let quiet = settings.quiet_hours.as_ref();
        let recipients: Vec<&str> = settings.recipients.iter().map(EmailAddress::as_str).collect();
        AlertForm {
            problem: String::new(),
            errors: Vec::new(),
            recipients: recipients.join("\n"),
            webhook_failing: settings.webhook_failing.on,
            failed_percent: settings.webhook_failing.failed_percent.to_string(),
            failed_min: settings.webhook_failing.failed_min.to_string(),
            webhook_stopped: settings.webhook_stopped.on,
            plugin_faulting: settings.plugin_faulting.on,
            faults_min: settings.plugin_faulting.faults_min.to_string(),
            share_filling: settings.share_filling.on,
            percent: settings.share_filling.percent.to_string(),
            after_hours: settings.intake_silent.after_hours.map(|hours| hours.to_string()).unwrap_or_default(),
            from: quiet.map(|quiet| quiet.from.to_string()).unwrap_or_default(),
            to: quiet.map(|quiet| quiet.to.to_string()).unwrap_or_default(),
            time_zone: quiet.map_or_else(|| "UTC".to_owned(), |quiet| quiet.time_zone.clone()),
            except_critical: quiet.is_none_or(|quiet| quiet.except_critical),
        }
    }

    /// Returns a form that was refused.
    pub(super) fn refused(form: &Form, problem: &Problem) -> AlertForm {
        let errors: Vec<(String, String)> =
            problem.errors.iter().map(|fault| (field_of(&fault.pointer), fault.detail.clone())).collect();
        let typed = |name: &str| form.get(name).to_owned();
        AlertForm {
            problem: if errors.is_empty() { problem.in_words() } else { "Correct the marked fields.".to_owned() },
            errors,
            recipients: typed("recipients"),
            webhook_failing: form.has("webhook_failing"),
            failed_percent: typed("failed_percent"),
            failed_min: typed("failed_min"),
            webhook_stopped: form.has("webhook_stopped"),
            plugin_faulting: form.has("plugin_faulting"),
            faults_min: typed("faults_min"),
            share_filling: form.has("share_filling"),
            percent: typed("percent"),
            after_hours: typed("after_hours"),
            from: typed("from"),
            to: typed("to"),
            time_zone: typed("time_zone"),
            except_critical: form.has("except_critical"),
        }
    }

    /// Returns the message of a field's faults.
    pub(super) fn error(&self, field: &str) -> Option<String> {
        let messages: Vec<&str> =
            self.errors.iter().filter(|(name, _)| name == field).map(|(_, message)| message.as_str()).collect();
        (!messages.is_empty()).then(|| messages.join(" · "))
    }
}

/// Returns the field at which a pointer into the settings leads: its last name.
fn field_of(pointer: &str) -> String {
    let mut names = pointer.split('/').filter(|part| !part.bytes().all(|byte| byte.is_ascii_digit()));
    names.next_back().unwrap_or_default().to_owned()
}

/// Reads settings from a submitted form.
pub(super) fn settings(form: &Form) -> Result<AlertSettings, Problem> {
    let mut faults = Vec::new();
    let settings = AlertSettings {
        recipients: recipients(form, &mut faults),
        webhook_failing: WebhookFailing {
            on: form.has("webhook_failing"),
            failed_percent: number(form, "failed_percent", "/webhook_failing/failed_percent", &mut faults),
            failed_min: number(form, "failed_min", "/webhook_failing/failed_min", &mut faults),
        },
        webhook_stopped: WebhookStopped { on: form.has("webhook_stopped") },
        plugin_faulting: PluginFaulting {
            on: form.has("plugin_faulting"),
            faults_min: number(form, "faults_min", "/plugin_faulting/faults_min", &mut faults),
        },
        share_filling: ShareFilling {
            on: form.has("share_filling"),
            percent: number(form, "percent", "/share_filling/percent", &mut faults),
        },
        intake_silent: IntakeSilent {
            after_hours: form
                .has("after_hours")
                .then(|| number(form, "after_hours", "/intake_silent/after_hours", &mut faults)),
        },
        quiet_hours: quiet_hours(form, &mut faults),
    };
    if faults.is_empty() { Ok(settings) } else { Err(Problem::fields(faults)) }
}

fn recipients(form: &Form, faults: &mut Vec<FieldFault>) -> Vec<EmailAddress> {
    let lines = form.get("recipients").split(['\n', ',', ' ']).map(str::trim).filter(|line| !line.is_empty());
    let mut addresses = Vec::new();
    for (index, line) in lines.enumerate() {
        match EmailAddress::parse(line) {
            Ok(address) => addresses.push(address),
            Err(detail) => faults.push(fault(&format!("/recipients/{index}"), detail)),
        }
    }
    addresses
}

/// Reads a whole number. A rule that is off keeps its thresholds, so that they must be numbers as well.
fn number(form: &Form, field: &str, pointer: &str, faults: &mut Vec<FieldFault>) -> u32 {
    let text = form.get(field);
    text.parse().unwrap_or_else(|_| {
        faults.push(fault(pointer, format!("{text:?} is not a whole number")));
        0
    })
}

/// Reads quiet hours. None: both times are blank, or wrong.
fn quiet_hours(form: &Form, faults: &mut Vec<FieldFault>) -> Option<QuietHours> {
    if !form.has("from") && !form.has("to") {
        return None;
    }
    let [from, to] = ["from", "to"].map(|field| match TimeOfDay::try_from(form.get(field).to_owned()) {
        Ok(time) => Some(time),
        Err(detail) => {
            let missing = "write both times, or none".to_owned();
            let detail = if form.has(field) { detail } else { missing };
            faults.push(fault(&format!("/quiet_hours/{field}"), detail));
            None
        }
    });
    Some(QuietHours {
        from: from?,
        to: to?,
        time_zone: form.get("time_zone").to_owned(),
        except_critical: form.has("except_critical"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "webhook_failing=on&failed_percent=50&failed_min=5&webhook_stopped=on&plugin_faulting=on&\
                         faults_min=3&share_filling=on&percent=80&except_critical=on&time_zone=UTC";

    fn form(more: &str) -> Form {
        Form::urlencoded(format!("{more}&{SAVED}").as_bytes())
    }

    #[test]
    fn the_form_of_settings_gives_the_same_settings() {
        assert_eq!(settings(&form("")).ok(), Some(AlertSettings::default()));
        let all = form("recipients=a%40example.com%0D%0Ab%40example.com&after_hours=6&from=22%3A00&to=07%3A00");
        let read = settings(&all).expect("settings");
        let quiet = read.quiet_hours.as_ref().expect("quiet hours");
        assert_eq!((read.recipients.len(), read.intake_silent.after_hours), (2, Some(6)));
        assert_eq!((quiet.from.to_string(), quiet.except_critical), ("22:00".to_owned(), true));
        let shown = AlertForm::of(&read);
        assert_eq!((&*shown.recipients, &*shown.after_hours), ("a@example.com\nb@example.com", "6"));
        assert_eq!((&*shown.from, &*shown.to, &*shown.time_zone), ("22:00", "07:00", "UTC"));
    }

    #[track_caller]
    fn check(more: &str, expected: &[(&str, &str)]) {
        let typed = form(more);
        let problem = settings(&typed).expect_err("a fault");
        let shown = AlertForm::refused(&typed, &problem);
        let found: Vec<(&str, &str)> =
            shown.errors.iter().map(|(field, message)| (field.as_str(), message.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_fault_stands_at_its_field() {
        check("recipients=ops", &[("recipients", "\"ops\" is not an e-mail address such as ops@example.com")]);
        check("failed_percent=half", &[("failed_percent", "\"half\" is not a whole number")]);
        check("after_hours=-1", &[("after_hours", "\"-1\" is not a whole number")]);
        check("from=22:00", &[("to", "write both times, or none")]);
        check("from=22:00&to=25:00", &[("to", "\"25:00\" is not a time of day from 00:00 to 23:59")]);
    }
}
