//! Which right each operation asks for, as the document says it. `gateway/tests/http/rights.rs` holds every line against
//! what the handlers really let pass, and finds an operation that is not here.

use serde_json::json;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{HttpMethod, Operation};

use crate::auth::Right;

/// Method, path below `/api/v1`, right.
const RIGHTS: &[(&str, &str, Right)] = &[
    ("POST", "/festivals", Right::CreateFestivals),
    ("GET", "/keys", Right::ManageKeys),
    ("POST", "/keys", Right::ManageKeys),
    ("DELETE", "/keys/{no}", Right::ManageKeys),
    ("POST", "/festivals/{slug}/status", Right::ManageFestival),
    ("PUT", "/festivals/{slug}", Right::ManageFestival),
    ("POST", "/festivals/{slug}/reset-scans", Right::ManageFestival),
    ("POST", "/devices/{device}/readmit", Right::ManageFestival),
    ("POST", "/tickets/{ticket}/restore", Right::ManageFestival),
    ("PUT", "/festivals/{slug}/policy", Right::ManageFestival),
    ("POST", "/festivals/{slug}/qr-keys/rotate", Right::ManageFestival),
    ("POST", "/festivals/{slug}/zones", Right::ManageFestival),
    ("PUT", "/festivals/{slug}/zones/{zone}", Right::ManageFestival),
    ("POST", "/festivals/{slug}/gates", Right::ManageFestival),
    ("POST", "/festivals/{slug}/categories", Right::ManageFestival),
    ("PUT", "/festivals/{slug}/categories/{category}", Right::ManageFestival),
    ("GET", "/festivals", Right::LookUp),
    ("GET", "/festivals/{slug}", Right::LookUp),
    ("GET", "/festivals/{slug}/zones/{zone}/inside", Right::LookUp),
    ("GET", "/festivals/{slug}/live", Right::LookUp),
    ("GET", "/festivals/{slug}/live/stream", Right::LookUp),
    ("GET", "/festivals/{slug}/access-log", Right::LookUp),
    ("GET", "/festivals/{slug}/counts", Right::LookUp),
    ("GET", "/tickets/{ticket}", Right::LookUp),
    ("GET", "/festivals/{slug}/tickets/by-code/{code}", Right::LookUp),
    ("GET", "/tickets/{ticket}/history", Right::LookUp),
    ("POST", "/festivals/{slug}/zones/{zone}/state", Right::SteerZones),
    ("POST", "/festivals/{slug}/tickets", Right::ManageTickets),
    ("GET", "/festivals/{slug}/tickets", Right::ManageTickets),
    ("GET", "/tickets/{ticket}/qr.svg", Right::ManageTickets),
    ("POST", "/tickets/{ticket}/status", Right::ManageTickets),
    ("POST", "/tickets/{ticket}/tag", Right::ManageTickets),
    ("POST", "/tickets/{ticket}/tag/lost", Right::ManageTickets),
    ("POST", "/tickets/{ticket}/block", Right::BlockTickets),
    ("POST", "/tickets/{ticket}/unblock", Right::BlockTickets),
    ("POST", "/tickets/{ticket}/undo-scan", Right::UndoScans),
    ("POST", "/tickets/{ticket}/admit", Right::AdmitByHand),
    ("POST", "/festivals/{slug}/devices/enrolment-codes", Right::ManageDevices),
    ("GET", "/festivals/{slug}/devices", Right::ManageDevices),
    ("GET", "/devices/{device}", Right::ManageDevices),
    ("POST", "/devices/{device}/revoke", Right::ManageDevices),
    ("POST", "/festivals/{slug}/terminals/enrolment-codes", Right::ManageDevices),
    ("GET", "/festivals/{slug}/terminals", Right::ManageDevices),
    ("PUT", "/festivals/{slug}/cashless", Right::ManageCashless),
    ("POST", "/festivals/{slug}/vendors", Right::ManageCashless),
    ("PUT", "/festivals/{slug}/vendors/{vendor}", Right::ManageCashless),
    ("POST", "/festivals/{slug}/vendors/{vendor}/products", Right::ManageCashless),
    ("PUT", "/festivals/{slug}/vendors/{vendor}/products/{product}", Right::ManageCashless),
    ("GET", "/wristbands/{uid}", Right::ServeWallets),
    ("POST", "/wristbands/{uid}/lost", Right::ServeWallets),
    ("GET", "/festivals/{slug}/cashless", Right::ServeWallets),
    ("GET", "/festivals/{slug}/vendors", Right::ServeWallets),
    ("GET", "/festivals/{slug}/vendors/{vendor}", Right::ServeWallets),
    ("GET", "/cashless/account", Right::ServeWallets),
    ("PUT", "/cashless/account", Right::ServeWallets),
    ("POST", "/cashless/wallets", Right::ServeWallets),
    ("POST", "/festivals/{slug}/wallets", Right::ServeWallets),
    ("POST", "/cashless/wallets/{wallet}/claim", Right::ServeWallets),
    ("POST", "/cashless/wallets/{wallet}/tag", Right::ServeWallets),
    ("POST", "/cashless/wallets/{wallet}/tag/lost", Right::ServeWallets),
    ("GET", "/cashless/wallets/{wallet}/qr.svg", Right::ServeWallets),
    ("GET", "/cashless/wallets/{wallet}/history", Right::ServeWallets),
    ("POST", "/cashless/topup", Right::TakeCash),
    ("POST", "/cashless/cash-out", Right::TakeCash),
    ("POST", "/cashless/account/merge", Right::MoveMoney),
    ("POST", "/cashless/pay", Right::MoveMoney),
    ("POST", "/cashless/refund", Right::MoveMoney),
    ("POST", "/cashless/transfer", Right::MoveMoney),
    ("POST", "/cashless/wallets/{wallet}/block", Right::MoveMoney),
    ("POST", "/cashless/wallets/{wallet}/unblock", Right::MoveMoney),
    ("GET", "/cashless/transactions/{transaction}", Right::MoveMoney),
    ("GET", "/festivals/{slug}/transactions", Right::MoveMoney),
    ("GET", "/festivals/{slug}/vendors/{vendor}/orders", Right::MoveMoney),
    ("POST", "/cashless/correction", Right::CorrectBalances),
    ("GET", "/festivals/{slug}/vendors/{vendor}/sales/hours", Right::SeeBooks),
    ("GET", "/festivals/{slug}/vendors/{vendor}/sales/days", Right::SeeBooks),
    ("GET", "/festivals/{slug}/vendors/{vendor}/sales/terminals", Right::SeeBooks),
    ("GET", "/festivals/{slug}/vendors/{vendor}/sales/products", Right::SeeBooks),
    ("GET", "/festivals/{slug}/vendors/{vendor}/sales/vat", Right::SeeBooks),
    ("GET", "/festivals/{slug}/settlement", Right::SeeBooks),
    ("GET", "/ledger/{slug}/entries", Right::SeeBooks),
    ("GET", "/ledger/{slug}/accounts", Right::SeeBooks),
    ("GET", "/ledger/{slug}/trial-balance", Right::SeeBooks),
];

/// Adds `x-right`, `x-roles` and a sentence about them to an operation that needs a key.
pub(super) fn say(operation: &mut Operation, method: &HttpMethod, path: &str) {
    let Some(path) = path.strip_prefix("/api/v1") else { return };
    let method = word(method);
    let Some((.., right)) = RIGHTS.iter().find(|(of, at, _)| (*of, *at) == (method, path)) else { return };
    let roles: Vec<&str> = right.roles().map(|role| role.word()).collect();
    let whole = if right.is_of_installation() { " whose key names no festival" } else { "" };
    let said = format!("For {}{whole}.", roles.join(", "));
    let description = operation.description.take().map_or(said.clone(), |already| format!("{already}\n\n{said}"));
    operation.description = Some(description);
    let extensions = Extensions::builder().add("x-right", json!(format!("{right:?}"))).add("x-roles", json!(roles));
    operation.extensions.get_or_insert_default().merge(extensions.build());
}

fn word(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Get => "GET",
        HttpMethod::Post => "POST",
        HttpMethod::Put => "PUT",
        HttpMethod::Delete => "DELETE",
        _ => "",
    }
}
