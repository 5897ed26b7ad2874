//! Proofs that a key may do something: arguments of the operations, so that none can be called without the check.

use super::{Operations, Problem};
use crate::access::{ApiKey, Scope};
use crate::store::Actor;
use crate::subscription::TenantId;
use http::StatusCode;
use std::marker::PhantomData;
use std::sync::Arc;

/// Scope as a type.
pub(crate) trait RequiredScope: Send + Sync {
    /// Required scope.
    const SCOPE: Scope;
}

pub(crate) struct ToSend;
pub(crate) struct ToRead;
pub(crate) struct ToManage;

impl RequiredScope for ToSend {
    const SCOPE: Scope = Scope::Send;
}

impl RequiredScope for ToRead {
    const SCOPE: Scope = Scope::Read;
}

impl RequiredScope for ToManage {
    const SCOPE: Scope = Scope::Manage;
}

/// Proof that the request's key may do `W` with the tenant in the path.
pub(crate) struct Access<W> {
    pub(crate) tenant: TenantId,
    pub(crate) key: Arc<ApiKey>,
    wanted: PhantomData<W>,
}

impl<W: RequiredScope> Access<W> {
    /// Returns the author of a change by this request, for the log of changes.
    pub(crate) fn actor(&self) -> Actor {
        Actor::from(&*self.key)
    }

    /// Returns the proof, if the key has the scope in this tenant.
    pub(crate) fn of(key: Arc<ApiKey>, name: &str, operations: &Operations) -> Result<Self, Problem> {
        // An invalid name and another tenant get the same answer, so that nobody can find out which tenants exist.
        let tenant = TenantId::parse(name).ok().filter(|tenant| key.allows(tenant, W::SCOPE));
        let tenant = tenant.ok_or_else(|| {
            forbidden(&format!("the key {}… may not {} in this tenant", key.hint, scope_action(W::SCOPE)))
        })?;
        if operations.store.catalog().tenant(&tenant).is_none() {
            return Err(Problem::new(StatusCode::NOT_FOUND, "not-found", format!("there is no tenant {tenant}")));
        }
        Ok(Access { tenant, key, wanted: PhantomData })
    }
}

fn scope_action(scope: Scope) -> &'static str {
    match scope {
        Scope::Send => "send events",
        Scope::Read => "read",
        Scope::Manage => "manage",
    }
}

/// Proof that the request's key is an admin key.
pub(crate) struct Admin(pub(crate) Arc<ApiKey>);

impl Admin {
    /// Returns the author of a change by this request, for the log of changes.
    pub(crate) fn actor(&self) -> Actor {
        Actor::from(&*self.0)
    }

    /// Returns the proof, if the key is an admin key.
    pub(crate) fn of(key: &Arc<ApiKey>) -> Result<Self, Problem> {
        if key.is_admin() { Ok(Admin(key.clone())) } else { Err(forbidden("this needs an admin key")) }
    }
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
        .remedy("use a key with the tenant and scope that this needs")
}
