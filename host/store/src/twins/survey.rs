//! Reads of everything that a store has.

use super::lanes::component;
use super::side::{TENANTS, TwinSide, shown, told};
use crate::{BinFilter, DeliveryFilter, EventFilter, Ledger, Store, StoreError};
use hookloom_model::event::Module;
use hookloom_model::subscription::{SubscriptionId, TenantId};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Maximum number of rows of a list.
const ROWS_MAX: usize = 60;

/// Name of the answer that says whether the law of the ledger holds.
pub(super) const LAW: &str = "law of the ledger";

/// Names of reads and their answers.
pub(super) type Survey = Vec<(&'static str, String)>;

impl TwinSide {
    /// Returns the answers of all reads, with names.
    pub(super) async fn survey(&mut self) -> Survey {
        let mut survey = self.survey_host().await;
        for name in TENANTS {
            let tenant = TenantId(name.into());
            self.survey_deliveries(&tenant, &mut survey).await;
            self.survey_events(&tenant, &mut survey).await;
            self.survey_settings(&tenant, &mut survey).await;
            self.survey_plugins(&tenant, &mut survey).await;
            self.survey_bins(&tenant, &mut survey).await;
        }
        survey.into_iter().map(|(what, answer)| (what, self.names.named(&answer))).collect()
    }

    async fn survey_host(&self) -> Survey {
        let store = self.store();
        let deleting = store.tenants_being_deleted().await.map(sorted);
        vec![
            ("tenants", format!("{:?}", store.catalog().tenants())),
            ("tenants being deleted", told(deleting)),
            ("admin keys", format!("{:?}", store.catalog().keys(None))),
            ("sessions", self.sessions()),
            ("portal sessions", self.portal_sessions().await),
            ("claims", format!("{:?}", shown(&self.held))),
            ("plugins", told(store.plugins().await.map(sorted))),
            ("active versions", told(store.active_versions().await.map(sorted))),
            ("rollouts", told(store.rollouts().await.map(sorted))),
            ("quarantine", told(store.quarantined().await.map(sorted))),
            ("components", self.components().await),
            ("changes of the host", told(store.changes(None, None, 12).await)),
            ("readiness", told(store.check().await)),
        ]
    }

    async fn components(&self) -> String {
        let mut text = String::new();
        for number in 0..3 {
            text += &told(self.store().component(component(number).1).await);
        }
        text
    }

    async fn survey_deliveries(&self, tenant: &TenantId, survey: &mut Survey) {
        let store = self.store();
        let filter = DeliveryFilter { limit: ROWS_MAX, ..DeliveryFilter::default() };
        let all = store.deliveries(tenant.clone(), filter).await;
        let mut attempts = String::new();
        for one in all.iter().flatten() {
            attempts += &told(store.delivery(tenant.clone(), one.id).await);
        }
        let ids = all.iter().flatten().map(|one| one.id).collect();
        let chains = store.settled_chains(tenant.clone(), ids).await;
        survey.push(("chains", told(chains.map(|found| found.into_iter().collect::<BTreeMap<_, _>>()))));
        survey.push(("deliveries", told(all)));
        survey.push(("attempts", attempts));
        let ledger = store.ledger(tenant.clone()).await;
        survey.push((LAW, format!("{}", ledger.iter().all(law_holds))));
        survey.push(("ledger", told(ledger)));
        let pending: BTreeMap<SubscriptionId, u64> = store.pending(tenant).into_iter().collect();
        survey.push(("pending", format!("{pending:?}")));
        let subscriptions: Vec<SubscriptionId> = pending.keys().copied().collect();
        // The oldest of many first deliveries is not exact.
        if pending.values().all(|count| *count <= ROWS_MAX as u64) {
            let oldest = store.oldest_pending(tenant.clone(), subscriptions).await;
            survey.push(("oldest pending", told(oldest.map(|found| found.into_iter().collect::<BTreeMap<_, _>>()))));
            survey.push(("oldest of all", told(store.oldest_pending_for_host(tenant.clone()).await)));
        }
    }

    async fn survey_events(&self, tenant: &TenantId, survey: &mut Survey) {
        let store = self.store();
        let filter = EventFilter { limit: ROWS_MAX, ..EventFilter::default() };
        let all = store.events(tenant.clone(), filter).await;
        let mut views = String::new();
        for one in all.iter().flatten().take(8) {
            views += &told(store.event(tenant.clone(), one.id).await);
            views += &told(
                store
                    .earlier_ones(tenant.clone(), one.id)
                    .await
                    .map(|found| found.into_iter().collect::<BTreeMap<_, _>>()),
            );
        }
        survey.push(("events", told(all)));
        survey.push(("views of events", views));
        let recent = store.recent_events(tenant.clone(), vec![Module::Contact, Module::Subscription], 9).await;
        survey.push(("recent events", told(recent)));
        let mut subscriptions: Vec<SubscriptionId> = self.earlier.iter().map(|one| one.id).collect();
        subscriptions.sort();
        subscriptions.dedup();
        let last = store.last_events_of(tenant.clone(), subscriptions, 7).await;
        survey.push(("last events", told(last)));
        survey.push(("names", told(store.name_counts(tenant.clone(), 9).await)));
    }

    async fn survey_settings(&self, tenant: &TenantId, survey: &mut Survey) {
        let store = self.store();
        let subscriptions = store.catalog().subscriptions(tenant);
        let secrets = subscriptions.iter().map(|one| {
            let signing = one.signing.iter().map(|key| (key.secret.reveal(), key.until_ms)).collect::<Vec<_>>();
            let secrets = one.settings.secrets().iter().map(|(name, secret)| (name.clone(), secret.expose().to_vec()));
            (signing, secrets.collect::<Vec<_>>())
        });
        survey.push(("secrets", format!("{:?}", secrets.collect::<Vec<_>>())));
        survey.push(("subscriptions", format!("{subscriptions:?}")));
        let keys = store.catalog().keys(Some(tenant));
        let used = store.keys_used_at_ms(&keys).await.map(|used| used.into_iter().collect::<BTreeMap<_, _>>());
        survey.push(("uses of keys", told(used)));
        survey.push(("keys", format!("{keys:?} {:?}", store.catalog().tokens(tenant))));
        let usage = store.usage(tenant.clone()).await.map(|usage| (usage.events, usage.events_max));
        survey.push(("usage", told(usage)));
        survey.push(("contents", contents(&store, tenant).await));
        survey.push(("milestones", told(store.milestones(tenant.clone()).await)));
        survey.push(("halted versions", told(store.halted_versions(tenant.clone(), 0).await)));
        survey.push(("changes", told(store.changes(Some(tenant.clone()), None, 12).await)));
        for last_s in [600, 100_000] {
            survey.push(("figures", self.figures(tenant.clone(), last_s).await));
        }
    }

    async fn survey_plugins(&self, tenant: &TenantId, survey: &mut Survey) {
        let store = self.store();
        for name in ["p0", "p1"].map(str::to_owned) {
            survey.push(("versions", told(store.plugin_versions(tenant.clone(), name.clone()).await)));
            survey.push(("plugin file", told(store.plugin_file(tenant.clone(), name.clone()).await)));
            for number in 0..3 {
                let (_, sha256) = component(number);
                let has = store.has_version(tenant.clone(), name.clone(), sha256.clone()).await;
                survey.push(("has version", told(has)));
                survey.push(("report", told(store.version_report(tenant.clone(), name.clone(), sha256).await)));
            }
        }
    }

    async fn survey_bins(&self, tenant: &TenantId, survey: &mut Survey) {
        let store = self.store();
        let bins = store.bins(tenant.clone()).await;
        for bin in bins.iter().flatten() {
            let filter = BinFilter { limit: ROWS_MAX, ..BinFilter::default() };
            survey.push(("requests", told(store.bin_requests(tenant.clone(), bin.id.clone(), filter).await)));
            survey.push(("bin by URL", told(store.bin_by_url(bin.id.clone()).await)));
        }
        survey.push(("bins", told(bins)));
        survey.push(("rejected requests", told(store.rejected_requests(tenant.clone(), None, ROWS_MAX).await)));
    }
}

/// Returns the contents of a tenant, without their size.
async fn contents(store: &Store, tenant: &TenantId) -> String {
    let contents: Result<_, StoreError> = store.tenant_contents(tenant.clone()).await;
    told(contents.map(|mut contents| {
        contents.bytes = 0;
        contents
    }))
}

/// Sorts a list that has no order.
fn sorted<T: Debug>(mut list: Vec<T>) -> Vec<T> {
    list.sort_by_key(|one| format!("{one:?}"));
    list
}

/// Returns true if the law of the ledger holds.
fn law_holds(ledger: &Ledger) -> bool {
    let Ledger { fan_out, replayed, tests, delivered, dropped, dead, cancelled, superseded, pending, pruned, .. } =
        ledger;
    let ended = delivered + dropped + dead + cancelled + superseded;
    let deleted = pruned.delivered + pruned.dropped + pruned.dead + pruned.cancelled + pruned.superseded;
    fan_out + replayed + tests == ended + pending + deleted
}
