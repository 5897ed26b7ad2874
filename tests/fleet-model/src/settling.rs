//! Settling: of two deliveries of one contact, the one of the later event supersedes the one that waits.
//!
//! The quiet time is left out: the owner may take up a delivery as soon as it has read it.

use crate::database::Delivery;
use crate::protocol::{Fleet, Mutation};
use crate::state::{Answer, FleetState};

impl Fleet {
    /// Returns the event whose delivery waits, and may be superseded.
    pub(crate) fn waiting(&self, deliveries: &[Delivery]) -> Option<usize> {
        let takes_any = self.is(Mutation::TakenUpSuperseded);
        let waits = |delivery: &Delivery| match *delivery {
            Delivery::Pending { settles, .. } => settles || takes_any,
            _ => false,
        };
        deliveries.iter().position(waits)
    }

    /// Adds the delivery of an event, which supersedes the one that waits, or is superseded by it.
    pub(crate) fn add_settling(&self, deliveries: &mut [Delivery], event: usize, waiting: Option<usize>) {
        deliveries[event] = Delivery::Pending { turn: 0, settles: true };
        let Some(waiting) = waiting else { return };
        if waiting > event && !self.is(Mutation::EarlierSupersedes) {
            deliveries[event] = Delivery::Superseded { by: waiting };
        } else {
            deliveries[waiting] = Delivery::Superseded { by: event };
        }
    }

    /// Ends the settling of a delivery before its owner attempts it, and says whether it is pending still.
    pub(crate) fn end_settling(&self, state: &mut FleetState, event: usize) -> Answer {
        let delivery = &mut state.database.deliveries[event];
        let mut is_pending = self.is(Mutation::SupersededTakenUp);
        if let Delivery::Pending { settles, .. } = delivery {
            *settles = false;
            is_pending = true;
        }
        Answer::SettlingEnded { event, is_pending }
    }

    /// A host reads that the settling of a delivery has ended, and attempts the delivery if it is pending and claimed still.
    pub(crate) fn take_up(state: &mut FleetState, at: usize, event: usize, is_pending: bool) {
        let host = &mut state.hosts[at];
        if host.settling.remove(&event) && is_pending && host.owns && host.generation == 0 {
            host.claimed.insert((event, 0));
        }
    }
}

/// Returns true if no attempt began of what is superseded.
pub(crate) fn superseded_is_not_begun(state: &FleetState) -> bool {
    let is_superseded = |event: usize| matches!(state.database.deliveries[event], Delivery::Superseded { .. });
    (0..state.begun.len()).all(|event| state.begun[event] == 0 || !is_superseded(event))
}

/// Returns true if every superseded delivery has a survivor of a later event.
pub(crate) fn has_survivors(state: &FleetState) -> bool {
    let deliveries = &state.database.deliveries;
    deliveries.iter().enumerate().all(|(event, delivery)| match *delivery {
        Delivery::Superseded { by } => {
            let stays = !matches!(deliveries[by], Delivery::NotAccepted | Delivery::WithoutReceiver);
            by > event && stays
        }
        _ => true,
    })
}

/// Returns true if at most one delivery of the contact waits to be superseded.
pub(crate) fn one_settles(state: &FleetState) -> bool {
    let deliveries = state.database.deliveries.iter();
    deliveries.filter(|delivery| matches!(delivery, Delivery::Pending { settles: true, .. })).count() <= 1
}

/// Returns true if the survivor of a superseded delivery has ended.
pub(crate) fn has_delivered_survivor(state: &FleetState) -> bool {
    let deliveries = &state.database.deliveries;
    let is_delivered = |delivery: &Delivery| match *delivery {
        Delivery::Superseded { by } => deliveries[by] == Delivery::Ended,
        _ => false,
    };
    deliveries.iter().any(is_delivered)
}
