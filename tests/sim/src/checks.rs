//! Guarantees of the host, as the world can see them.

use crate::world::{Ended, LaneTerm, Seen, UnderWay, World, WorldState, short};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::{AttemptOutcome, DeliveryId, DeliveryKind, DeliveryState};
use hookloom_model::subscription::{Ordering, Subscription, SubscriptionId, SubscriptionState, TenantId};
use hookloom_store::Ledger;
use hookloom_store::memory::{MemberView, StoredView};
use std::collections::HashMap;
use std::time::Duration;

/// Number of failures in a row after which the circuit breaker is open, and the time for which it is at least.
pub(crate) const FAILURES_MAX: u32 = 10;
pub(crate) const OPEN_MIN: Duration = Duration::from_secs(5);

/// Time in which the request of an attempt begins that was admitted: its event is read, and its plugin judges.
const UNDER_WAY_MAX: Duration = Duration::from_millis(200);

/// Time after an answer that asks for a pause in which a request may still begin.
const ANSWER_HEARD: Duration = Duration::from_millis(1);

/// Time after a change by an operator or of the wall clock in which due times may lag behind it.
const CLOCK_SETTLES: Duration = Duration::from_secs(10);

/// Part of a lease at its end in which a host begins no request, less what the clocks of two hosts differ by in a simulation.
const LEASE_LEFT_MIN: Duration = Duration::from_millis(980);

/// Largest share that jitter adds to a delay of the schedule.
const JITTER: f64 = 0.1;

/// Checks a request that begins, and records it. `member`: the registration of the host, in a fleet.
pub(crate) fn request_begins(
    world: &World,
    subscription: &Subscription,
    seen: &Seen,
    (term, ends_at): (LaneTerm, Duration),
    member: Option<Option<MemberView>>,
) {
    let Seen { delivery, receiver } = *seen;
    let stored = world.disk.delivery(&subscription.tenant, delivery);
    let at_host = if member.is_some() { format!(" from host {}", term.host) } else { String::new() };
    world.note(format!("r{receiver} gets {} of {}{at_host}", short(delivery), short(subscription.id)));
    if let Some(what) = member.and_then(|member| as_owner(world, term.host, member.as_ref(), subscription.id)) {
        world.violate(format!("{what} (delivery {} of {})", short(delivery), short(subscription.id)));
    }
    let now = world.clock.passed();
    let is_active = world.disk.subscription_state(subscription.id) == Some(SubscriptionState::Active);
    let found = world.with(|state| {
        if state.lane_terms.insert(subscription.id, term).is_some_and(|before| before != term) {
            state.failures.remove(&subscription.id);
            state.rests.remove(&subscription.id);
        }
        let under_way = state.in_flight.entry(subscription.id).or_default();
        if member.is_some() {
            under_way.retain(|one| one.ends_at > now);
        }
        // A receiver may still process what a host has sent that was taken over since then. An order waits for it.
        let is_repeatable =
            |one: &UnderWay| one.member.is_some_and(|member| world.disk.is_fenced(&member)) && one.host != term.host;
        let is_ordered = subscription.settings.ordering.is_some();
        let overlaps = under_way.iter().any(|one| one.delivery == delivery && (is_ordered || !is_repeatable(one)));
        under_way.push(UnderWay { delivery, host: term.host, member: member.flatten(), ends_at });
        let many = under_way.iter().filter(|one| !is_repeatable(one)).count();
        let most = state.concurrency.get(&subscription.id).copied().unwrap_or(u32::MAX);
        if overlaps {
            return Some("two attempts of one delivery are under way".to_owned());
        }
        *state.requests_of.entry(delivery).or_default() += 1;
        if state.stopped.contains(&subscription.id) && !is_active {
            return Some("a request begins after the pause, disabling or deletion was answered".to_owned());
        }
        if many > most as usize {
            return Some(format!("{many} requests are under way, and concurrency is {most}"));
        }
        pauses(state, subscription, receiver, now).or_else(|| rate(state, subscription, now))
    });
    let found = found.or_else(|| match &stored {
        None => Some("a delivery is attempted that is not stored".to_owned()),
        Some(stored) => of_stored(world, subscription, seen, stored, now),
    });
    if let Some(what) = found {
        world.violate(format!("{what} (delivery {} of {})", short(delivery), short(subscription.id)));
    }
}

