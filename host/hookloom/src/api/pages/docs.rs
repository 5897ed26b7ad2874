//! Pages of the REST API, rendered from the document that `/openapi.json` serves: a search over the operations, each operation with
//! a command and a form that tries it, and the shapes.
//!
//! Everybody may read them, as the document. Only signed-in users can try an operation, and only one that they may call.

mod reference;
mod try_answer;
mod try_request;

use super::prose::ProsePart;
use super::user::{PostedBySession, SignedIn};
use super::{Frame, HtmlPage, PageError, filters, render};
use crate::api::ApiState;
use crate::api::extract::{Params, PathParams};
use crate::operations::Problem;
use crate::url_path::UrlPath;
use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use reference::{ApiOperation, ApiParameter, ApiShape, Caller, reference};
use serde::Deserialize;
use std::sync::Arc;
use try_answer::TryAnswer;
use try_request::{BODY, CONFIRM, TryFault, TryValues};

/// Query of the list.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ApiParams {
    /// Words of an operation.
    q: String,
}

/// Page for a signed-in user.
#[derive(Template)]
#[template(path = "api.html")]
struct ApiPage {
    frame: Frame,
    content: ApiContent,
}

/// Page for everybody.
#[derive(Template)]
#[template(path = "api_public.html")]
struct PublicApiPage {
    content: ApiContent,
}

/// Content of a page.
enum ApiContent {
    List(OperationList),
    One(Box<OperationView>),
    Shapes(&'static [ApiShape]),
}

impl ApiContent {
    fn title(&self) -> &str {
        match self {
            ApiContent::List(_) => "API",
            ApiContent::One(view) => &view.operation.id,
            ApiContent::Shapes(_) => "Shapes of the API",
        }
    }
}

/// Operations that a user may call, by group.
struct OperationList {
    q: String,
    groups: Vec<ListedGroup>,
    /// Number of operations that match the search.
    found: usize,
    /// Number of operations that need an admin key, which the user does not have.
    left_out: usize,
}

/// Group of the list. What does not match the search is hidden, so that a script can show it for another search.
struct ListedGroup {
    name: &'static str,
    is_hidden: bool,
    /// Operations, and whether each matches.
    operations: Vec<(&'static ApiOperation, bool)>,
}

/// Operation with its command, and with the form that tries it.
struct OperationView {
    operation: &'static ApiOperation,
    /// Shape of the body.
    shape: Option<&'static ApiShape>,
    curl: String,
    trial: Trial,
}

/// Form that tries an operation.
enum Trial {
    /// Nobody is signed in. With the path of the sign-in page.
    SignIn(String),
    /// The user's key may not call it.
    Forbidden,
    /// Its body is a file.
    File,
    Form(Box<TryForm>),
}

struct TryForm {
    csrf: String,
    fields: Vec<TryField>,
    /// Content type and text of the body. None: the operation has none.
    body: Option<(String, String)>,
    is_changing: bool,
    faults: Vec<TryFault>,
    answer: Option<TryAnswer>,
}

struct TryField {
    parameter: &'static ApiParameter,
    name: String,
    value: String,
    /// True for the tenant of a user who has one.
    is_fixed: bool,
}

impl TryForm {
    /// Returns the fault of a field. Empty: none.
    fn fault_of(&self, name: &str) -> &str {
        self.faults.iter().find(|(field, _)| field == name).map_or("", |(_, fault)| fault)
    }
}

/// User of the page, if there is a session.
type Reader = Result<SignedIn, PageError>;

/// Returns the user of a page. None: there is no session.
fn signed_in(reader: Reader) -> Result<Option<SignedIn>, PageError> {
    match reader {
        Ok(user) => Ok(Some(user)),
        Err(PageError::SignIn(_)) => Ok(None),
        Err(other) => Err(other),
    }
}

async fn show(state: &ApiState, user: Option<&SignedIn>, content: ApiContent) -> Result<HtmlPage, PageError> {
    match user {
        Some(user) => render(state, None, ApiPage { frame: Frame::of(user, state, "API"), content }).await,
        None => render(state, None, PublicApiPage { content }).await,
    }
}

/// Lists the operations.
pub(super) async fn page(
    reader: Reader,
    Params(params): Params<ApiParams>,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let user = signed_in(reader)?;
    let list = OperationList::of(params.q, user.as_ref());
    show(&state, user.as_ref(), ApiContent::List(list)).await
}

impl OperationList {
    fn of(q: String, user: Option<&SignedIn>) -> OperationList {
        let mut list = OperationList { groups: Vec::new(), found: 0, left_out: 0, q };
        for group in &reference().groups {
            let (may, others): (Vec<_>, Vec<_>) =
                group.operations.iter().partition(|operation| user.is_none_or(|user| may_call(user, operation)));
            list.left_out += others.len();
            let operations: Vec<_> =
                may.into_iter().map(|operation| (operation, operation.is_found(&list.q))).collect();
            let found = operations.iter().filter(|(_, is_found)| *is_found).count();
            list.found += found;
            if !operations.is_empty() {
                list.groups.push(ListedGroup { name: &group.name, is_hidden: found == 0, operations });
            }
        }
        list
    }
}

fn may_call(user: &SignedIn, operation: &ApiOperation) -> bool {
    operation.caller != Caller::Admin || user.key.is_admin()
}

/// Shows all shapes.
pub(super) async fn shapes(reader: Reader, State(state): State<Arc<ApiState>>) -> Result<HtmlPage, PageError> {
    let user = signed_in(reader)?;
    show(&state, user.as_ref(), ApiContent::Shapes(&reference().shapes)).await
}

/// Shows an operation.
pub(super) async fn operation(
    reader: Reader,
    path: PathParams,
    headers: HeaderMap,
    State(state): State<Arc<ApiState>>,
) -> Result<HtmlPage, PageError> {
    let user = signed_in(reader)?;
    let operation = named(&path)?;
    let tenant = user.as_ref().and_then(|user| user.home(&state)).unwrap_or_default();
    let values = TryValues::of_page(operation, &tenant.0);
    let curl = values.curl(operation, &base(&state, &headers));
    let trial = match &user {
        None => {
            Trial::SignIn(UrlPath::root().then("sign-in").query("next", format!("/api/{}", operation.id)).to_string())
        }
        Some(user) => trial(operation, user, values, Vec::new(), None),
    };
    let view = OperationView { operation, shape: shape(operation), curl, trial };
    show(&state, user.as_ref(), ApiContent::One(Box::new(view))).await
}

/// Tries an operation, and shows it with the answer.
pub(super) async fn try_operation(
    State(state): State<Arc<ApiState>>,
    path: PathParams,
    posted: PostedBySession,
) -> Result<Response, PageError> {
    let PostedBySession { user, form, head } = posted;
    let operation = named(&path)?;
    if !may_call(&user, operation) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "this needs an admin key").into());
    }
    let own = user.key.tenant.as_ref().map(|tenant| &*tenant.0);
    let values = TryValues::submitted(operation, &form, own);
    let curl = values.curl(operation, &base(&state, &head.headers));
    let mut faults = Vec::new();
    let mut answer = None;
    match values.request(operation) {
        Ok(request) => answer = Some(try_answer::send(state.clone(), &head, &user, request).await),
        Err(found) => faults = found,
    }
    let status = if faults.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let trial = trial(operation, &user, values, faults, answer);
    let view = OperationView { operation, shape: shape(operation), curl, trial };
    let page = show(&state, Some(&user), ApiContent::One(Box::new(view))).await?;
    Ok(page.with(status).into_response())
}

