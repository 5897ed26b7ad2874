//! Operations on keys, intake tokens, sessions and sign-in links.

use super::lanes::tenant_of;
use super::operation::{TwinStep, TwinWhat};
use super::side::{TwinSide, actor, told};
use hookloom_model::access::{ApiKey, Scope, credential_hash};
use hookloom_model::subscription::TenantId;
use std::sync::Arc;
use uuid::Uuid;

impl TwinSide {
    /// Runs an operation on credentials. None: it is of another kind.
    pub(super) async fn sign_in(&mut self, step: &TwinStep) -> Option<String> {
        let TwinStep { what, pick, more, .. } = *step;
        let tenant = tenant_of(step);
        let store = self.store();
        Some(match what {
            TwinWhat::CreateKey => {
                let of = (more < 6).then_some(tenant);
                let made = store.create_key(actor(), of, Scope::ALL[..pick % 3].to_vec(), format!("key {more}")).await;
                told(made.map(|(key, _)| {
                    self.names.give(&key.hint);
                    key
                }))
            }
            TwinWhat::CreateToken => {
                let made = store.create_token(actor(), tenant, format!("token {more}")).await;
                told(made.map(|(token, _)| {
                    self.names.give(&token.hint);
                    token
                }))
            }
            TwinWhat::RotateToken | TwinWhat::RevokeToken => self.change_token(tenant, step).await,
            TwinWhat::GiveAdminKey => told(store.give_admin_key(&format!("given {}", pick % 2)).await),
            TwinWhat::SignOut => match self.cookies.get(pick % self.cookies.len().max(1)) {
                Some(cookie) => told(store.sign_out(cookie).await),
                None => "no cookie".into(),
            },
            TwinWhat::UseLink => match self.links.get(pick % self.links.len().max(1)) {
                Some(link) => told(store.use_sign_in_link(link).await),
                None => "no link".into(),
            },
            TwinWhat::FlushUsed => told(store.flush_used_keys().await),
            TwinWhat::RevokeKey | TwinWhat::UseKey | TwinWhat::SignIn | TwinWhat::MakeLink => {
                let of = (more < 6).then_some(tenant);
                let keys = store.catalog().keys(of.as_ref());
                match keys.get(pick % keys.len().max(1)).cloned() {
                    Some(key) => self.use_key(of, key, step).await,
                    None => told(store.revoke_key(actor(), of, self.names.id(pick)).await),
                }
            }
            _ => return None,
        })
    }

    async fn use_key(&mut self, of: Option<TenantId>, key: Arc<ApiKey>, step: &TwinStep) -> String {
        let store = self.store();
        match step.what {
            TwinWhat::RevokeKey => told(store.revoke_key(actor(), of, key.id).await),
            TwinWhat::SignIn => {
                let from = [127, 0, 0, u8::try_from(step.pick).unwrap_or(0)].into();
                told(store.sign_in(key, from).await.map(|cookie| self.cookies.push(cookie)))
            }
            TwinWhat::MakeLink => {
                let link = store.create_sign_in_link(actor(), ApiKey::clone(&key)).await;
                told(link.map(|link| self.links.push(link)))
            }
            _ => {
                store.catalog().note_used(key.id);
                "used".into()
            }
        }
    }

    async fn change_token(&mut self, tenant: TenantId, step: &TwinStep) -> String {
        let store = self.store();
        let tokens = store.catalog().tokens(&tenant);
        let found = tokens.get(step.pick % tokens.len().max(1)).filter(|_| step.more < 7);
        let id: Uuid = found.map_or(self.names.id(step.pick), |token| token.id);
        match step.what {
            TwinWhat::RotateToken => {
                let made = store.rotate_token(actor(), tenant, id).await;
                told(made.map(|(token, _)| {
                    self.names.give(&token.hint);
                    token
                }))
            }
            _ => told(store.revoke_token(actor(), tenant, id).await),
        }
    }

    /// Returns what the catalog says about all cookies, without their texts.
    pub(super) fn sessions(&self) -> String {
        let store = self.store();
        let found = self.cookies.iter().map(|cookie| {
            let session = store.catalog().session(&credential_hash(cookie));
            session.map(|(session, key)| (session.expires_at_ms, key))
        });
        format!("{:?}", found.collect::<Vec<_>>())
    }
}
