//! Vendors: the stands of a festival, with what the organiser takes of their sales.

use axum::Json;
use axum::extract::State;
use engine::cashless::command::{CashlessAction, VendorValues};
use engine::cashless::view::VendorView;
use engine::command::AdminAction;
use engine::command::ask::CreateVendor;
use engine::gates::view::brief::StandView;
use engine::model::ids::{FestivalId, VendorNo};
use engine::model::money::Currency;
use engine::view::question::GetStand;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::auth::{Operator, Right};
use crate::http::cashless::policy::cash_of;
use crate::http::cashless::products::Product;
use crate::http::kit::answer::{Created, Done};
use crate::http::kit::json::{VendorKind, money};
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{Change, Path};
use crate::http::kit::routes::Routes;
use crate::http::state::AppState;

/// The routes of this file.
pub fn router() -> Routes {
    Routes::new()
        .with(Right::ServeWallets, routes!(list_vendors))
        .with(Right::ManageCash, routes!(create_vendor))
        .with(Right::ServeWallets, routes!(show_vendor))
        .with(Right::ManageCash, routes!(change_vendor))
}

/// What a vendor is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VendorTerms {
    /// Its name, at most 200 bytes.
    #[schema(example = "Bar 7")]
    pub name: String,
    /// What it mostly sells; BAR unless told.
    #[serde(default = "a_bar")]
    #[schema(inline = false)]
    pub r#type: VendorKind,
    /// The organiser's part of each payment, in per cent.
    #[schema(example = "12.50")]
    pub commission_rate: String,
    /// Takes payments.
    #[serde(default = "open")]
    #[schema(default = true)]
    pub open: bool,
}

fn open() -> bool {
    true
}
fn a_bar() -> VendorKind {
    VendorKind(engine::model::status::VendorKind::Bar)
}

impl VendorTerms {
    fn values(self) -> Result<VendorValues, Problem> {
        let commission_bp = money::rate(&self.commission_rate, "/commissionRate")?;
        Ok(VendorValues { name: self.name, kind: self.r#type.0, commission_bp, open: self.open })
    }
}

/// A vendor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vendor {
    /// Its number, from 0.
    pub vendor: u16,
    /// Its id, as `POST /cashless/pay` wants it.
    #[schema(example = "1a2b3c4d-7")]
    pub vendor_id: String,
    /// Its name.
    pub name: String,
    /// What it mostly sells.
    pub r#type: VendorKind,
    /// The organiser's part of each payment, in per cent.
    #[schema(example = "12.50")]
    pub commission_rate: String,
    /// Takes payments.
    pub open: bool,
}

impl Vendor {
    fn of(festival: FestivalId, view: &VendorView) -> Self {
        Self {
            vendor: view.no.0,
            vendor_id: vendor_id(festival, view.no),
            name: view.values.name.clone(),
            r#type: VendorKind(view.values.kind),
            commission_rate: money::percent(view.values.commission_bp),
            open: view.values.open,
        }
    }
}

/// All vendors of a festival.
#[derive(Debug, Serialize, ToSchema)]
pub struct Vendors {
    /// By number.
    pub items: Vec<Vendor>,
}

/// A vendor with what it sells.
#[derive(Debug, Serialize, ToSchema)]
pub struct VendorAndProducts {
    #[serde(flatten)]
    pub vendor: Vendor,
    /// Its products, by number.
    pub products: Vec<Product>,
}

/// The vendor that was made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NumberedVendor {
    /// Its number.
    pub vendor: u16,
    /// Its id, as `POST /cashless/pay` wants it.
    #[schema(example = "1a2b3c4d-7")]
    pub vendor_id: String,
}

/// A vendor's id: its festival's number and its own.
pub fn vendor_id(festival: FestivalId, vendor: VendorNo) -> String {
    format!("{festival}-{}", vendor.0)
}

/// Reads [`vendor_id`] out of a body.
///
/// # Errors
/// `validation`.
pub fn vendor_at(text: &str, at: &str) -> Result<(FestivalId, VendorNo), Problem> {
    let parsed = text.split_once('-').and_then(|(festival, vendor)| {
        let hex = festival.len() == 8 && festival.bytes().all(|c| c.is_ascii_hexdigit());
        let festival = u32::from_str_radix(festival, 16).ok().filter(|_| hex)?;
        let digits = vendor.bytes().all(|c| c.is_ascii_digit());
        Some((FestivalId(festival), VendorNo(vendor.parse().ok().filter(|_| digits)?)))
    });
    parsed.ok_or_else(|| Problem::field(at, "must be a vendor's id, such as \"1a2b3c4d-7\""))
}

