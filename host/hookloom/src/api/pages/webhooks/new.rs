//! Page with the form of a new webhook.

use super::form::WebhookForm;
use super::prefill::PrefillParams;
use crate::api::ApiState;
use crate::api::extract::Params;
use crate::api::pages::prose::ProsePart;
use crate::api::pages::user::TenantUser;
use crate::api::pages::{Frame, HtmlPage, PageError, filters, render};
use crate::operations::ToManage;
use askama::Template;
use axum::extract::State;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "webhook_new.html")]
struct NewWebhook {
    frame: Frame,
    form: WebhookForm,
}

pub(in crate::api::pages) async fn page(
    user: TenantUser,
    Params(prefill): Params<PrefillParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    // A session that only reads has no form.
    user.access::<ToManage>(&state)?;
    let form = WebhookForm::blank(&state, &user.tenant).await?;
    let form = form.prefilled(&state, &user.tenant, None, &prefill).await?;
    page_with(&user, &state, form).await
}

/// Returns the page with a form that is filled in.
pub(super) async fn page_with(user: &TenantUser, state: &ApiState, form: WebhookForm) -> Result<HtmlPage, PageError> {
    render(
        state,
        Some(&user.tenant),
        NewWebhook { frame: Frame::new(user, state, "Webhooks"), form: form.shown_to(user) },
    )
    .await
}
