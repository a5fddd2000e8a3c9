//! How a festival takes cashless payments: its currency and its limits.

use axum::Json;
use axum::extract::State;
use engine::command::{CashAction, CashPolicy, OfficeAction};
use engine::money::Currency;
use engine::view::{CashView, Query, View};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::amount;
use crate::auth::{Operator, Right};
use crate::http::AppState;
use crate::http::answer::{Done, odd};
use crate::http::problem::Problem;
use crate::http::request::{Change, Path};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show_cash_policy, set_cash_policy))
}

/// A festival's cashless policy. Amounts are decimal text in its currency.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cashless {
    /// ISO 4217, of all its prices and wallets. It cannot be changed later.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    pub currency: String,
    /// The least top-up.
    #[serde(default = "min_topup")]
    #[schema(example = "5.00")]
    pub min_topup: String,
    /// The largest top-up.
    #[serde(default = "max_topup")]
    #[schema(example = "500.00")]
    pub max_topup: String,
    /// The most that a wallet may hold through top-ups and incoming transfers.
    #[serde(default = "max_balance")]
    #[schema(example = "1000.00")]
    pub max_balance: String,
    /// The least payment.
    #[serde(default = "min_payment")]
    #[schema(example = "0.01")]
    pub min_payment: String,
    /// Wallets that another festival issued are taken too.
    #[serde(default)]
    pub foreign_wallets: bool,
}

fn min_topup() -> String {
    amount::text(CashPolicy::default().min_topup)
}
fn max_topup() -> String {
    amount::text(CashPolicy::default().max_topup)
}
fn max_balance() -> String {
    amount::text(CashPolicy::default().max_balance)
}
fn min_payment() -> String {
    amount::text(CashPolicy::default().min_payment)
}

impl From<CashPolicy> for Cashless {
    fn from(policy: CashPolicy) -> Self {
        Self {
            currency: policy.currency.as_str().to_owned(),
            min_topup: amount::text(policy.min_topup),
            max_topup: amount::text(policy.max_topup),
            max_balance: amount::text(policy.max_balance),
            min_payment: amount::text(policy.min_payment),
            foreign_wallets: policy.foreign_wallets,
        }
    }
}

impl Cashless {
    fn policy(&self) -> Result<CashPolicy, Problem> {
        let wrong = || Problem::field("/currency", "must be three capital letters, such as \"EUR\"");
        Ok(CashPolicy {
            currency: Currency::parse(&self.currency).ok_or_else(wrong)?,
            min_topup: amount::price(&self.min_topup, "/minTopup")?,
            max_topup: amount::price(&self.max_topup, "/maxTopup")?,
            max_balance: amount::price(&self.max_balance, "/maxBalance")?,
            min_payment: amount::price(&self.min_payment, "/minPayment")?,
            foreign_wallets: self.foreign_wallets,
        })
    }
}

impl AppState {
    /// A festival's policy and vendors. Whoever calls has checked the operator's right.
    ///
    /// # Errors
    /// `not_cashless` for a festival that takes no cashless payments.
    pub(super) async fn cash_of(&self, slug: &str) -> Result<Box<CashView>, Problem> {
        let festival = self.about(slug).await?.id;
        let View::Cash(view) = self.look(Query::Cash(festival)).await? else { return Err(odd()) };
        Ok(view)
    }

    /// A festival's policy alone.
    ///
    /// # Errors
    /// As [`AppState::cash_of`].
    pub(super) async fn cash_policy_of(&self, slug: &str) -> Result<CashPolicy, Problem> {
        let festival = self.about(slug).await?.id;
        let View::CashPolicy(policy) = self.look(Query::CashPolicy(festival)).await? else { return Err(odd()) };
        Ok(policy)
    }
}

/// Shows how a festival takes cashless payments.
#[utoipa::path(get, path = "/festivals/{slug}/cashless", tag = "cashless", params(("slug" = String, Path)),
    responses((status = 200, body = Cashless)))]
async fn show_cash_policy(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
) -> Result<Json<Cashless>, Problem> {
    operator.at(Right::ServeWallets, &slug)?;
    Ok(Json(state.cash_policy_of(&slug).await?.into()))
}

/// Makes a festival take cashless payments, or sets other limits, from the next command on.
#[utoipa::path(put, path = "/festivals/{slug}/cashless", tag = "cashless", params(("slug" = String, Path)),
    request_body = Cashless, responses((status = 204, description = "It is so, everywhere.")))]
async fn set_cash_policy(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<Cashless>,
) -> Result<Done, Problem> {
    let festival = change.operator.at(Right::ManageCash, &slug)?;
    let policy = change.body.read()?.policy()?;
    let action = OfficeAction::Cash(CashAction::SetPolicy { festival, policy });
    state.ask_done(&change.operator, Some(change.key), action).await
}
