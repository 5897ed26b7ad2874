//! Operations on plugins, versions, rollouts and quarantine.

use super::lanes::{component, tenant_of};
use super::operation::{TwinStep, TwinWhat};
use super::side::{TwinSide, actor, told};
use crate::{PluginVersion, Quarantine, RolloutId, RolloutKind, StoredRollout};
use hookloom_model::clock::now_ms;
use hookloom_model::subscription::TenantId;

impl TwinSide {
    /// Runs an operation on a plugin. None: it is of another kind.
    pub(super) async fn change_plugin(&mut self, step: &TwinStep) -> Option<String> {
        let TwinStep { what, pick, more, .. } = *step;
        let tenant = tenant_of(step);
        let name = format!("p{}", usize::from(pick == 7));
        let (bytes, sha256) = component(if more == 7 { 2 } else { more % 2 });
        let store = self.store();
        let version = PluginVersion {
            sha256: sha256.clone(),
            size: bytes.len() as u64,
            report: format!("{{\"report\": {more}}}"),
            created_at_ms: now_ms(),
            created_by: "test".into(),
            active: more > 4,
        };
        Some(match what {
            TwinWhat::Upload => told(store.activate_plugin(actor(), tenant, name, version, bytes, || ()).await),
            TwinWhat::AddVersion => told(store.add_version(actor(), tenant, name, version, bytes).await),
            TwinWhat::ActivateVersion => told(store.activate_version(actor(), tenant, name, sha256, || ()).await),
            TwinWhat::DeleteVersion => told(store.delete_version(actor(), tenant, name, sha256).await),
            TwinWhat::DeletePlugin => told(store.delete_plugin(actor(), tenant, name, || ()).await),
            TwinWhat::BeginRollout => {
                let under_way = self.latest_rollout(&tenant, &name).await;
                let new = StoredRollout {
                    tenant,
                    name,
                    kind: if more < 5 { RolloutKind::Canary } else { RolloutKind::Shadow },
                    sha256,
                    percent: 12.5 * more as f64,
                    started_at_ms: now_ms(),
                    earlier: Vec::new(),
                    ended_reason: (more == 6).then(|| "before its begin".into()),
                    counts: "c".repeat(more),
                    counts_elsewhere: Vec::new(),
                };
                let new = match under_way {
                    Some(under_way) => new.after(&under_way),
                    None => new,
                };
                told(store.begin_rollout(actor(), new, || ()).await)
            }
            TwinWhat::EndRollout => {
                let counts = (more > 3).then(|| "n".repeat(more));
                let ended = self.under_way(&tenant, name, sha256).await;
                told(store.end_rollout(actor(), ended, "e".repeat(more * 600), counts, || ()).await)
            }
            TwinWhat::NoteCounts => {
                let counted = self.under_way(&tenant, name, sha256).await;
                told(store.note_rollout_counts(counted, format!("counts {pick}")).await)
            }
            TwinWhat::Quarantine => {
                let new = Quarantine { tenant, sha256, since_ms: now_ms(), reason: format!("reason {pick}") };
                told(store.quarantine(new).await)
            }
            TwinWhat::ReleaseVersion => told(store.release(tenant, sha256).await),
            TwinWhat::NoteFile => told(store.note_plugin_file(tenant, name, sha256).await),
            _ => return None,
        })
    }

    async fn latest_rollout(&self, tenant: &TenantId, name: &str) -> Option<StoredRollout> {
        let rollouts = self.store().rollouts().await.expect("rollouts");
        rollouts.into_iter().find(|one| one.tenant == *tenant && one.name == name)
    }

    /// Returns the identity of a plugin's rollout of a version, or of none.
    async fn under_way(&self, tenant: &TenantId, name: String, sha256: String) -> RolloutId {
        let latest = self.latest_rollout(tenant, &name).await;
        let started_at_ms = latest.map_or(0, |latest| latest.started_at_ms);
        RolloutId { tenant: tenant.clone(), name, sha256, started_at_ms }
    }
}
