//! Extractors for pages: a signed-in user with a tenant, and a form submitted from a page of this host. As in REST routes, the
//! arguments of a handler are the proof of access.

use super::PageError;
use super::forms::Form;
use super::portal_visitor::PortalVisitor;
use crate::access::{ApiKey, Session, credential_hash};
use crate::api::ApiState;
use crate::api::cookies;
use crate::api::exchange::{Exchange, Payer};
use crate::api::extract::PathParams;
use crate::operations::{Access, Admin, Problem, RequiredScope, ToManage, ToRead};
use crate::subscription::TenantId;
use axum::extract::{FromRequest, FromRequestParts, Request};
use hookloom_model::portal::PortalSession;
use http::StatusCode;
use http::request::Parts;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// Signed-in user.
pub(super) struct SignedIn {
    pub(super) session: Arc<Session>,
    pub(super) key: Arc<ApiKey>,
    pub(super) cookie: String,
    pub(super) flash: Option<String>,
    /// Session of the portal, if the user is a customer who has one. None: a user of the console.
    pub(super) portal: Option<Arc<PortalSession>>,
}

impl SignedIn {
    /// Returns a visitor of the portal as a user.
    pub(super) fn visiting(visitor: PortalVisitor, flash: Option<String>) -> Self {
        let PortalVisitor { portal, session, key, cookie } = visitor;
        SignedIn { session, key, cookie, flash, portal: Some(portal) }
    }

    /// Returns true if the user is a customer in the portal, who has only some of the pages.
    pub(super) fn is_customer(&self) -> bool {
        self.portal.is_some()
    }

    /// Checks that a form came from a page of this session.
    pub(super) fn check_token(&self, form: &Form) -> Result<(), Problem> {
        if bool::from(form.get("csrf").as_bytes().ct_eq(self.session.csrf.as_bytes())) {
            return Ok(());
        }
        let detail = "this form did not come from a page of this host, or the session has changed";
        Err(Problem::new(StatusCode::FORBIDDEN, "no-csrf-token", detail)
            .remedy("go back, reload the page, and try again"))
    }

    /// Returns the tenant of the first page. None: there is no tenant.
    pub(super) fn home(&self, state: &ApiState) -> Option<TenantId> {
        if self.key.tenant.is_some() {
            return self.key.tenant.clone();
        }
        let tenants = state.operations.store.catalog().tenants();
        let default = tenants.iter().find(|tenant| tenant.id == TenantId::default());
        default.or(tenants.first()).map(|tenant| tenant.id.clone())
    }
}

impl FromRequestParts<Arc<ApiState>> for SignedIn {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, PageError> {
        let user = signed_in(parts, state)?;
        let payer = user.key.tenant.clone().map_or(Payer::Operator, Payer::Tenant);
        Exchange::of(parts)?.admit(payer).await?;
        Ok(user)
    }
}

fn signed_in(parts: &Parts, state: &ApiState) -> Result<SignedIn, PageError> {
    if let Some(visitor) = parts.extensions.get::<PortalVisitor>() {
        return Ok(SignedIn::visiting(visitor.clone(), cookies::portal_flash(&parts.headers)));
    }
    let back = || parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let cookie = cookies::session(&parts.headers).ok_or_else(|| PageError::SignIn(back()))?.to_owned();
    let found = state.operations.store.catalog().session(&credential_hash(&cookie));
    let (session, key) = found.ok_or_else(|| PageError::SignIn(back()))?;
    state.operations.store.catalog().note_used(key.id);
    Ok(SignedIn { session, key, cookie, flash: cookies::flash(&parts.headers), portal: None })
}

/// Signed-in user who may see this tenant.
pub(super) struct TenantUser {
    pub(super) user: SignedIn,
    pub(super) tenant: TenantId,
    pub(super) path: PathParams,
}

impl TenantUser {
    /// Returns the proof for the REST handlers.
    pub(super) fn access<W: RequiredScope>(&self, state: &ApiState) -> Result<Access<W>, Problem> {
        Access::of(self.user.key.clone(), &self.tenant.0, &state.operations)
    }
}

impl FromRequestParts<Arc<ApiState>> for TenantUser {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, PageError> {
        let user = signed_in(parts, state)?;
        let path = PathParams::from_request_parts(parts, state).await?;
        let tenant = user.portal.as_ref().map_or(path.get("t"), |portal| &*portal.tenant.0);
        let access = Access::<ToRead>::of(user.key.clone(), tenant, &state.operations)?;
        Exchange::of(parts)?.admit(Payer::Tenant(access.tenant.clone())).await?;
        Ok(TenantUser { user, tenant: access.tenant, path })
    }
}

/// Form submitted from one of this host's pages by a user who may change this tenant.
pub(super) struct Posted {
    pub(super) user: TenantUser,
    pub(super) form: Form,
}

impl FromRequest<Arc<ApiState>> for Posted {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Self, PageError> {
        let (mut parts, _) = request.into_parts();
        let user = TenantUser::from_request_parts(&mut parts, state).await?;
        user.access::<ToManage>(state)?;
        let form = read(&parts, &user.user).await?;
        Ok(Posted { user, form })
    }
}

/// Form submitted from a page of this host by an admin, outside of any tenant.
pub(super) struct PostedByAdmin {
    pub(super) admin: Admin,
    pub(super) user: SignedIn,
    pub(super) form: Form,
}

impl FromRequest<Arc<ApiState>> for PostedByAdmin {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Self, PageError> {
        let (mut parts, _) = request.into_parts();
        let user = SignedIn::from_request_parts(&mut parts, state).await?;
        let form = read(&parts, &user).await?;
        let admin = Admin::of(&user.key)?;
        Ok(PostedByAdmin { admin, user, form })
    }
}

/// Form submitted from a page of this host by a signed-in user, who need not be an admin, with the head of its request.
pub(super) struct PostedBySession {
    pub(super) user: SignedIn,
    pub(super) form: Form,
    pub(super) head: Parts,
}

impl FromRequest<Arc<ApiState>> for PostedBySession {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Self, PageError> {
        let (mut head, _) = request.into_parts();
        let user = SignedIn::from_request_parts(&mut head, state).await?;
        let form = read(&head, &user).await?;
        Ok(PostedBySession { user, form, head })
    }
}

async fn read(parts: &Parts, user: &SignedIn) -> Result<Form, PageError> {
    let form = Form::read(parts).await?;
    user.check_token(&form)?;
    Ok(form)
}
