//! Mutations that the simulation of several hosts must find.

use super::{CLAIMS, Check, Mutation};

/// Maximum number of hosts of a simulation.
const HOSTS: u8 = 3;

const fn mutation(name: &'static str, file: &'static str, old: &'static str, new: &'static str) -> Mutation {
    Mutation { name, file, old, new, check: Check::Simulation { hosts: Some(HOSTS) } }
}

pub(super) const OWNERSHIP: &str = "host/store/src/ownership.rs";
pub(super) const MEMBERSHIP: &str = "host/store/src/fleet/membership.rs";
const GIVING: &str = "host/store/src/fleet/giving.rs";
pub(super) const TABLES: &str = "host/store/src/memory/fleet_tables.rs";
const CHANGES: &str = "host/store/src/memory/fleet/changes.rs";
const MEMBER: &str = "host/store/src/memory/fleet/member.rs";

/// Mutations of a fleet. One of them, of a page that claims what was given away, needs 84 seeds, and no other more than that.
pub(super) const MUTATIONS: [Mutation; 13] = [
    mutation(
        "fleet: a write is not fenced",
        MEMBER,
        "        if tables.fleet.is_fenced(registration) {",
        "        if tables.fleet.is_fenced(registration) && self.identity > 1_000 {",
    ),
    mutation(
        "fleet: a shard is given although a delivery of it has a claim",
        GIVING,
        "            let free = self.host.claims.without_claims(left);\n            if !free.is_empty() {",
        "            let free = left;\n            if !free.is_empty() {",
    ),
    mutation(
        "fleet: a host that stops gives shards although deliveries of them have claims",
        GIVING,
        "            let free = self.host.claims.without_claims(left);\n            if !others.is_empty()",
        "            let free = left;\n            if !others.is_empty()",
    ),
    mutation(
        "fleet: attempts begin until the very end of a lease",
        MEMBERSHIP,
        "sent + LEASE - LEASE_MARGIN",
        "sent + LEASE.max(LEASE_MARGIN)",
    ),
    mutation(
        "fleet: attempts begin after the end of a lease",
        OWNERSHIP,
        "self.0.read().until.is_none_or(|until| clock::since_boot() < until)",
        "self.0.read().until.is_none_or(|until| clock::since_boot() < until || !until.is_zero())",
    ),
    mutation(
        "fleet: a takeover does not wait for the end of the lease",
        TABLES,
        "        self.lease_until < clock::since_boot()\n    }",
        "        self.lease_until < clock::since_boot() + LEASE * 4 / 5\n    }",
    ),
    mutation(
        "fleet: a host takes over right after an outage",
        MEMBERSHIP,
        "        if clock::since_boot().saturating_sub(since) < LEASE {",
        "        if clock::since_boot() < since {",
    ),
    mutation(
        "fleet: a change is answered before all hosts have loaded it",
        MEMBER,
        "fleet.lagging(host, generation);",
        "fleet.lagging(host, generation.min(0));",
    ),
    mutation(
        "fleet: a host skips a change of another host",
        CHANGES,
        "tables.fleet.changes.range(loaded + 1..)",
        "tables.fleet.changes.range(loaded + 2..)",
    ),
    mutation(
        "fleet: claims outlive the ownership",
        CLAIMS,
        "            lane.period.fetch_add(1, Ordering::SeqCst);",
        "            lane.period.fetch_add(0, Ordering::SeqCst);",
    ),
    mutation(
        "fleet: a page claims deliveries of a subscription that was given away",
        CLAIMS,
        "        let period = self.owned_period(&lane, subscription);",
        "        let period = Some(lane.period.load(Ordering::SeqCst));",
    ),
    mutation(
        "fleet: a host that gets no hint does not look",
        MEMBERSHIP,
        "const LOOK_EVERY: Duration = Duration::from_secs(10);",
        "const LOOK_EVERY: Duration = Duration::from_secs(1_000_000);",
    ),
    mutation(
        "fleet: the lane of a given shard goes on",
        "host/deliver/src/lib.rs",
        "            handle.retire();\n            board.unregister(id);",
        "            board.unregister(id);\n            drop(handle);",
    ),
];
