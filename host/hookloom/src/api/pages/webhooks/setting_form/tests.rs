//! Tests of the folded parts of a webhook's form.

use super::*;
use crate::event::Module;
use crate::limits::Limits;
use crate::retry::RetryPolicy;

use crate::subscription::{Ordering, Reuse, Transport};

fn some() -> Settings {
    Settings {
        retry: RetryPolicy { schedule_s: vec![0, 60], age_max_s: 3_600 },
        limits: Limits { cpu_ms: 70, ..Limits::default() },
        reuse: Some(Reuse { calls: 9, idle_s: 5 }),
        ordering: Some(Ordering::SkipAfter { attempts: 3 }),
        rate_per_s: Some(20),
        headers: [("x-team".to_owned(), "sales".to_owned())].into(),
        url_hosts: vec!["b.example".to_owned()],
        transport: Transport { proxy: Some("http://p.example:3128".to_owned()), ..Transport::default() },
        traceparent: true,
        disable_after_s: 0,
        ..Settings::new("http://a.example/".into(), vec![Module::Deal])
    }
}

/// Returns the form that a browser submits for the parts of these settings.
fn submitted(settings: &Settings) -> Form {
    let parts = parts_of(settings);
    let fields = parts.iter().flat_map(|part| &part.fields);
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    fields.for_each(|field| {
        body.append_pair(&field.name, &field.value);
    });
    Form::urlencoded(body.finish().as_bytes())
}

#[test]
fn a_form_that_is_saved_as_it_was_drawn_changes_nothing() {
    for settings in [some(), Settings::new("http://a.example/".into(), vec![Module::Deal])] {
        let saved = changed(&submitted(&settings), settings.clone()).expect("settings");
        assert_eq!(saved, settings);
    }
}

#[test]
fn blank_fields_are_defaults_and_absent_ones_stay() {
    let plain = Settings::new("http://a.example/".into(), vec![Module::Deal]);
    let saved = changed(&submitted(&plain), some()).expect("settings");
    assert_eq!(saved, plain);
    assert_eq!(changed(&Form::default(), some()).expect("settings"), some());
    assert_eq!(parts_of(&plain).iter().map(|part| part.changed).sum::<usize>(), 0);
    assert_eq!(parts_of(&some()).iter().map(|part| part.changed).sum::<usize>(), 13);
}

#[test]
fn faults_stand_at_their_fields() {
    #[track_caller]
    fn check(faults: &[(&str, &str)], expected: &[&str]) {
        let faults = faults
            .iter()
            .map(|(pointer, detail)| FieldFault { pointer: (*pointer).to_owned(), detail: (*detail).to_owned() });
        let problem = Problem::fields(faults.collect());
        let parts = parts_again(&Form::default(), None, Some(&problem));
        let found = parts.iter().flat_map(|part| &part.fields).filter(|field| field.error.is_some());
        assert_eq!(found.map(|field| field.name.as_str()).collect::<Vec<_>>(), expected);
        assert_eq!(parts.iter().any(|part| part.is_open), !expected.is_empty());
    }
    check(&[("/timeout_ms", "a deadline is 1000 to 30000 ms")], &["set.timeout_ms"]);
    check(&[("/headers/X-A", "the name occurs twice")], &["set.headers"]);
    check(&[("/retry", "schedule_s is empty")], &["set.retry.schedule_s"]);
    check(&[("/limits", "limits.log_bytes is 9, but at most 3 is allowed")], &["set.limits.log_bytes"]);
    check(&[("/transport/proxy", "no host")], &["set.transport.proxy"]);
    check(&[("/plugin", "there is no plugin")], &[]);
    let form = Form::urlencoded(b"set.timeout_ms=soon&set.ordering.on_failure=skip-after&set.ordering.attempts=");
    let problem = changed(&form, some()).expect_err("two faults");
    let pointers: Vec<&str> = problem.errors.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(pointers, ["/timeout_ms", "/ordering/attempts"]);
}

#[test]
fn secrets_are_set_and_deleted_and_never_told() {
    let form = Form::urlencoded(b"secrets=TOKEN+%3D+abc%0APEM+%3D+a%5Cnb&forget_secrets=OLD&signing_secret=");
    let changes = secrets_in(&form).expect("secrets");
    let expected = [("OLD", None), ("PEM", Some("a\nb")), ("TOKEN", Some("abc"))];
    let values = changes.values.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
    assert_eq!(values.collect::<Vec<_>>(), expected);
    assert_eq!(changes.signing_secret, None);
    let broken = secrets_in(&Form::urlencoded(b"secrets=hunter2")).err().expect("a fault");
    assert!(!broken.in_words().contains("hunter2"), "{}", broken.in_words());
}
