//! Tenants, and what they keep.

use crate::audit::Actor;
use crate::backend::tenants::TenantChange;
use crate::usage::{TenantContents, Usage};
use crate::{Store, StoreError};
use delegate::delegate;
use hookloom_model::address::Egress;
use hookloom_model::alerts::AlertSettings;
use hookloom_model::clock::now_ms;
use hookloom_model::event_type::EventTypes;
use hookloom_model::subscription::{Tenant, TenantId};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Store {
    /// Creates a tenant.
    pub async fn create_tenant(&self, actor: Actor, id: TenantId, change: TenantChange) -> Result<Tenant, StoreError> {
        let blank = Tenant {
            id,
            event_types: EventTypes::default(),
            alerts: AlertSettings::default(),
            limits_max: BTreeMap::new(),
            egress: Egress::default(),
            created_at_ms: now_ms(),
        };
        self.backend.create_tenant(actor, change.apply(blank)?).await
    }

    delegate! {
        to self.backend {
            /// Changes a tenant.
            pub async fn update_tenant(
                &self,
                actor: Actor,
                id: TenantId,
                change: TenantChange,
            ) -> Result<Arc<Tenant>, StoreError>;

            /// Counts the contents of a tenant, which may be being deleted.
            pub async fn tenant_contents(&self, tenant: TenantId) -> Result<TenantContents, StoreError>;

            /// Returns the storage that a tenant uses, as of the last commit.
            ///
            /// # Errors
            ///
            /// [`StoreError::NotFound`]: there is no such tenant.
            pub async fn usage(&self, tenant: TenantId) -> Result<Usage, StoreError>;

            /// Returns the tenants that are being deleted.
            pub async fn tenants_being_deleted(&self) -> Result<Vec<TenantId>, StoreError>;
        }
    }
}
