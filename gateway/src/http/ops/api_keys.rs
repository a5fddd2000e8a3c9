//! Operators' keys: made, listed, revoked, by an ADMIN of the whole installation.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use engine::command::AdminAction;
use engine::command::ask::CreateApiKey;
use engine::model::ids::FestivalId;
use engine::model::rejection::Rejection;
use engine::model::status;
use engine::view::ApiKeyView;
use engine::view::question::{GetApiKeys, GetFestivals};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right, key_hash};
use crate::http::kit::answer::{Created, Done, unexpected_answer};
use crate::http::kit::json::{Moment, Role};
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Change, Path, call_hash, idempotency_key, key_header};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::ManageKeys, routes!(list_keys, create_key)).with(Right::ManageKeys, routes!(revoke_key))
}

/// A key that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What it is for, at most 200 bytes.
    #[schema(example = "Box office, south")]
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The slugs of the festivals it may do it at, at most 64. None means all of them, for ADMIN only.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub festivals: Vec<String>,
}

/// The key that was made. It is shown here and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownKey {
    /// Its number.
    pub no: u32,
    /// The key. Whoever has it is the operator.
    #[schema(example = "tgk_Zk3v…")]
    pub key: String,
}

/// A key, without the key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Its number.
    pub no: u32,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// At which festivals, by slug; empty means all.
    pub festivals: Vec<String>,
    /// When it was made.
    pub created_at: Moment,
    /// It is refused.
    pub revoked: bool,
}

/// All keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct Keys {
    /// By number.
    pub items: Vec<Key>,
}

/// Lists all keys, revoked ones too.
#[utoipa::path(get, path = "/keys", tag = "keys", responses((status = 200, body = Keys)))]
async fn list_keys(State(state): State<AppState>, operator: Operator) -> Result<Json<Keys>, Problem> {
    operator.may()?;
    let keys = state.get(GetApiKeys).await?;
    let festivals = state.get(GetFestivals).await?;
    let slugs: BTreeMap<FestivalId, String> = festivals.into_iter().map(|view| (view.id, view.slug)).collect();
    Ok(Json(Keys { items: keys.into_iter().map(|view| show(view, &slugs)).collect() }))
}

fn show(view: ApiKeyView, slugs: &BTreeMap<FestivalId, String>) -> Key {
    let slug = |id: &FestivalId| slugs.get(id).cloned().unwrap_or_else(|| id.to_string());
    Key {
        no: view.no,
        name: view.name,
        role: Role(view.role),
        festivals: view.festivals.iter().map(slug).collect(),
        created_at: Moment(view.created_at),
        revoked: view.revoked,
    }
}

/// Whether a key may have this role, over the API as on the command line.
pub fn is_for_keys(role: status::Role) -> bool {
    role != status::Role::User
}

/// The roles for which that says yes, in words.
pub const KEY_ROLES: &str = "ADMIN, ORGANIZER, STAFF, CASHIER and SECURITY";

/// Makes a key.
#[utoipa::path(post, path = "/keys", tag = "keys", request_body = NewKey,
    responses((status = 201, description = "It was made.", body = ShownKey)))]
async fn create_key(State(state): State<AppState>, change: Change<NewKey>) -> Result<Created<ShownKey>, Problem> {
    change.operator.may()?;
    let NewKey { name, role, festivals } = change.body.read()?;
    if !is_for_keys(role.0) {
        return Err(Problem::field("/role", format!("keys are for {KEY_ROLES}")));
    }
    if festivals.is_empty() && role.0 != status::Role::Admin {
        return Err(Problem::field("/festivals", "a festival is needed: only an ADMIN's key may be for all of them"));
    }
    // The keys' home does not know the festivals': a slip of the pen would make a key that opens nothing.
    for (i, slug) in festivals.iter().enumerate() {
        state.about(slug).await.map_err(|problem| match problem.code() {
            code if code == Rejection::UnknownFestival.code() => {
                Problem::field(format!("/festivals/{i}"), "there is no such festival")
            }
            _ => problem,
        })?;
    }
    let key = state.one_time.api_key(&change.key);
    let hash = key_hash(&key).ok_or_else(unexpected_answer)?;
    let festivals = festivals.iter().map(|slug| FestivalId::of_slug(slug)).collect();
    let create = CreateApiKey { hash, role: role.0, festivals, name };
    let (no, replayed) = state.ask_for(&change.operator, change.key, create).await?;
    Ok(Created { location: "/api/v1/keys".into(), body: ShownKey { no, key }, replayed })
}

/// Revokes a key: it is refused from the next request on.
#[utoipa::path(delete, path = "/keys/{no}", tag = "keys", params(("no" = u32, Path)),
    responses((status = 204, description = "It is so.")))]
async fn revoke_key(
    State(state): State<AppState>,
    operator: Operator,
    Path(no): Path<u32>,
    headers: HeaderMap,
    parts: Parts,
) -> Result<Done, Problem> {
    operator.may()?;
    // Revoking twice is revoking once, so this may come without a key; one that comes is kept to.
    let key = key_header(&headers)?.map(|header| idempotency_key(&operator, header, &call_hash(&parts)));
    state.ask_done(&operator, key, AdminAction::RevokeApiKey { key: no }).await
}
