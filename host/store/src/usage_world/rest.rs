//! Operations on bins, plugins, keys and everything else except deliveries.

use super::SHARE;
use super::world::{What, World, actor, allow, contact};
use crate::backend::alerts::{AlertTerms, IncidentRequest};
use crate::{PluginVersion, PortalTerms, RolloutId, RolloutKind, StoredRollout};
use bytes::Bytes;
use hookloom_model::alerts::{AlertSettings, EmailAddress, Finding, IncidentKind, Judgement, Severity};
use hookloom_model::clock::now_ms;
use hookloom_model::delivery::Attempt;
use hookloom_model::inspector::{BinSettings, RequestHead};
use hookloom_model::subscription::{SubscriptionId, TenantId};
use hookloom_model::url_path::PublicUrl;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

impl World {
    pub(super) async fn receive(&self, tenant: TenantId, what: What, pick: usize, size: usize) {
        let store = &self.store;
        let settings = || BinSettings { name: "n".repeat(pick), requests_max: 1 + pick, ..BinSettings::default() };
        let bins = store.bins(tenant.clone()).await.expect("bins");
        let bin = (!bins.is_empty()).then(|| bins[pick % bins.len()].clone());
        match (what, bin) {
            (What::MakeBin, _) => allow(store.create_bin(actor(), tenant, settings()).await),
            (What::Reject, _) => {
                allow(store.reject(tenant, "no event".into(), Bytes::from(vec![0; size]), false).await);
            }
            (What::Resubmit, _) => {
                let rejected = store.rejected_requests(tenant.clone(), None, 200).await.expect("rejected");
                if let Some(one) = rejected.first() {
                    allow(store.accept_rejected(actor(), tenant, one.id, contact(1, size), SHARE).await);
                }
            }
            (_, None) => {}
            (What::ReceiveInBin, Some(bin)) => {
                let head = RequestHead { query: "q".repeat(pick), ..RequestHead::default() };
                allow(store.receive_in_bin(&tenant, &bin, head, Bytes::from(vec![1; size])).await);
            }
            (What::EditBin, Some(bin)) => allow(store.update_bin(actor(), tenant, bin.id, settings()).await),
            (What::EmptyBin, Some(bin)) => allow(store.forget_bin_requests(actor(), tenant, bin.id, None).await),
            (_, Some(bin)) => allow(store.delete_bin(actor(), tenant, bin.id).await),
        }
    }

    pub(super) async fn change_plugin(&self, tenant: TenantId, what: What, pick: usize, size: usize) {
        let store = &self.store;
        let name = format!("p{}", pick % 2);
        let component = Bytes::from(vec![2; 1_000 + pick % 4]);
        let sha256 = hex::encode(Sha256::digest(&component));
        let version = PluginVersion {
            sha256: sha256.clone(),
            size: 1_000 + pick as u64 % 4,
            report: "{}".into(),
            created_at_ms: 0,
            created_by: "test".into(),
            active: false,
        };
        match what {
            What::Upload => allow(store.activate_plugin(actor(), tenant, name, version, component, || ()).await),
            What::AddVersion => allow(store.add_version(actor(), tenant, name, version, component).await),
            What::Rollout => {
                let rollout = StoredRollout {
                    tenant,
                    name,
                    kind: RolloutKind::Canary,
                    sha256,
                    percent: 5.0,
                    started_at_ms: 0,
                    earlier: vec![(1, 2.0); pick],
                    counts: "c".repeat(size),
                    counts_elsewhere: Vec::new(),
                    ended_reason: None,
                };
                allow(store.begin_rollout(actor(), rollout, || ()).await);
            }
            What::EndRollout => {
                let counts = Some("c".repeat(size));
                let ended = RolloutId { tenant, name, sha256, started_at_ms: 0 };
                store.end_rollout(actor(), ended, "e".repeat(size), counts, || ()).await.expect("ended");
            }
            What::DeleteVersion => allow(store.delete_version(actor(), tenant, name, sha256).await),
            _ => allow(store.delete_plugin(actor(), tenant, name, || ()).await),
        }
    }

