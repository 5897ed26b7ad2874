//! Tests that the checker finds each violation: records without one are changed, and exactly the expected violation is found.

use super::super::records::{Disruption, ListedDelivery, Receipt, Records, SentEvent, Subscribed};
use super::{Violation, check};
use std::time::Duration;

const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Returns the records of six events of two entities, which were sent every 300 ms and delivered 10 ms later.
fn good() -> Records {
    let mut records = Records {
        subscriptions: vec![Subscribed {
            name: "orders".to_owned(),
            id: "s".to_owned(),
            created_at: at(0),
            concurrency: 2,
            is_ordered: true,
            rate_per_s: Some(4),
            pauses: vec![(at(5_000), at(8_000))],
        }],
        ..Records::default()
    };
    for number in 0..6 {
        let sent_at = at(1_000 + 300 * number);
        let event = format!("e{number}");
        records.sent.push(SentEvent {
            number,
            entity: number % 2,
            sent_at,
            accepted: Some((event.clone(), sent_at + at(5))),
            unknown: 0,
            refused: 0,
        });
        records.receipts.push(Receipt {
            subscription: "orders".to_owned(),
            webhook_id: format!("d{number}"),
            event: event.clone(),
            number,
            is_verified: true,
            begun_at: sent_at + at(10),
            ended_at: Some(sent_at + at(20)),
            status: Some(200),
        });
        records.deliveries.push(ListedDelivery {
            id: format!("d{number}"),
            event,
            subscription: "s".to_owned(),
            kind: "usual".to_owned(),
            state: "delivered".to_owned(),
        });
    }
    records
}

#[track_caller]
fn finds(change: impl FnOnce(&mut Records), expected: &[Violation]) {
    let mut records = good();
    change(&mut records);
    assert_eq!(check(&records), expected);
}

/// Repeats a receipt at another time, for 10 ms.
fn repeat(records: &mut Records, number: usize, begun_at: Duration) {
    let mut again = records.receipts[number].clone();
    again.begun_at = begun_at;
    again.ended_at = Some(begun_at + at(10));
    records.receipts.push(again);
}

fn orders() -> String {
    "orders".to_owned()
}

#[test]
fn records_without_a_violation_pass() {
    finds(|_| {}, &[]);
}

#[test]
fn an_accepted_event_without_a_delivery_is_found() {
    fn lost(records: &mut Records) {
        records.deliveries.remove(5);
        records.receipts.remove(5);
    }
    finds(lost, &[Violation::NoDelivery { number: 5, subscription: orders() }]);
    fn not_accepted(records: &mut Records) {
        lost(records);
        records.sent[5].accepted = None;
    }
    finds(not_accepted, &[]);
    fn subscribed_later(records: &mut Records) {
        lost(records);
        records.subscriptions[0].created_at = at(60_000);
    }
    finds(subscribed_later, &[]);
}

#[test]
fn a_delivery_that_was_not_received_is_found() {
    let expected = [Violation::NotReceived { delivery: "d5".to_owned() }];
    finds(|records| drop(records.receipts.pop()), &expected);
    finds(|records| records.receipts[5].status = None, &expected);
    finds(|records| records.receipts[5].status = Some(500), &expected);
    fn cancelled(records: &mut Records) {
        records.receipts.pop();
        records.deliveries[5].state = "cancelled".to_owned();
    }
    finds(cancelled, &[]);
}

#[test]
fn a_delivery_that_has_not_ended_is_found() {
    fn pending(records: &mut Records) {
        records.deliveries[5].state = "pending".to_owned();
    }
    finds(pending, &[Violation::NotEnded { delivery: "d5".to_owned() }]);
}

#[test]
fn a_second_delivery_of_an_event_is_found() {
    fn twice(records: &mut Records) {
        let mut second = records.deliveries[5].clone();
        second.id = "other".to_owned();
        second.state = "cancelled".to_owned();
        records.deliveries.push(second);
    }
    finds(twice, &[Violation::TwoDeliveries { event: "e5".to_owned(), subscription: "s".to_owned() }]);
    fn replayed(records: &mut Records) {
        twice(records);
        records.deliveries[6].kind = "replay".to_owned();
    }
    finds(replayed, &[]);
}