/// Checks that a host may begin an attempt: it owns the subscription, and has a lease.
fn as_owner(world: &World, host: u64, member: Option<&MemberView>, id: SubscriptionId) -> Option<String> {
    let Some(member) = member else { return Some("a request begins at a host that was taken over".to_owned()) };
    if member.lease_left < LEASE_LEFT_MIN {
        return Some(format!("a request begins {} ms before the end of the lease", member.lease_left.as_millis()));
    }
    (!world.disk.owns(host, id)).then(|| "a request begins at a host that does not own the subscription".to_owned())
}

/// Checks the pauses of a lane: while its circuit breaker is open, and when the receiver asked for one.
fn pauses(state: &WorldState, subscription: &Subscription, receiver: usize, now: Duration) -> Option<String> {
    let broken = state.failures.get(&subscription.id).copied().unwrap_or_default();
    // The breaker also counts refusals that throttle, so it may have opened up to a deadline earlier.
    let is_open = (broken.at + UNDER_WAY_MAX..broken.at + OPEN_MIN / 2).contains(&now);
    if broken.count >= FAILURES_MAX && is_open && broken.receiver == receiver {
        return Some(format!("a request begins {} ms after {} failures", (now - broken.at).as_millis(), broken.count));
    }
    let rests = state.rests.get(&subscription.id);
    let asked = rests.filter(|rest| rest.receiver == receiver);
    if asked.is_some_and(|rest| (rest.from + ANSWER_HEARD..rest.to).contains(&now)) {
        return Some("a request begins in the pause that the receiver asked for".to_owned());
    }
    None
}

/// Checks `rate_per_s`: a bucket that holds the tokens of one second. It counts attempts when they begin, and requests of attempts whose
/// event or plugin took long may come together, as many as the subscription's concurrency.
fn rate(state: &mut WorldState, subscription: &Subscription, now: Duration) -> Option<String> {
    let began = state.began.entry(subscription.id).or_default();
    let rate = subscription.settings.rate_per_s?;
    began.retain(|at| now.saturating_sub(*at) <= Duration::from_secs(1));
    began.push(now);
    let most = 2 * rate as usize + 1 + subscription.settings.concurrency as usize;
    (began.len() > most).then(|| format!("{} requests began in a second, and rate_per_s is {rate}", began.len()))
}

/// Checks an attempt against the stored delivery: state, due time, schedule and order.
fn of_stored(
    world: &World,
    subscription: &Subscription,
    seen: &Seen,
    stored: &StoredView,
    now: Duration,
) -> Option<String> {
    // A delivery that was claimed before the clock was set back may wait in its lane for long.
    let was_set = world.with(|state| state.clock_set.is_some());
    if stored.state == DeliveryState::Delivered {
        return Some("a delivery is attempted that is delivered".to_owned());
    }
    if stored.state == DeliveryState::Superseded || stored.is_settling {
        return Some("a delivery is attempted that is superseded, or may be".to_owned());
    }
    if let Some(what) = schedule(world, subscription, seen, stored, now) {
        return Some(what);
    }
    // An operator may have ended it while its request was prepared; the store keeps its state then.
    if stored.state == DeliveryState::Pending && stored.due_at_ms > now_ms() + world.clocks_differ_ms && !was_set {
        return Some(format!("the delivery is due in {} ms", stored.due_at_ms - now_ms()));
    }
    order(world, subscription, seen, stored)
}

/// Checks the number of attempts and the delay since the last one.
fn schedule(
    world: &World,
    subscription: &Subscription,
    seen: &Seen,
    stored: &StoredView,
    now: Duration,
) -> Option<String> {
    let (ended, touched, set, is_disordered) = world.with(|state| {
        let touched = state.touched.get(&subscription.id).copied();
        let is_disordered = state.disordered.contains(&subscription.id);
        (state.ended.get(&seen.delivery).copied(), touched, state.clock_set, is_disordered)
    });
    let schedule = &subscription.settings.retry.schedule_s;
    let is_untouched = |ended: Ended| [touched, set].into_iter().flatten().all(|at| at + CLOCK_SETTLES < ended.at);
    if !is_disordered || ended.is_some_and(is_untouched) {
        let beyond = beyond_schedule(stored, schedule.len());
        if beyond.is_some() {
            return beyond;
        }
    }
    let ended = ended.filter(|ended| is_untouched(*ended) && stored.kind == DeliveryKind::Usual)?;
    let seen_before = world.with(|state| state.requests_of.get(&seen.delivery).copied().unwrap_or_default()) - 1;
    let has_plugin = !subscription.settings.plugin.0.is_empty();
    if !has_plugin && touched.is_none() && stored.attempts_in_budget > seen_before {
        let counted = stored.attempts_in_budget;
        return Some(format!("{counted} attempts were counted, and {seen_before} requests were seen"));
    }
    let is_next = stored.attempts_in_budget == ended.in_budget + 1;
    let wait = Duration::from_secs(*schedule.get(stored.attempts_in_budget as usize)?);
    if !is_next || !ended.is_scheduled {
        return None;
    }
    if now < ended.at + wait {
        return Some(format!("an attempt begins {} ms early", (ended.at + wait - now).as_millis()));
    }
    let due = ended.at + wait.mul_f64(1.0 + JITTER) + CLOCK_SETTLES;
    let due_ms = crate::clock::BEGUN_MS + i64::try_from(due.as_millis()).unwrap_or(i64::MAX);
    // A plugin may postpone a delivery.
    let is_late = set.is_none() && !has_plugin && stored.due_at_ms > due_ms;
    is_late.then(|| format!("an attempt was due {} ms late", stored.due_at_ms - due_ms))
}