    /// Opens or closes an incident, with an e-mail to one recipient.
    async fn alert(&self, tenant: TenantId, pick: usize, size: usize) {
        let finding = if pick.is_multiple_of(2) {
            Finding::Bad { severity: Severity::Warning, reason: "r".repeat(size), figures: BTreeMap::new() }
        } else {
            Finding::Good("g".repeat(size))
        };
        let subject = (pick / 2).to_string();
        let judgement = Judgement { kind: IncidentKind::WebhookFailing, name: subject.clone(), subject, finding };
        let recipients = vec![EmailAddress::parse("ops@example.com").expect("an address")];
        let request = IncidentRequest {
            judgements: vec![judgement],
            settings: AlertSettings { recipients, ..AlertSettings::default() },
            terms: AlertTerms { link_base: PublicUrl::parse("https://hooks.example").expect("a URL"), emails: true },
            receivers: self.store.catalog().receivers(&tenant),
            now_ms: now_ms(),
            tenant,
        };
        allow(self.store.backend.write_incidents(request).await);
    }

    pub(super) async fn visit(&self, tenant: TenantId, pick: usize, size: usize) {
        let terms = PortalTerms {
            tenant: tenant.clone(),
            expires_in_s: 600,
            session_s: 3_600,
            is_read_only: size > 50,
            return_url: (size > 0).then(|| format!("https://app.example.com/{}", "r".repeat(size))),
        };
        let (_, token) = self.store.create_portal_link(actor(), terms).await.expect("a link");
        match pick % 4 {
            1 | 2 => {
                let opened = self.store.open_portal_session(&token, [127, 0, 0, 1].into()).await.expect("an answer");
                assert!(opened.is_some());
            }
            3 => drop(self.store.end_portal(actor(), tenant).await.expect("ended")),
            _ => {}
        }
    }

    pub(super) async fn change_records(&self, tenant: TenantId, what: What, pick: usize, size: usize) {
        let store = &self.store;
        let keys = store.catalog().keys(Some(&tenant));
        let key = (!keys.is_empty()).then(|| keys[pick % keys.len()].clone());
        match (what, key) {
            (What::MakeKey, _) => {
                allow(store.create_key(actor(), Some(tenant), Vec::new(), "k".repeat(pick)).await);
            }
            (What::MakeToken, _) => {
                let replaces = store.catalog().tokens(&tenant).first().map(|token| token.id);
                allow(match replaces {
                    Some(id) => store.rotate_token(actor(), tenant, id).await,
                    None => store.create_token(actor(), tenant, "t".repeat(pick)).await,
                });
            }
            (What::Note, _) => {
                let request = uuid::Uuid::from_u128(pick as u128);
                store.record_bin_replay(actor(), tenant, request, "h".repeat(size)).await.expect("noted");
            }
            (What::Figures, _) => {
                let attempt = json!({"number": 1, "started_at_ms": 0, "config_generation": 1, "outcome": "delivered",
                    "echoed": false, "log": [], "post_us": size});
                let attempt: Attempt = serde_json::from_value(attempt).expect("an attempt");
                store.count(&tenant, SubscriptionId(uuid::Uuid::from_u128(pick as u128)), &attempt);
                store.flush_figures().await.expect("flushed");
            }
            (What::Alert, _) => self.alert(tenant, pick, size).await,
            (What::Prune, _) => {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                store.prune(std::time::Duration::from_millis(1)).await.expect("pruned");
            }
            (_, None) => {}
            (What::RevokeKey, Some(key)) => store.revoke_key(actor(), Some(tenant), key.id).await.expect("revoked"),
            (What::SignIn, Some(key)) => drop(store.sign_in(key, [127, 0, 0, 1].into()).await.expect("signed in")),
            (_, Some(key)) => drop(store.create_sign_in_link(actor(), (*key).clone()).await.expect("a link")),
        }
    }
}
