//! Checks the records of a trial against what is promised of a fleet.
//!
//! # Guarantees
//! A pure function: it reads no clock and asks no host. Each [`Violation`] is found, as its tests show by changed records.

mod by_subscription;
#[cfg(test)]
mod tests;

use super::records::{Receipt, Records};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// Maximum time from the answer to a pause until a request that was under way arrives.
const ARRIVES_WITHIN: Duration = Duration::from_millis(500);

/// Difference from what is promised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Violation {
    /// An accepted event has no delivery for a subscription.
    NoDelivery { number: u64, subscription: String },
    /// An event has two deliveries for a subscription.
    TwoDeliveries { event: String, subscription: String },
    /// A delivery has not ended.
    NotEnded { delivery: String },
    /// A delivery is recorded as delivered, and was not received.
    NotReceived { delivery: String },
    /// A request was received for an event that was not sent.
    NeverSent { number: u64 },
    /// An event was accepted as two events.
    AcceptedTwice { number: u64 },
    /// A request was received for a delivery that the hosts do not list for this subscription and event.
    NotListed { webhook_id: String },
    /// A signature does not verify.
    NotVerified { webhook_id: String },
    /// More requests came after their delivery than ends and stops of hosts explain.
    Duplicates { subscription: String, count: usize, allowed: usize },
    /// Two attempts of a delivery were under way at once.
    Overlap { webhook_id: String },
    /// An event was received before an earlier one of its entity had been received.
    Order { subscription: String, earlier: u64, later: u64 },
    /// More requests began than the rate allows.
    Rate { subscription: String, at: Duration },
    /// More requests were under way than the concurrency allows.
    InFlight { subscription: String, at: Duration },
    /// A request was received while the subscription was paused.
    AfterPause { subscription: String, at: Duration },
}

/// Returns every violation of the records.
pub(super) fn check(records: &Records) -> Vec<Violation> {
    let mut violations = accounting(records);
    violations.extend(origins(records));
    violations.extend(overlaps(records));
    for subscription in &records.subscriptions {
        violations.extend(by_subscription::check(records, subscription));
    }
    violations.sort();
    violations
}

/// Compares accepted events, deliveries and receipts.
fn accounting(records: &Records) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut usual: HashMap<(&str, &str), usize> = HashMap::new();
    for delivery in records.deliveries.iter().filter(|one| one.kind == "usual") {
        *usual.entry((&delivery.event, &delivery.subscription)).or_default() += 1;
    }
    for (&(event, subscription), count) in &usual {
        if *count > 1 {
            violations
                .push(Violation::TwoDeliveries { event: event.to_owned(), subscription: subscription.to_owned() });
        }
    }
    for sent in &records.sent {
        let Some((event, _)) = &sent.accepted else { continue };
        // An event of before the subscription has no delivery for it.
        for subscription in records.subscriptions.iter().filter(|one| one.created_at <= sent.sent_at) {
            if !usual.contains_key(&(event.as_str(), subscription.id.as_str())) {
                let subscription = subscription.name.clone();
                violations.push(Violation::NoDelivery { number: sent.number, subscription });
            }
        }
    }
    let received: HashSet<&str> =
        records.receipts.iter().filter(|one| one.is_success()).map(|one| one.webhook_id.as_str()).collect();
    for delivery in &records.deliveries {
        let id = delivery.id.clone();
        match delivery.state.as_str() {
            "delivered" if !received.contains(id.as_str()) => violations.push(Violation::NotReceived { delivery: id }),
            "pending" => violations.push(Violation::NotEnded { delivery: id }),
            _ => {}
        }
    }
    violations
}

/// Checks that each receipt is of a sent event and of a listed delivery.
fn origins(records: &Records) -> Vec<Violation> {
    let mut violations = Vec::new();
    let sent: HashMap<u64, Option<&str>> =
        records.sent.iter().map(|one| (one.number, one.accepted.as_ref().map(|(event, _)| event.as_str()))).collect();
    let ids: HashMap<&str, &str> =
        records.subscriptions.iter().map(|one| (one.name.as_str(), one.id.as_str())).collect();
    let listed: HashSet<(&str, &str, &str)> =
        records.deliveries.iter().map(|one| (one.id.as_str(), one.event.as_str(), one.subscription.as_str())).collect();
    let mut events: BTreeMap<u64, HashSet<&str>> = BTreeMap::new();
    for receipt in &records.receipts {
        let Some(accepted) = sent.get(&receipt.number) else {
            violations.push(Violation::NeverSent { number: receipt.number });
            continue;
        };
        events.entry(receipt.number).or_default().extend(accepted.iter().copied().chain([receipt.event.as_str()]));
        let subscription = ids.get(receipt.subscription.as_str()).copied().unwrap_or_default();
        let webhook_id = &receipt.webhook_id;
        if !listed.contains(&(webhook_id.as_str(), receipt.event.as_str(), subscription)) {
            violations.push(Violation::NotListed { webhook_id: webhook_id.clone() });
        }
        if !receipt.is_verified {
            violations.push(Violation::NotVerified { webhook_id: webhook_id.clone() });
        }
    }
    let twice = events.iter().filter(|(_, events)| events.len() > 1);
    violations.extend(twice.map(|(number, _)| Violation::AcceptedTwice { number: *number }));
    violations
}

/// Finds attempts of one delivery that were under way at once, except where a host ended or stood still between their beginnings: the
/// other host could not know of the first one.
fn overlaps(records: &Records) -> Vec<Violation> {
    let mut attempts: HashMap<&str, Vec<&Receipt>> = HashMap::new();
    for receipt in &records.receipts {
        attempts.entry(&receipt.webhook_id).or_default().push(receipt);
    }
    let mut violations = Vec::new();
    for (webhook_id, mut attempts) in attempts {
        attempts.sort_by_key(|one| one.begun_at);
        let overlap = attempts.windows(2).any(|pair| {
            let under_way = pair[0].ended_at.is_none_or(|ended_at| ended_at > pair[1].begun_at);
            let is_disrupted = |at: Duration| pair[0].begun_at <= at && at <= pair[1].begun_at;
            under_way && !records.disruptions.iter().any(|one| is_disrupted(one.at))
        });
        if overlap {
            violations.push(Violation::Overlap { webhook_id: webhook_id.to_owned() });
        }
    }
    violations
}