fn named(path: &PathParams) -> Result<&'static ApiOperation, Problem> {
    let id = path.get("operation");
    reference()
        .operation(id)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "not-found", format!("the API has no operation {id}")))
}

/// Returns the address of this host, for commands.
fn base(state: &ApiState, headers: &HeaderMap) -> String {
    state.link_for(headers, &UrlPath::root())
}

fn shape(operation: &ApiOperation) -> Option<&'static ApiShape> {
    reference().shape(&operation.body.as_ref()?.shape.name)
}

fn trial(
    operation: &'static ApiOperation,
    user: &SignedIn,
    values: TryValues,
    faults: Vec<TryFault>,
    answer: Option<TryAnswer>,
) -> Trial {
    if !may_call(user, operation) {
        return Trial::Forbidden;
    }
    if operation.body.as_ref().is_some_and(|body| body.text_kind.is_empty()) {
        return Trial::File;
    }
    let field = |(parameter, value): (&'static ApiParameter, String)| TryField {
        name: try_request::field_name(parameter),
        is_fixed: parameter.name == "t" && parameter.place == "path" && !user.key.is_admin(),
        parameter,
        value,
    };
    Trial::Form(Box::new(TryForm {
        csrf: user.session.csrf.clone(),
        fields: operation.parameters.iter().zip(values.parameters).map(field).collect(),
        body: operation.body.as_ref().map(|body| (body.text_kind.clone(), values.body)),
        is_changing: try_request::is_changing(operation),
        faults,
        answer,
    }))
}