/// Checks that the schedule has an entry for the next attempt. Only a fault of a plugin is followed by an attempt without one: when another
/// version or config comes for which the delivery has waited.
fn beyond_schedule(stored: &StoredView, entries: usize) -> Option<String> {
    let is_within = (stored.attempts_in_budget as usize) < entries;
    let has_waited = stored.last_outcome == Some(AttemptOutcome::PluginFault);
    (!is_within && !has_waited).then(|| format!("attempt {} of a schedule of {entries}", stored.attempts_in_budget + 1))
}

/// Checks that no earlier delivery of the same entity blocks this one.
fn order(world: &World, subscription: &Subscription, seen: &Seen, stored: &StoredView) -> Option<String> {
    let blocks_below = match subscription.settings.ordering? {
        Ordering::Block => u32::MAX,
        Ordering::SkipAfter { attempts } => attempts,
    };
    if stored.kind != DeliveryKind::Usual || world.with(|state| state.disordered.contains(&subscription.id)) {
        return None;
    }
    let earlier = world.disk.earlier_pending(&subscription.tenant, seen.delivery);
    let blocking = earlier.into_iter().find(|(_, attempts)| *attempts < blocks_below)?;
    Some(format!("the earlier delivery {} of the same entity has not ended", short(blocking.0)))
}

/// Checks the conservation law of a tenant.
pub(crate) fn law(world: &World, tenant: &TenantId) {
    let Some(ledger) = world.disk.ledger(tenant) else { return };
    let Ledger { fan_out, replayed, tests, delivered, dropped, dead, cancelled, superseded, pending, pruned, .. } =
        ledger;
    let promised = fan_out + replayed + tests;
    let pruned = pruned.delivered + pruned.dropped + pruned.dead + pruned.cancelled + pruned.superseded;
    let found = delivered + dropped + dead + cancelled + superseded + pending + pruned;
    if promised != found {
        world.violate(format!("{promised} deliveries were promised to {tenant}, and {found} are there: {ledger:?}"));
    }
}

/// Checks the end of a simulation, when nothing is left to wait for: each promise was kept.
pub(crate) fn at_the_end(world: &World, tenants: &[TenantId]) {
    for tenant in tenants {
        law(world, tenant);
        bursts(world, tenant);
        for stored in world.disk.deliveries(tenant) {
            let taken = world.with(|state| state.taken.contains(&stored.id));
            if stored.state == DeliveryState::Delivered && !taken {
                world.violate(format!("{} is delivered, and no receiver has taken it", short(stored.id)));
            }
            if stored.state == DeliveryState::Pending && !stored.awaiting_plugin {
                world.violate(format!("{} of {} never ended", short(stored.id), short(stored.subscription)));
            }
            let (stopped, was_set) =
                world.with(|state| (state.ended_at_ms.get(&stored.subscription).copied(), state.clock_set.is_some()));
            let is_late = stopped.is_some_and(|at_ms| stored.id.made_at_ms() > at_ms + world.clocks_differ_ms)
                && world.disk.subscription_state(stored.subscription) != Some(SubscriptionState::Active);
            if is_late && stored.kind == DeliveryKind::Usual && !was_set {
                world.violate(format!("{} was made for a subscription that had been disabled", short(stored.id)));
            }
        }
    }
    for promise in world.with(|state| state.promises.clone()) {
        let made = world.disk.deliveries_of(&promise.tenant, promise.event);
        if made.is_some_and(|made| made != promise.deliveries) {
            world.violate(format!(
                "the event {} has {made:?} of {} deliveries",
                short(promise.event),
                promise.deliveries
            ));
        }
        if made.is_none() && !world.disk.was_pruned(&promise.tenant) {
            world.violate(format!("the accepted event {} is gone", short(promise.event)));
        }
    }
    accounted(world, tenants);
}

