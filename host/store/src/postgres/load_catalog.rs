//! Reading of the catalog from the database, once, when the store opens.

use super::connection::Connection;
use super::{credentials, sessions, subscriptions, tenants};
use crate::StoreError;
use crate::catalog::Catalog;
use crate::vault::Vault;
use std::sync::Arc;

/// Fills the catalog with tenants, keys, tokens, sessions and subscriptions.
pub(super) async fn load(connection: &Connection, vault: &Vault, catalog: &Catalog) -> Result<(), StoreError> {
    tenants::load(connection).await?.into_iter().for_each(|tenant| catalog.put_tenant(tenant));
    credentials::load_keys(connection).await?.into_iter().for_each(|(hash, key)| catalog.put_key(hash, key));
    credentials::load_tokens(connection).await?.into_iter().for_each(|(hash, token)| catalog.put_token(hash, token));
    sessions::load(connection).await?.into_iter().for_each(|(hash, session)| catalog.put_session(hash, session));
    let subscriptions = subscriptions::load(connection, vault).await?.into_iter();
    // Subscriptions of a tenant that is being deleted still have rows.
    let subscriptions = subscriptions.filter(|one| catalog.tenant(&one.tenant).is_some());
    catalog.put_subscriptions(subscriptions.map(Arc::new).collect());
    Ok(())
}
