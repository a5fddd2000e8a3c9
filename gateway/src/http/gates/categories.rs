//! Categories: what a kind of ticket costs, how many there are, where and when they let in.

use axum::extract::State;
use engine::command::AdminAction;
use engine::command::ask::CreateCategory;
use engine::gates::command::CategoryValues;
use engine::gates::view::CategoryView;
use engine::model::ids::{CategoryNo, ZONES_MAX, ZoneNo};
use engine::model::rejection::Rejection;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::Right;
use crate::http::gates::zones::zone_no;
use crate::http::kit::answer::{Created, Done};
use crate::http::kit::json::{CategoryKind, Moment, Price};
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Change, Path};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::ManageFestival, routes!(create_category))
        .with(Right::ManageFestival, routes!(change_category))
}

/// What a category says of its tickets.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CategoryTerms {
    /// Its name, at most 200 bytes.
    #[schema(example = "Weekend")]
    pub name: String,
    /// Which kind.
    pub kind: CategoryKind,
    /// What one costs.
    pub price: Price,
    /// How many there can be.
    #[schema(example = 20000)]
    pub quota: u32,
    /// The numbers of the zones it lets into.
    #[schema(example = json!([0, 1]), max_items = 64)]
    pub zones: Vec<u8>,
    /// From when it lets in.
    pub valid_from: Moment,
    /// Until when; the first moment it no longer does.
    pub valid_until: Moment,
}

impl CategoryTerms {
    fn values(self) -> Result<CategoryValues, Problem> {
        if self.valid_until.0 <= self.valid_from.0 {
            return Err(Problem::from(Rejection::InvalidValue).at("/validUntil", "it ends before it starts"));
        }
        let zones = self.zones.iter().try_fold(0, |mask, &zone| Ok::<_, Problem>(mask | zone_no(zone)?.bit()))?;
        Ok(CategoryValues {
            price: self.price.money("/price")?,
            name: self.name,
            kind: self.kind.0,
            quota: self.quota,
            zones,
            valid_from: self.valid_from.0,
            valid_until: self.valid_until.0,
        })
    }
}

/// The numbers of the zones in a mask.
pub fn zones_of(mask: u64) -> Vec<u8> {
    (0..ZONES_MAX as u8).filter(|&no| mask & ZoneNo(no).bit() != 0).collect()
}

/// A category.
#[derive(Debug, Serialize, ToSchema)]
pub struct Category {
    /// Its number, from 0.
    pub category: u16,
    /// What it says of its tickets.
    #[serde(flatten)]
    pub terms: CategoryTerms,
    /// Tickets ever issued.
    pub issued: u32,
    /// Tickets that take a place now (RESERVED, SOLD, USED).
    pub live: u32,
    /// Of these, those that have entered.
    pub used: u32,
}

impl From<&CategoryView> for Category {
    fn from(view: &CategoryView) -> Self {
        let values = &view.values;
        let terms = CategoryTerms {
            name: values.name.clone(),
            kind: CategoryKind(values.kind),
            price: values.price.into(),
            quota: values.quota,
            zones: zones_of(values.zones),
            valid_from: Moment(values.valid_from),
            valid_until: Moment(values.valid_until),
        };
        Self { category: view.no.0, terms, issued: view.issued, live: view.live, used: view.used }
    }
}

/// The category that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct NumberedCategory {
    /// Its number.
    pub category: u16,
}

/// Makes a category.
#[utoipa::path(post, path = "/festivals/{slug}/categories", tag = "categories",
    params(("slug" = String, Path)), request_body = CategoryTerms,
    responses((status = 201, description = "It was made.", body = NumberedCategory)))]
async fn create_category(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<CategoryTerms>,
) -> Result<Created<NumberedCategory>, Problem> {
    let festival = change.operator.at(&slug)?;
    let values = change.body.read()?.values()?;
    let (category, replayed) = state.ask_for(&change.operator, change.key, CreateCategory { festival, values }).await?;
    // It has no page of its own: it is shown with its festival.
    let location = format!("/api/v1/festivals/{slug}");
    Ok(Created { location, body: NumberedCategory { category: category.0 }, replayed })
}

/// Gives a category other terms. Tickets issued before follow them from the next scan on.
#[utoipa::path(put, path = "/festivals/{slug}/categories/{category}", tag = "categories", params(("slug" = String, Path), ("category" = u16, Path)),
    request_body = CategoryTerms, responses((status = 204, description = "It is so.")))]
async fn change_category(
    State(state): State<AppState>,
    Path((slug, category)): Path<(String, u16)>,
    change: Change<CategoryTerms>,
) -> Result<Done, Problem> {
    let festival = change.operator.at(&slug)?;
    let values = change.body.read()?.values()?;
    let action = AdminAction::PutCategory { festival, category: Some(CategoryNo(category)), values };
    state.ask_done(&change.operator, Some(change.key), action).await
}
