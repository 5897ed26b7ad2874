//! Checks of one subscription: duplicates, order, rate, requests under way, and pauses.

use super::super::records::{Receipt, Records, SentEvent, Subscribed};
use super::{ARRIVES_WITHIN, Violation};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Time by which a request may arrive earlier or later than it began. The rate may be exceeded by the tokens of this time.
const JITTER: Duration = Duration::from_millis(300);

/// Returns the violations of a subscription.
pub(super) fn check(records: &Records, subscription: &Subscribed) -> Vec<Violation> {
    let receipts = records.receipts_of(&subscription.name);
    let mut violations = Vec::new();
    violations.extend(duplicates(records, subscription));
    if subscription.is_ordered {
        violations.extend(order(records, subscription, &receipts));
    }
    violations.extend(subscription.rate_per_s.and_then(|rate| over_rate(subscription, f64::from(rate), &receipts)));
    violations.extend(over_concurrency(subscription, &receipts));
    violations.extend(after_pause(subscription, &receipts));
    violations
}

fn duplicates(records: &Records, subscription: &Subscribed) -> Option<Violation> {
    let begun = records.disruptions.iter().filter(|one| one.at >= subscription.created_at).count();
    let allowed = 2 * subscription.concurrency * begun;
    let count = records.duplicates_of(&subscription.name);
    (count > allowed).then(|| Violation::Duplicates { subscription: subscription.name.clone(), count, allowed })
}

/// Checks the first receipts of each entity's events, of which one was accepted before the next was sent.
fn order(records: &Records, subscription: &Subscribed, receipts: &[&Receipt]) -> Vec<Violation> {
    let mut first: HashMap<u64, &Receipt> = HashMap::new();
    for receipt in receipts {
        first.entry(receipt.number).or_insert(receipt);
    }
    let mut entities: BTreeMap<u64, Vec<(&SentEvent, Duration)>> = BTreeMap::new();
    for sent in &records.sent {
        if let Some((_, accepted_at)) = &sent.accepted {
            entities.entry(sent.entity).or_default().push((sent, *accepted_at));
        }
    }
    let mut violations = Vec::new();
    for events in entities.values_mut() {
        events.sort_by_key(|(_, accepted_at)| *accepted_at);
        for pair in events.windows(2) {
            let [(earlier, accepted_at), (later, _)] = pair else { continue };
            if *accepted_at > later.sent_at || earlier.sent_at < subscription.created_at {
                continue;
            }
            let Some(after) = first.get(&later.number) else { continue };
            let ended = first.get(&earlier.number).and_then(|before| before.ended_at);
            if ended.is_none_or(|ended_at| ended_at > after.begun_at) {
                violations.push(Violation::Order {
                    subscription: subscription.name.clone(),
                    earlier: earlier.number,
                    later: later.number,
                });
            }
        }
    }
    violations
}

/// Empties a bucket that holds the tokens of one second and of the jitter, as the requests arrive.
fn over_rate(subscription: &Subscribed, rate_per_s: f64, receipts: &[&Receipt]) -> Option<Violation> {
    let full = (rate_per_s * (1.0 + JITTER.as_secs_f64())).floor();
    let mut tokens = full;
    let mut filled_at = Duration::ZERO;
    for receipt in receipts {
        let at = receipt.begun_at;
        tokens = ((at - filled_at).as_secs_f64().mul_add(rate_per_s, tokens)).min(full) - 1.0;
        filled_at = at;
        if tokens < -1e-6 {
            return Some(Violation::Rate { subscription: subscription.name.clone(), at });
        }
    }
    None
}

fn over_concurrency(subscription: &Subscribed, receipts: &[&Receipt]) -> Option<Violation> {
    let mut ends: Vec<Duration> = Vec::new();
    for receipt in receipts {
        ends.retain(|ended_at| *ended_at > receipt.begun_at);
        ends.push(receipt.ended_at.unwrap_or(Duration::MAX));
        if ends.len() > subscription.concurrency {
            let at = receipt.begun_at;
            return Some(Violation::InFlight { subscription: subscription.name.clone(), at });
        }
    }
    None
}

fn after_pause(subscription: &Subscribed, receipts: &[&Receipt]) -> Option<Violation> {
    let is_paused =
        |at: Duration| subscription.pauses.iter().any(|(from, to)| (*from + ARRIVES_WITHIN..*to).contains(&at));
    let at = receipts.iter().map(|one| one.begun_at).find(|at| is_paused(*at))?;
    Some(Violation::AfterPause { subscription: subscription.name.clone(), at })
}