/// Checks the bursts of a tenant: no receiver has seen a superseded delivery, and what stands for others stands for all of them.
fn bursts(world: &World, tenant: &TenantId) {
    let all = world.disk.deliveries(tenant);
    let by_id: HashMap<DeliveryId, &StoredView> = all.iter().map(|stored| (stored.id, stored)).collect();
    let mut events: HashMap<DeliveryId, u64> = HashMap::new();
    for stored in all.iter().filter(|stored| stored.state == DeliveryState::Superseded) {
        let (requests, is_disordered) = world.with(|state| {
            (state.requests_of.get(&stored.id).copied(), state.disordered.contains(&stored.subscription))
        });
        if requests.is_some() && !is_disordered {
            world.violate(format!("{} is superseded, and was attempted", short(stored.id)));
        }
        let mut survivor = stored;
        while let Some(next) = survivor.superseded_by.and_then(|id| by_id.get(&id)) {
            survivor = next;
        }
        if survivor.state == DeliveryState::Superseded && !world.disk.was_pruned(tenant) {
            world.violate(format!("{} is superseded, and nothing stands for it", short(stored.id)));
        }
        *events.entry(survivor.id).or_default() += 1;
    }
    let is_exact = |stored: &StoredView| {
        !world.disk.was_pruned(tenant) && !world.with(|state| state.disordered.contains(&stored.subscription))
    };
    for stored in all.iter().filter(|stored| stored.state != DeliveryState::Superseded && is_exact(stored)) {
        let found = events.get(&stored.id).copied().unwrap_or_default() + 1;
        let expected = stored.settled.map_or(1, |settled| settled.count);
        if expected > 1 {
            world.note(format!("{} stands for {expected} events", short(stored.id)));
        }
        if found != expected {
            world.violate(format!("{} stands for {expected} events, and {found} are there", short(stored.id)));
        }
    }
}

/// Checks that the ledgers have all that was accepted, and no more than senders can have sent.
fn accounted(world: &World, tenants: &[TenantId]) {
    let known: usize = world.with(|state| state.promises.iter().map(|promise| promise.deliveries).sum());
    let unknown = world.with(|state| state.unknown);
    let ledgers = tenants.iter().filter_map(|tenant| world.disk.ledger(tenant));
    let of_host: u64 = tenants.iter().map(|tenant| world.disk.host_event_deliveries(tenant)).sum();
    let found: u64 = ledgers.map(|ledger| ledger.fan_out).sum();
    let known = known as u64 + of_host;
    // The events of the host itself are counted as far as they are stored.
    let is_exact = unknown == 0 && !tenants.iter().any(|tenant| world.disk.was_pruned(tenant));
    if found < known || (is_exact && found != known) {
        world.violate(format!("{known} deliveries were accepted, and the ledgers have {found}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(attempts_in_budget: u32, last_outcome: Option<AttemptOutcome>) -> StoredView {
        let id = "01900000-0000-7000-8000-000000000000";
        StoredView {
            id: DeliveryId(id.parse().expect("an id")),
            subscription: SubscriptionId(id.parse().expect("an id")),
            kind: DeliveryKind::Usual,
            state: DeliveryState::Pending,
            awaiting_plugin: false,
            due_at_ms: 0,
            attempts_in_budget,
            settled: None,
            is_settling: false,
            superseded_by: None,
            last_outcome,
        }
    }

    #[test]
    fn only_a_fault_of_a_plugin_is_followed_by_an_attempt_beyond_the_schedule() {
        assert_eq!(beyond_schedule(&pending(0, None), 1), None);
        assert_eq!(beyond_schedule(&pending(1, Some(AttemptOutcome::Failed)), 2), None);
        assert_eq!(beyond_schedule(&pending(1, Some(AttemptOutcome::PluginFault)), 1), None);
        let failed = beyond_schedule(&pending(1, Some(AttemptOutcome::Failed)), 1);
        assert_eq!(failed.as_deref(), Some("attempt 2 of a schedule of 1"));
        assert!(beyond_schedule(&pending(1, Some(AttemptOutcome::PluginFailure)), 1).is_some());
        assert!(beyond_schedule(&pending(2, None), 1).is_some());
    }
}
