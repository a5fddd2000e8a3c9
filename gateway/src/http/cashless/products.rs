//! Products: what a vendor sells, at which price, with how much VAT in it.

use axum::extract::State;
use engine::cashless::command::{CashlessAction, ProductValues};
use engine::command::AdminAction;
use engine::command::ask::CreateProduct;
use engine::model::ids::{ProductNo, VendorNo};
use engine::model::money::Currency;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::Right;
use crate::http::cashless::policy::cashless_policy_of;
use crate::http::kit::answer::{Created, Done};
use crate::http::kit::json::money;
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Change, Path};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::ManageCash, routes!(create_product)).with(Right::ManageCash, routes!(change_product))
}

/// What a product is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProductTerms {
    /// Its name, at most 200 bytes.
    #[schema(example = "Lager 0.5 l")]
    pub name: String,
    /// What one costs, in the festival's currency.
    #[schema(example = "5.50")]
    pub price: String,
    /// The VAT in that, in per cent.
    #[schema(example = "19.00")]
    pub vat_rate: String,
    /// On sale.
    #[serde(default = "on_sale")]
    #[schema(default = true)]
    pub on_sale: bool,
}

fn on_sale() -> bool {
    true
}

impl ProductTerms {
    fn values(self, currency: Currency) -> Result<ProductValues, Problem> {
        let (price, vat_bp) =
            (money::price(&self.price, currency, "/price")?, money::rate(&self.vat_rate, "/vatRate")?);
        Ok(ProductValues { name: self.name, price, vat_bp, on_sale: self.on_sale })
    }
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    /// Its number at its vendor, from 0.
    pub product: u16,
    /// Its name.
    pub name: String,
    /// What one costs, in the festival's currency.
    #[schema(example = "5.50")]
    pub price: String,
    /// The VAT in that, in per cent.
    #[schema(example = "19.00")]
    pub vat_rate: String,
    /// On sale.
    pub on_sale: bool,
}

impl Product {
    pub(in crate::http) fn of((no, values): &(ProductNo, ProductValues), currency: Currency) -> Self {
        Self {
            product: no.0,
            name: values.name.clone(),
            price: currency.text(values.price),
            vat_rate: money::percent(values.vat_bp),
            on_sale: values.on_sale,
        }
    }
}

/// The product that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct NumberedProduct {
    /// Its number at its vendor.
    pub product: u16,
}

/// Makes a product.
#[utoipa::path(post, path = "/festivals/{slug}/vendors/{vendor}/products", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path)),
    request_body = ProductTerms, responses((status = 201, description = "It was made.", body = NumberedProduct)))]
async fn create_product(
    State(state): State<AppState>,
    Path((slug, vendor)): Path<(String, u16)>,
    change: Change<ProductTerms>,
) -> Result<Created<NumberedProduct>, Problem> {
    let festival = change.operator.at(&slug)?;
    let values = change.body.read()?;
    let values = values.values(cashless_policy_of(&state, &slug).await?.currency)?;
    let create = CreateProduct { festival, vendor: VendorNo(vendor), values };
    let (product, replayed) = state.ask_for(&change.operator, change.key, create).await?;
    // It is shown with its vendor.
    let location = format!("/api/v1/festivals/{slug}/vendors/{vendor}");
    Ok(Created { location, body: NumberedProduct { product: product.0 }, replayed })
}

/// Gives a product other values, puts it on sale or takes it off.
#[utoipa::path(put, path = "/festivals/{slug}/vendors/{vendor}/products/{product}", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path), ("product" = u16, Path)),
    request_body = ProductTerms, responses((status = 204, description = "It is so, everywhere.")))]
async fn change_product(
    State(state): State<AppState>,
    Path((slug, vendor, product)): Path<(String, u16, u16)>,
    change: Change<ProductTerms>,
) -> Result<Done, Problem> {
    let festival = change.operator.at(&slug)?;
    let values = change.body.read()?;
    let values = values.values(cashless_policy_of(&state, &slug).await?.currency)?;
    let (vendor, product) = (VendorNo(vendor), Some(ProductNo(product)));
    let put = CashlessAction::PutProduct { festival, vendor, product, values };
    state.ask_done(&change.operator, Some(change.key), AdminAction::Cashless(put)).await
}
