//! Answers of all reads of a store, as texts.

use crate::{AttemptClass, BinFilter, DeliveryFilter, EventFilter, Store, StoreError};
use hookloom_model::event::Module;
use hookloom_model::subscription::TenantId;
use std::collections::BTreeMap;
use std::fmt::Debug;
use uuid::Uuid;

/// Maximum number of rows of a list, more than the stores of the tests have.
const ROWS_MAX: usize = 1_000;

/// Names of reads and their answers.
pub(super) type Answers = Vec<(&'static str, String)>;

/// Reads everything.
pub(super) async fn answers(store: &Store) -> Answers {
    let mut all = vec![
        ("tenants", format!("{:?}", store.catalog().tenants())),
        ("tenants being deleted", told(store.tenants_being_deleted().await)),
        ("admin keys", format!("{:?}", store.catalog().keys(None))),
        ("plugins", told(store.plugins().await.map(sorted))),
        ("active versions", told(store.active_versions().await.map(sorted))),
        ("rollouts", told(store.rollouts().await.map(sorted))),
        ("quarantine", told(store.quarantined().await.map(sorted))),
        ("changes of the host", told(store.changes(None, None, ROWS_MAX).await)),
        ("fan-outs", told(store.backend.fan_outs().await)),
        ("oldest sweep", told(store.backend.next_sweep().await)),
    ];
    for tenant in store.catalog().tenants() {
        of_deliveries(store, &tenant.id, &mut all).await;
        of_events(store, &tenant.id, &mut all).await;
        of_settings(store, &tenant.id, &mut all).await;
        of_plugins(store, &tenant.id, &mut all).await;
        of_bins(store, &tenant.id, &mut all).await;
    }
    all
}

/// Returns all deliveries that a dispatcher could claim, with their events. The claims are released.
pub(super) async fn claims(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    for subscription in store.catalog().all_subscriptions() {
        for class in [AttemptClass::First, AttemptClass::Retry] {
            let page = store.claim_due(&subscription, class, ROWS_MAX).await.expect("due");
            all.extend(page.due.iter().map(|due| format!("{:?} {:?}", due.delivery(), due.event)));
        }
    }
    all.sort();
    all
}

async fn of_deliveries(store: &Store, tenant: &TenantId, all: &mut Answers) {
    let filter = DeliveryFilter { limit: ROWS_MAX, ..DeliveryFilter::default() };
    let deliveries = store.deliveries(tenant.clone(), filter).await.expect("deliveries");
    for one in &deliveries {
        all.push(("attempts", told(store.delivery(tenant.clone(), one.id).await)));
    }
    all.push(("deliveries", format!("{deliveries:?}")));
    all.push(("ledger", told(store.ledger(tenant.clone()).await)));
    let pending: BTreeMap<_, _> = store.pending(tenant).into_iter().collect();
    let subscriptions = pending.keys().copied().collect();
    all.push(("pending", format!("{pending:?}")));
    let oldest = store.oldest_pending(tenant.clone(), subscriptions).await;
    all.push(("oldest pending", told(oldest.map(|found| found.into_iter().collect::<BTreeMap<_, _>>()))));
}

async fn of_events(store: &Store, tenant: &TenantId, all: &mut Answers) {
    let filter = EventFilter { limit: ROWS_MAX, ..EventFilter::default() };
    let events = store.events(tenant.clone(), filter).await.expect("events");
    for one in &events {
        all.push(("event", told(store.event(tenant.clone(), one.id).await)));
        let earlier = store.earlier_ones(tenant.clone(), one.id).await;
        all.push(("earlier ones", told(earlier.map(|found| found.into_iter().collect::<BTreeMap<_, _>>()))));
    }
    all.push(("events", format!("{events:?}")));
    let recent = store.recent_events(tenant.clone(), vec![Module::Contact], ROWS_MAX).await.expect("events");
    for one in &recent {
        all.push(("previous event", told(store.previous(tenant.clone(), one).await)));
    }
    all.push(("recent events", format!("{recent:?}")));
}

async fn of_settings(store: &Store, tenant: &TenantId, all: &mut Answers) {
    let subscriptions = store.catalog().subscriptions(tenant);
    for one in &*subscriptions {
        let signing: Vec<_> = one.signing.iter().map(|key| (key.secret.reveal(), key.until_ms)).collect();
        let secrets = one.settings.secrets().iter().map(|(name, secret)| (name.clone(), secret.expose().to_vec()));
        all.push(("secrets", format!("{signing:?} {:?}", secrets.collect::<Vec<_>>())));
    }
    all.push(("subscriptions", format!("{subscriptions:?}")));
    let keys = store.catalog().keys(Some(tenant));
    all.push(("keys", format!("{keys:?} {:?}", store.catalog().tokens(tenant))));
    let used = store.keys_used_at_ms(&keys).await;
    all.push(("uses of keys", told(used.map(|used| used.into_iter().collect::<BTreeMap<_, _>>()))));
    // The stores have different shares.
    let usage = store.usage(tenant.clone()).await.map(|usage| (usage.events, usage.bytes, usage.by_kind));
    all.push(("usage", told(usage)));
    all.push(("contents", told(store.tenant_contents(tenant.clone()).await)));
    all.push(("changes", told(store.changes(Some(tenant.clone()), None, ROWS_MAX).await)));
    all.push(("incidents", told(store.incidents(tenant.clone(), ROWS_MAX).await)));
    all.push(("live incidents", told(store.backend.live_incidents(tenant.clone()).await)));
    all.push(("e-mails", told(store.alert_emails(tenant.clone(), ROWS_MAX).await)));
    for span_s in [60, 3_600] {
        all.push(("figures", told(store.backend.figures(tenant.clone(), span_s, 0).await.map(sorted))));
    }
}

async fn of_plugins(store: &Store, tenant: &TenantId, all: &mut Answers) {
    for name in ["p0", "p1"].map(str::to_owned) {
        let versions = store.plugin_versions(tenant.clone(), name.clone()).await;
        for version in versions.iter().flatten() {
            all.push(("component", told(store.component(version.sha256.clone()).await)));
            let report = store.version_report(tenant.clone(), name.clone(), version.sha256.clone()).await;
            all.push(("report", told(report)));
        }
        all.push(("versions", told(versions)));
        all.push(("plugin file", told(store.plugin_file(tenant.clone(), name).await)));
    }
}

async fn of_bins(store: &Store, tenant: &TenantId, all: &mut Answers) {
    let bins = store.bins(tenant.clone()).await;
    for bin in bins.iter().flatten() {
        let filter = BinFilter { limit: ROWS_MAX, ..BinFilter::default() };
        all.push(("requests", told(store.bin_requests(tenant.clone(), bin.id.clone(), filter).await)));
    }
    all.push(("bins", told(bins)));
    let rejected: Result<_, StoreError> = store.rejected_requests(tenant.clone(), None, ROWS_MAX).await;
    let ids: Vec<Uuid> = rejected.iter().flatten().map(|one| one.id).collect();
    for id in ids {
        all.push(("rejected request", told(store.rejected_request(tenant.clone(), id).await)));
    }
    all.push(("rejected requests", told(rejected)));
}

fn told<T: Debug>(answer: Result<T, StoreError>) -> String {
    format!("{answer:?}")
}

/// Sorts a list that has no order.
fn sorted<T: Debug>(mut list: Vec<T>) -> Vec<T> {
    list.sort_by_key(|one| format!("{one:?}"));
    list
}
