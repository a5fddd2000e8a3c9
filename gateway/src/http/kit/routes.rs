//! Routes that need a key. Each names its right where it is declared: the document says it, the [`Operator`] that the
//! handler takes is asked for it, and the API is put together from nothing else.
//!
//! [`Operator`]: crate::auth::Operator

use std::convert::Infallible;

use axum::Extension;
use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::Route;
use serde_json::json;
use tower::{Layer, Service};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::Operation;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::auth::Right;
use crate::http::state::AppState;

/// Routes under `/api/v1`.
#[derive(Default)]
pub struct Routes(OpenApiRouter<AppState>);

impl Routes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With what `routes!` makes of some handlers, for keys that have this right.
    pub fn with(self, right: Right, (schemas, mut paths, handlers): UtoipaMethodRouter<AppState>) -> Self {
        for item in paths.paths.values_mut() {
            let of_item = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            of_item.into_iter().flatten().for_each(|operation| describe(operation, right));
        }
        Self(self.0.routes((schemas, paths, handlers.route_layer(Extension(right)))))
    }

    /// With what anybody may ask, without a key.
    pub fn open(self, routes: UtoipaMethodRouter<AppState>) -> Self {
        Self(self.0.routes(routes))
    }

    /// With others.
    pub fn merge(self, others: Self) -> Self {
        Self(self.0.merge(others.0))
    }

    /// With a layer around all that are here so far.
    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request, Response: IntoResponse, Error: Into<Infallible>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        Self(self.0.layer(layer))
    }

    /// As a router, for whoever serves them.
    pub fn into_router(self) -> OpenApiRouter<AppState> {
        self.0
    }
}

/// Adds `x-right`, `x-roles` and a sentence about them to an operation.
fn describe(operation: &mut Operation, right: Right) {
    let roles: Vec<&str> = right.roles().map(|role| role.word()).collect();
    let whole = if right.is_of_installation() { " whose key names no festival" } else { "" };
    let said = format!("For {}{whole}.", roles.join(", "));
    let description = operation.description.take().map_or(said.clone(), |already| format!("{already}\n\n{said}"));
    operation.description = Some(description);
    let extensions = Extensions::builder().add("x-right", json!(format!("{right:?}"))).add("x-roles", json!(roles));
    operation.extensions.get_or_insert_default().merge(extensions.build());
}
