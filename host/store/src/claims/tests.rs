//! Claims against a model of the database: in any order of steps, no delivery has two claims, no claim shows a former state, and no
//! delivery is forgotten.

use super::*;
use hookloom_model::delivery::DeliveryKind;
use hookloom_model::event::EventId;
use hookloom_model::subscription::TenantId;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
enum ClaimStep {
    /// A transaction makes a delivery and claims it.
    Make,
    /// The oldest transaction is committed, or rolled back.
    End { commits: bool },
    /// A reader begins a page: it takes a snapshot.
    BeginPage,
    /// The oldest page claims what it found.
    EndPage,
    /// An attempt of a claim is committed; the delivery is due again.
    Finish(usize),
    /// A claim ends without an attempt.
    Release(usize),
}

fn step() -> impl Strategy<Value = ClaimStep> {
    prop_oneof![
        3 => Just(ClaimStep::Make),
        3 => any::<bool>().prop_map(|commits| ClaimStep::End { commits }),
        2 => Just(ClaimStep::BeginPage),
        2 => Just(ClaimStep::EndPage),
        3 => any::<usize>().prop_map(ClaimStep::Finish),
        2 => any::<usize>().prop_map(ClaimStep::Release),
    ]
}

#[derive(Default)]
struct ClaimsModel {
    claims: Claims,
    subscription: Option<SubscriptionId>,
    /// Committed deliveries and the numbers of their attempts.
    rows: BTreeMap<uuid::Uuid, u32>,
    uncommitted: Vec<Claim>,
    pages: Vec<(ClaimPage, BTreeMap<uuid::Uuid, u32>)>,
    held: Vec<Claim>,
}

/// Returns a delivery of a new subscription.
pub(crate) fn any_delivery() -> DueDelivery {
    ClaimsModel::default().delivery(DeliveryId::new(), 0)
}

impl ClaimsModel {
    fn subscription(&mut self) -> SubscriptionId {
        *self.subscription.get_or_insert_with(SubscriptionId::new)
    }

    fn delivery(&mut self, id: DeliveryId, attempts_made: u32) -> DueDelivery {
        DueDelivery {
            id,
            tenant: TenantId("t".into()),
            event: EventId::new(),
            subscription: self.subscription(),
            kind: DeliveryKind::Usual,
            attempts_made,
            attempts_in_budget: attempts_made,
            age_from_ms: 0,
            settled: None,
            is_settling: false,
        }
    }

    fn apply(&mut self, step: ClaimStep) {
        match step {
            ClaimStep::Make => {
                let delivery = self.delivery(DeliveryId::new(), 0);
                self.uncommitted.extend(self.claims.claim_new(delivery));
            }
            ClaimStep::End { commits } if !self.uncommitted.is_empty() => {
                let claim = self.uncommitted.remove(0);
                if commits {
                    self.rows.insert(claim.delivery().id.0, 0);
                    self.hold(claim);
                }
            }
            ClaimStep::BeginPage => {
                let subscription = self.subscription();
                self.pages.push((self.claims.begin_page(subscription), self.rows.clone()));
            }
            ClaimStep::EndPage if !self.pages.is_empty() => {
                let (page, found) = self.pages.remove(0);
                for (id, attempts_made) in found {
                    let delivery = self.delivery(DeliveryId(id), attempts_made);
                    let is_free = page.is_free(delivery.id);
                    let claim = page.claim(delivery);
                    assert_eq!(claim.is_some(), is_free);
                    claim.into_iter().for_each(|claim| self.hold(claim));
                }
            }
            ClaimStep::Finish(pick) if !self.held.is_empty() => {
                let claim = self.held.swap_remove(pick % self.held.len());
                *self.rows.get_mut(&claim.delivery().id.0).expect("its row") += 1;
                // The commit comes before the end of the claim.
                drop(claim);
            }
            ClaimStep::Release(pick) if !self.held.is_empty() => {
                self.held.swap_remove(pick % self.held.len()).release();
            }
            _ => {}
        }
    }

    fn hold(&mut self, claim: Claim) {
        let delivery = claim.delivery();
        assert!(self.held.iter().all(|held| held.delivery().id != delivery.id), "it has a claim already");
        assert_eq!(self.rows.get(&delivery.id.0), Some(&delivery.attempts_made), "it is a former state");
        self.held.push(claim);
    }
}

proptest! {
    #[test]
    fn a_delivery_has_one_claim_at_a_time_which_shows_its_present_state(steps in proptest::collection::vec(step(), 1..120)) {
        let mut model = ClaimsModel::default();
        for step in steps {
            model.apply(step);
        }
        // Everything that is committed can be claimed once all else has ended.
        model.uncommitted.clear();
        model.pages.clear();
        model.held.clear();
        model.apply(ClaimStep::BeginPage);
        model.apply(ClaimStep::EndPage);
        prop_assert_eq!(model.held.len(), model.rows.len());
    }
}

#[test]
fn subscriptions_without_claims_are_forgotten() {
    let claims = Claims::default();
    let mut model = ClaimsModel::default();
    let kept = model.delivery(DeliveryId::new(), 0);
    let id = kept.id;
    let subscription = kept.subscription;
    let held = claims.claim_new(kept).expect("it is owned");
    for _ in 0..3 * SUBSCRIPTIONS_KEPT {
        drop(claims.begin_page(SubscriptionId::new()));
    }
    assert!(claims.lanes.lock().len() <= 2 * SUBSCRIPTIONS_KEPT);
    assert!(!claims.begin_page(subscription).is_free(id), "a claim keeps its subscription");
    drop(held);
    assert!(claims.begin_page(subscription).is_free(id));
}

#[test]
fn nothing_is_claimed_of_a_subscription_that_another_host_owns() {
    let claims = Claims::default();
    let delivery = any_delivery();
    let shard: ShardSet = [shard_of(delivery.subscription)].into_iter().collect();
    claims.disown(shard);
    assert!(claims.claim_new(delivery.clone()).is_none());
    let page = claims.begin_page(delivery.subscription);
    claims.ownership.add(shard, ShardSet::default());
    // Another host may have attempted since then what the page shows.
    assert!(!page.is_free(delivery.id) && page.claim(delivery.clone()).is_none());
    let claim = claims.begin_page(delivery.subscription).claim(delivery).expect("it is owned");
    assert!(claim.is_valid());
    claims.disown(shard);
    assert!(!claim.is_valid());
}
