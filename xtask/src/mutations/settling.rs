//! Mutations of settling, each with the test of the conformance suite that must find it.

use super::Mutation;
use super::unit_tests::mutation;

const STORE_EVENT: &str = "host/store/src/store_event.rs";
const MEMORY_SETTLING: &str = "host/store/src/memory/settling.rs";

/// Mutations of settling.
pub(super) const MUTATIONS: [Mutation; 7] = [
    mutation(
        "settling: the delivery of an earlier event supersedes that of a later one",
        STORE_EVENT,
        "        if waiting.event > self.delivery.event {",
        "        if waiting.event > waiting.event {",
        "conformance::settling::memory::the_delivery_of_an_earlier_event_does_not_supersede",
    ),
    mutation(
        "settling: each event begins the longest wait again",
        STORE_EVENT,
        "            let times = times.following(waiting.until_ms);",
        "            let times = times.following(settling.until_ms);",
        "conformance::settling::memory::a_burst_ends_after_its_longest_wait",
    ),
    mutation(
        "settling: a survivor stands for its own event only",
        STORE_EVENT,
        "        self.delivery.settled = Some(both);",
        "        self.delivery.settled = Some(own);",
        "conformance::settling::memory::a_burst_is_delivered_once_with_its_last_event",
    ),
    mutation(
        "settling: a delivery that was taken up is superseded",
        MEMORY_SETTLING,
        "    row.settling = None;\n    row.state == DeliveryState::Pending\n",
        "    row.state == DeliveryState::Pending\n",
        "conformance::settling::memory::a_delivery_that_is_taken_up_is_not_superseded",
    ),
    mutation(
        "settling: a delivery that was superseded is taken up",
        MEMORY_SETTLING,
        "    row.state == DeliveryState::Pending\n}",
        "    true\n}",
        "conformance::settling::memory::a_delivery_that_was_superseded_is_not_taken_up",
    ),
    mutation(
        "settling: contacts settle with each other",
        MEMORY_SETTLING,
        "            && row.settling.is_some_and(|other| other.key == settling.key)\n",
        "            && row.settling.is_some()\n",
        "conformance::settling::memory::entities_and_subscriptions_settle_apart",
    ),
    mutation(
        "settling: a delivery that is sent by hand is superseded",
        "host/store/src/memory/operator_actions.rs",
        "        row.settling = None;\n        row.due_at_ms = now_ms;\n",
        "        row.due_at_ms = now_ms;\n",
        "conformance::settling::memory::a_retry_by_hand_ends_the_settling",
    ),
];