/// The festival's currency, and this vendor. Whoever calls has checked the operator's right.
///
/// # Errors
/// `not_cashless`, `unknown_vendor`.
pub(in crate::http) async fn vendor_of(
    state: &AppState,
    slug: &str,
    vendor: u16,
) -> Result<(Currency, VendorView), Problem> {
    let festival = state.about(slug).await?.id;
    let stand = state.get(GetStand(festival, VendorNo(vendor))).await?;
    let StandView { policy, vendor } = *stand;
    Ok((policy.currency, vendor))
}

/// Lists a festival's vendors.
#[utoipa::path(get, path = "/festivals/{slug}/vendors", tag = "vendors", params(("slug" = String, Path)),
    responses((status = 200, body = Vendors)))]
async fn list_vendors(
    State(state): State<AppState>,
    operator: Operator,
    Path(slug): Path<String>,
) -> Result<Json<Vendors>, Problem> {
    let festival = operator.at(&slug)?;
    let cash = cash_of(&state, &slug).await?;
    Ok(Json(Vendors { items: cash.vendors.iter().map(|view| Vendor::of(festival, view)).collect() }))
}

/// Shows a vendor with what it sells.
#[utoipa::path(get, path = "/festivals/{slug}/vendors/{vendor}", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path)), responses((status = 200, body = VendorAndProducts)))]
async fn show_vendor(
    State(state): State<AppState>,
    operator: Operator,
    Path((slug, vendor)): Path<(String, u16)>,
) -> Result<Json<VendorAndProducts>, Problem> {
    let festival = operator.at(&slug)?;
    let (currency, view) = vendor_of(&state, &slug, vendor).await?;
    let products = view.products.iter().map(|product| Product::of(product, currency)).collect();
    Ok(Json(VendorAndProducts { vendor: Vendor::of(festival, &view), products }))
}

/// Makes a vendor.
#[utoipa::path(post, path = "/festivals/{slug}/vendors", tag = "vendors", params(("slug" = String, Path)),
    request_body = VendorTerms, responses((status = 201, description = "It was made.", body = NumberedVendor)))]
async fn create_vendor(
    State(state): State<AppState>,
    Path(slug): Path<String>,
    change: Change<VendorTerms>,
) -> Result<Created<NumberedVendor>, Problem> {
    let festival = change.operator.at(&slug)?;
    let values = change.body.read()?.values()?;
    let create = CreateVendor { festival, values };
    let (vendor, replayed) = state.ask_for(&change.operator, change.key, create).await?;
    let location = format!("/api/v1/festivals/{slug}/vendors/{}", vendor.0);
    let body = NumberedVendor { vendor: vendor.0, vendor_id: vendor_id(festival, vendor) };
    Ok(Created { location, body, replayed })
}

/// Gives a vendor other values, opens or closes it. A new commission holds for payments from now on.
#[utoipa::path(put, path = "/festivals/{slug}/vendors/{vendor}", tag = "vendors",
    params(("slug" = String, Path), ("vendor" = u16, Path)),
    request_body = VendorTerms, responses((status = 204, description = "It is so, everywhere.")))]
async fn change_vendor(
    State(state): State<AppState>,
    Path((slug, vendor)): Path<(String, u16)>,
    change: Change<VendorTerms>,
) -> Result<Done, Problem> {
    let festival = change.operator.at(&slug)?;
    let values = change.body.read()?.values()?;
    let action = AdminAction::Cashless(CashlessAction::PutVendor { festival, vendor: Some(VendorNo(vendor)), values });
    state.ask_done(&change.operator, Some(change.key), action).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendors_id_reads_back() {
        let id = vendor_id(FestivalId(0x1A2B_3C4D), VendorNo(7));
        assert_eq!(id, "1a2b3c4d-7");
        assert_eq!(vendor_at(&id, "/vendorId").unwrap(), (FestivalId(0x1A2B_3C4D), VendorNo(7)));
        for bad in ["", "7", "1a2b3c4d", "1a2b3c4d-", "1a2b3c4d-+7", "1a2b3c4d-65536", "+a2b3c4d-7", "1a2b3c4g-7"] {
            assert_eq!(vendor_at(bad, "/vendorId").unwrap_err().errors()[0].pointer, "/vendorId", "{bad}");
        }
    }
}
