//! How a festival takes cashless payments: its currency and its limits.

use axum::Json;
use axum::extract::State;
use engine::cashless::command::{CashlessAction, CashlessPolicy};
use engine::cashless::view::CashlessView;
use engine::command::AdminAction;
use engine::view::question::{GetCashless, GetCashlessPolicy};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::kit::answer::Done;
use crate::http::kit::json::money;
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Change, Path};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new().with(Right::ServeWallets, routes!(show_cash_policy)).with(Right::ManageCash, routes!(set_cash_policy))
}

/// A festival's cashless policy. Amounts are decimal text in its currency, with as many places as that has: `5.00` euros,
/// `500` yen. For euros each limit has a default; in another currency a festival must say its own.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cashless {
    /// ISO 4217, of all its prices and wallets. It can be changed until money has moved (`currency_in_use`); products are
    /// then off sale until their prices are said anew.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    pub currency: String,
    /// The least top-up; 5.00 for euros unless told.
    #[schema(example = "5.00")]
    pub min_topup: Option<String>,
    /// The largest top-up; 500.00 for euros unless told.
    #[schema(example = "500.00")]
    pub max_topup: Option<String>,
    /// The most that a wallet may hold through top-ups and incoming transfers; 1000.00 for euros unless told.
    #[schema(example = "1000.00")]
    pub max_balance: Option<String>,
    /// The least payment; the currency's smallest unit unless told.
    #[schema(example = "0.01")]
    pub min_payment: Option<String>,
    /// Wallets that another festival issued are taken too.
    #[serde(default)]
    pub foreign_wallets: bool,
}

impl From<CashlessPolicy> for Cashless {
    fn from(policy: CashlessPolicy) -> Self {
        let text = |minor| Some(policy.currency.text(minor));
        Self {
            currency: policy.currency.as_str().to_owned(),
            min_topup: text(policy.min_topup),
            max_topup: text(policy.max_topup),
            max_balance: text(policy.max_balance),
            min_payment: text(policy.min_payment),
            foreign_wallets: policy.foreign_wallets,
        }
    }
}

impl Cashless {
    /// What is left out has a default in euros. In any other currency a number of ours could be a fortune or nothing, so
    /// the festival has to say its own; the least payment is the smallest unit there is.
    fn policy(&self) -> Result<CashlessPolicy, Problem> {
        let currency = money::currency(&self.currency, "/currency")?;
        let euros = CashlessPolicy::default();
        let limit = |said: &Option<String>, default: i64, at: &str| match said {
            Some(text) => money::price(text, currency, at),
            None if currency == euros.currency => Ok(default),
            None => Err(Problem::field(at, "is needed: only a festival in EUR has a default")),
        };
        let least = self.min_payment.as_deref().map_or(Ok(1), |text| money::price(text, currency, "/minPayment"));
        Ok(CashlessPolicy {
            currency,
            min_topup: limit(&self.min_topup, euros.min_topup, "/minTopup")?,
            max_topup: limit(&self.max_topup, euros.max_topup, "/maxTopup")?,
            max_balance: limit(&self.max_balance, euros.max_balance, "/maxBalance")?,
            min_payment: least?,
            foreign_wallets: self.foreign_wallets,
        })
    }
}

/// A festival's policy and vendors. Whoever calls has checked the operator's right.
///
/// # Errors
/// `not_cashless` for a festival that takes no cashless payments.
pub(in crate::http) async fn cash_of(state: &AppState, slug: &str) -> Result<Box<CashlessView>, Problem> {
    let festival = state.about(slug).await?.id;
    state.get(GetCashless(festival)).await
}

/// A festival's policy alone.
///
/// # Errors
/// As [`cash_of`].
pub(in crate::http) async fn cashless_policy_of(state: &AppState, slug: &str) -> Result<CashlessPolicy, Problem> {
    let festival = state.about(slug).await?.id;
    state.get(GetCashlessPolicy(festival)).await
}

/// Shows how a festival takes cashless payments.
#[utoipa::path(get, path = "/festivals/{slug}/cashless", tag = "cashless", params(("slug" = String, Path)),
    responses((status = 200, body = Cashless)))]
async fn show_cash_policy(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
) -> Result<Json<Cashless>, Problem> {
    operator.at(&slug)?;
    Ok(Json(cashless_policy_of(&state, &slug).await?.into()))
}

/// Makes a festival take cashless payments, or sets other limits, from the next command on.
#[utoipa::path(put, path = "/festivals/{slug}/cashless", tag = "cashless", params(("slug" = String, Path)),
    request_body = Cashless, responses((status = 204, description = "It is so, everywhere.")))]
async fn set_cash_policy(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<Cashless>,
) -> Result<Done, Problem> {
    let festival = change.operator.at(&slug)?;
    let policy = change.body.read()?.policy()?;
    let action = AdminAction::Cashless(CashlessAction::SetPolicy { festival, policy });
    state.ask_done(&change.operator, Some(change.key), action).await
}
