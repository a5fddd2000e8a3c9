//! Who asks: the operator's key that a request brings, looked up at each request. A handler that takes an [`Operator`] needs
//! a key, and its route names the right that is asked for ([`Routes`](crate::http::kit::routes::Routes)).

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use engine::model::rejection::Rejection;
use engine::model::status::Role;
use engine::view::{ApiKeyView, Query, View};

use crate::auth::{Denied, Operator, Right, key_hash};
use crate::http::kit::asking;
use crate::http::kit::limits::Shown;
use crate::http::kit::problem::{Fault, Problem};
use crate::http::state::AppState;

impl FromRequestParts<AppState> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let unknown = || Problem::from(Fault::NotSignedIn);
        // A handler that is served without one lets nobody in.
        let right = *parts.extensions.get::<Right>().ok_or(Rejection::Internal)?;
        // Behind the control socket, it is known who asks.
        if let Some(key) = parts.extensions.get::<ApiKeyView>() {
            return Self::of(key, right).ok_or_else(unknown);
        }
        let header = parts.headers.get(AUTHORIZATION).ok_or_else(unknown)?;
        let (scheme, key) = header.to_str().ok().and_then(|h| h.split_once(' ')).ok_or_else(unknown)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unknown());
        }
        // What cannot be a key costs the shard nothing.
        let hash = key_hash(key.trim()).ok_or_else(unknown)?;
        let shown = parts.extensions.get::<Shown>();
        let found = state.node.query(Query::ApiKey(hash)).await;
        let operator = match &found {
            View::ApiKey(view) => Self::of(view, right),
            View::No(Rejection::UnknownKey) => None,
            View::No(rejection) => return Err((*rejection).into()),
            _ => return Err(Rejection::Internal.into()),
        };
        if let Some(shown) = shown {
            shown.is(operator.is_some());
        }
        let operator = operator.ok_or_else(unknown)?;
        asking::is(operator.no);
        Ok(operator)
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown(rejection) => rejection.into(),
            Denied::Forbidden { role } => {
                let scope = if role == Role::Admin { " bound to festivals" } else { "" };
                Self::from(Fault::Forbidden).detail(format!("A key of role {}{scope} may not do this.", role.word()))
            }
        }
    }
}