#[test]
fn requests_without_an_origin_are_found() {
    finds(|records| drop(records.sent.pop()), &[Violation::NeverSent { number: 5 }]);
    fn other_event(records: &mut Records) {
        records.receipts[5].event = "e9".to_owned();
        records.deliveries[5].event = "e9".to_owned();
    }
    let expected =
        [Violation::NoDelivery { number: 5, subscription: orders() }, Violation::AcceptedTwice { number: 5 }];
    finds(other_event, &expected);
    fn of_another(records: &mut Records) {
        records.deliveries[5].subscription = "t".to_owned();
    }
    let not_listed = Violation::NotListed { webhook_id: "d5".to_owned() };
    finds(of_another, &[Violation::NoDelivery { number: 5, subscription: orders() }, not_listed]);
    fn forged(records: &mut Records) {
        records.receipts[5].is_verified = false;
    }
    finds(forged, &[Violation::NotVerified { webhook_id: "d5".to_owned() }]);
}

#[test]
fn duplicates_are_allowed_for_disruptions_only() {
    fn once(records: &mut Records) {
        repeat(records, 5, at(3_500));
    }
    finds(once, &[Violation::Duplicates { subscription: orders(), count: 1, allowed: 0 }]);
    fn disrupted(records: &mut Records) {
        records.disruptions.push(Disruption { at: at(3_000) });
        (0..4).for_each(|number| repeat(records, 5, at(3_500 + 300 * number)));
    }
    finds(disrupted, &[]);
    fn more(records: &mut Records) {
        disrupted(records);
        repeat(records, 4, at(9_000));
    }
    finds(more, &[Violation::Duplicates { subscription: orders(), count: 5, allowed: 4 }]);
    fn refused(records: &mut Records) {
        once(records);
        records.receipts[5].status = Some(503);
    }
    finds(refused, &[]);
}

#[test]
fn attempts_of_a_delivery_at_once_are_found() {
    fn overlapping(records: &mut Records) {
        records.receipts[5].ended_at = Some(at(3_700));
        repeat(records, 5, at(3_600));
        records.receipts[5].status = Some(503);
    }
    finds(overlapping, &[Violation::Overlap { webhook_id: "d5".to_owned() }]);
    fn disrupted(records: &mut Records) {
        overlapping(records);
        records.disruptions.push(Disruption { at: at(3_550) });
    }
    finds(disrupted, &[]);
}

#[test]
fn a_changed_order_is_found() {
    let expected = [Violation::Order { subscription: orders(), earlier: 3, later: 5 }];
    fn early(records: &mut Records) {
        records.receipts[3].ended_at = Some(at(2_515));
    }
    finds(early, &expected);
    fn skipped(records: &mut Records) {
        records.receipts[3].begun_at = at(3_400);
    }
    finds(
        |records| {
            skipped(records);
            records.receipts[3].ended_at = Some(at(3_410));
        },
        &expected,
    );
    fn sent_at_once(records: &mut Records) {
        early(records);
        records.sent[5].sent_at = at(1_900);
    }
    finds(sent_at_once, &[]);
    fn unordered(records: &mut Records) {
        early(records);
        records.subscriptions[0].is_ordered = false;
    }
    finds(unordered, &[]);
}

#[test]
fn a_rate_that_is_exceeded_is_found() {
    fn burst(records: &mut Records) {
        records.subscriptions[0].is_ordered = false;
        records.subscriptions[0].rate_per_s = Some(1);
    }
    finds(burst, &[Violation::Rate { subscription: orders(), at: at(1_310) }]);
    fn full_bucket(records: &mut Records) {
        records.subscriptions[0].is_ordered = false;
        records.subscriptions[0].rate_per_s = Some(5);
        for (place, receipt) in (0..).zip(&mut records.receipts) {
            receipt.begun_at = at(3_000 + 20 * place);
            receipt.ended_at = Some(at(3_010 + 20 * place));
        }
    }
    finds(full_bucket, &[]);
}

#[test]
fn more_requests_under_way_than_allowed_are_found() {
    fn slow(records: &mut Records) {
        records.subscriptions[0].is_ordered = false;
        records.receipts[3].ended_at = Some(at(2_600));
        records.receipts[4].ended_at = Some(at(2_600));
    }
    finds(slow, &[Violation::InFlight { subscription: orders(), at: at(2_510) }]);
    fn endless(records: &mut Records) {
        records.subscriptions[0].is_ordered = false;
        records.receipts[3].ended_at = None;
    }
    finds(endless, &[]);
}

#[test]
fn requests_after_a_pause_are_found() {
    fn late(ms: u64) -> impl FnOnce(&mut Records) {
        move |records| records.receipts[5].begun_at = at(ms)
    }
    finds(late(6_000), &[Violation::AfterPause { subscription: orders(), at: at(6_000) }]);
    finds(late(5_400), &[]);
    finds(late(8_000), &[]);
}
