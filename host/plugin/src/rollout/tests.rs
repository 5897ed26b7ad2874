//! Arms of events, counters, and the end of canaries.

use super::*;
use hookloom_model::clock;

#[test]
fn a_share_is_stable_and_even() {
    let ids: Vec<[u8; 16]> = (0..10_000_u128).map(u128::to_be_bytes).collect();
    let below = ids.iter().filter(|id| share("flatten", *id) < 10.0).count();
    assert!((900..1_100).contains(&below), "{below} of 10,000");
    assert!(ids.iter().all(|id| (0.0..100.0).contains(&share("flatten", id))));
    assert_eq!(share("flatten", &ids[7]).to_bits(), share("flatten", &ids[7]).to_bits());
}

fn canary() -> Rollout {
    let stored = StoredRollout {
        tenant: hookloom_model::subscription::TenantId("t".into()),
        name: "p".into(),
        kind: RolloutKind::Canary,
        sha256: "a".into(),
        percent: 50.0,
        started_at_ms: 0,
        earlier: Vec::new(),
        ended_reason: None,
        counts: String::new(),
        counts_elsewhere: Vec::new(),
    };
    Rollout::new(stored, VersionRef::new("a", "{}"))
}

const FAILED: CountedCall = CountedCall { cpu_us: 100, failed: true };
const JUDGED: CountedCall = CountedCall { cpu_us: 100, failed: false };

fn id(number: u128) -> EventId {
    EventId(uuid::Uuid::from_u128(number))
}

#[test]
fn a_bad_canary_ends_after_ten_events_and_its_retries_are_no_evidence() {
    let rollout = canary();
    for _ in 0..100 {
        rollout.note_canary(id(1), FAILED, Some(JUDGED));
    }
    assert_eq!(rollout.breach(), None, "one event is one event");
    for number in 2..10 {
        rollout.note_canary(id(number), FAILED, Some(JUDGED));
    }
    assert_eq!((rollout.breach(), rollout.figures().canary.faults), (None, 108));
    rollout.note_canary(id(10), FAILED, Some(JUDGED));
    let why = rollout.breach().expect("it is bad");
    assert!(
        why.starts_with("its fault rate is 100.0 %, the active version's 0.0 %; it failed on 10 of 10 events"),
        "{why}"
    );
}

#[test]
fn failures_of_both_versions_are_no_regression() {
    let rollout = canary();
    for number in 0..500 {
        rollout.note_canary(id(number), FAILED, Some(FAILED));
        rollout.note_canary(id(1_000 + number), FAILED, None);
    }
    assert_eq!(rollout.breach(), None);
}

#[test]
fn counts_survive_a_restart() {
    let rollout = canary();
    for number in 0..9 {
        rollout.note_active(id(100 + number), JUDGED);
        rollout.note_canary(id(number), FAILED, Some(JUDGED));
    }
    let stored = StoredRollout { counts: rollout.take_changed().expect("changed"), ..rollout.stored.clone() };
    assert_eq!(rollout.take_changed(), None);
    let again = Rollout::new(stored, rollout.version.clone());
    assert_eq!(serde_json::json!(again.figures()), serde_json::json!(rollout.figures()));
    again.note_canary(id(9), FAILED, Some(JUDGED));
    assert!(again.breach().is_some(), "the tenth event");
    let more = rollout.continued(StoredRollout { percent: 90.0, ..rollout.stored.clone() }, rollout.version.clone());
    more.note_canary(id(9), FAILED, Some(JUDGED));
    assert!(more.breach().is_some(), "another percentage changes nothing of what was seen");
}

#[test]
fn the_first_differences_are_worked_out_and_then_one_in_each_period() {
    let rollout = canary();
    let mut counts = rollout.counts();
    let start = clock::instant();
    let taken = (0..100).filter(|_| counts.takes_difference(start)).count();
    assert_eq!(taken, DIFFERENCES_MAX);
    assert!(counts.takes_difference(start + DIFFERENCE_PERIOD));
    assert!(!counts.takes_difference(start + DIFFERENCE_PERIOD));
}

#[test]
fn the_counts_of_all_hosts_end_a_canary_that_none_of_them_ends_alone() {
    let hosts = [canary(), canary()];
    for (host, rollout) in (0..).zip(&hosts) {
        for number in 0..6 {
            rollout.note_canary(id(100 * host + number), FAILED, Some(JUDGED));
        }
    }
    let [here, there] = hosts;
    assert_eq!((here.breach(), there.breach()), (None, None), "too few events for a decision");
    here.set_elsewhere(&[there.to_store()]);
    let why = here.breach().expect("twelve events are enough");
    assert!(why.contains("it failed on 12 of 12 events"), "{why}");
    assert!(there.breach().is_none(), "it has not looked yet");
    let of_one = serde_json::from_str::<StoredCounters>(&here.to_store()).expect("read");
    assert_eq!(of_one.canary_calls(), 6, "a host stores its own counts");
}

#[test]
fn a_restart_keeps_the_counts_of_each_host_apart() {
    let here = canary();
    let there = canary();
    here.note_canary(id(1), FAILED, Some(JUDGED));
    there.note_canary(id(2), JUDGED, None);
    let stored = StoredRollout {
        counts: here.to_store(),
        counts_elsewhere: vec![there.to_store(), "of an earlier version".into()],
        ..here.stored.clone()
    };
    let again = Rollout::new(stored.clone(), here.version.clone());
    assert_eq!((again.figures().canary.calls, again.to_store()), (2, here.to_store()));
    let ended = RolloutFigures::of_ended(&stored).expect("figures");
    assert_eq!((ended.canary.calls, ended.canary.faults, ended.active.calls), (2, 1, 1));
    let only_elsewhere = StoredRollout { counts: String::new(), ..stored };
    assert_eq!(RolloutFigures::of_ended(&only_elsewhere).expect("figures").canary.calls, 1);
    assert!(RolloutFigures::of_ended(&here.stored).is_none(), "nothing was counted");
}
