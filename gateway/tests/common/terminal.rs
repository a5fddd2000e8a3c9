//! A bar, a second one and a cash desk at the festival of [`super`], and guests with wristbands.

use engine::cashless::command::*;
use engine::cashless::view::WalletView;
use engine::command::*;
use engine::model::credential::wallet_text;
use engine::model::ids::*;
use engine::model::money::{Currency, Money};
use engine::model::rejection::Rejection;
use engine::view::{Query, View};
use tapgate_client::{DeviceKey, Identity, ReaderOptions, Shown, Terminal, Told, enrol_key};
use tapgate_wire::Offer;

use super::{House, ask};

pub const BAR: VendorNo = VendorNo(0);
pub const OTHER_BAR: VendorNo = VendorNo(1);

pub fn eur(minor: i64) -> Money {
    Money { minor, currency: Currency::EUR }
}

pub fn tag(n: u32) -> TagUid {
    let [a, b, c, d] = n.to_be_bytes();
    TagUid::new(&[0x04, a, b, c, d, 0x5A, 0x80]).unwrap()
}

pub fn line(product: u16, count: u16, price: i64) -> Line {
    Line { product: ProductNo(product), count, price }
}

/// Takes cashless payments, with `BAR` (10 % commission; beer 5.00, water 2.50) and `OTHER_BAR`.
pub async fn cashless(house: &House) {
    let festival = house.festival;
    cash(house, CashlessAction::SetPolicy { festival, policy: CashlessPolicy::default() }).await;
    for name in ["Bar 7", "Bar 8"] {
        let values = VendorValues {
            name: name.into(),
            commission_bp: 1_000,
            open: true,
            kind: engine::model::status::VendorKind::Bar,
        };
        cash(house, CashlessAction::PutVendor { festival, vendor: None, values }).await;
    }
    for (name, price) in [("Beer", 500), ("Water", 250)] {
        let values = ProductValues { name: name.into(), price, vat_bp: 1_900, on_sale: true };
        cash(house, CashlessAction::PutProduct { festival, vendor: BAR, product: None, values }).await;
    }
}

pub async fn cash(house: &House, action: CashlessAction) -> AdminAnswer {
    let answer = ask(&house.node, AdminAction::Cashless(action.clone())).await;
    assert!(!matches!(answer, AdminAnswer::Rejected(_)), "{action:?}: {answer:?}");
    answer
}

/// A terminal that was enrolled over the wire.
pub async fn enrolled(house: &House, vendor: Option<VendorNo>, cashier: bool) -> Identity {
    let code = format!("TILL-{}", house.codes.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let code_hash = gateway::auth::enrolment_code_hash(code.as_bytes());
    let (festival, name) = (house.festival, "Till".to_owned());
    cash(house, CashlessAction::OfferTerminal { festival, vendor, cashier, code_hash, name }).await;
    let offer = Offer::new(&house.addr.to_string(), house.tls.fingerprint, festival, &code).unwrap();
    enrol_key(None, &offer, DeviceKey::generate().unwrap()).await.expect("enrols")
}

pub async fn terminal(house: &House, vendor: Option<VendorNo>, cashier: bool) -> Terminal {
    let identity = enrolled(house, vendor, cashier).await;
    Terminal::connect(identity, ReaderOptions::default()).await.expect("connects")
}

/// A wallet with so much in it.
pub async fn guest(house: &House, number: u64, minor: i64) -> WalletId {
    let (wallet, festival) = (WalletId(number), house.festival);
    cash(house, CashlessAction::CreateWallet { wallet, festival, account: None }).await;
    if minor > 0 {
        let source = Source::new(SourceKind::Desk, festival, 1);
        cash(house, CashlessAction::TopUp { wallet, festival, amount: eur(minor), source, taken: true }).await;
    }
    wallet
}

/// The wristband names this wallet from now on; `replace`: in place of the one it has.
pub async fn link(house: &House, tag: TagUid, wallet: WalletId, replace: bool) {
    let festival = house.festival;
    cash(house, CashlessAction::LinkTag { tag, wallet, festival, replace, create: false }).await;
}

/// The tag names no wallet, or the one it is said to, at its own home too.
pub async fn settled(house: &House, tag: TagUid, wallet: Option<WalletId>) {
    for _ in 0..500 {
        match house.node.query(Query::Tag(tag)).await {
            View::Tag(view) if view.wallet == wallet => return,
            _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    }
    panic!("{tag:?} does not come to name {wallet:?}");
}

pub async fn wallet(house: &House, id: WalletId) -> WalletView {
    match house.node.query(Query::Wallet(id)).await {
        View::Wallet(view) => view,
        other => panic!("{other:?}"),
    }
}

/// What a guest's phone shows.
pub fn wallet_qr(house: &House, wallet: WalletId, version: u32) -> Vec<u8> {
    let key = house.secret.key(house.festival, version);
    wallet_text(&key.sign_wallet(wallet, house.festival, version)).into_bytes()
}

pub fn by_qr(house: &House, wallet: WalletId) -> Shown {
    Shown::Qr(wallet_qr(house, wallet, 1))
}

pub fn rejected(rejection: Rejection) -> CashlessVerdict {
    CashlessVerdict::Rejected(rejection)
}

/// What happened, and how much is left.
pub fn outcome(told: &Told) -> (CashlessVerdict, i64) {
    (told.answer.verdict, told.answer.balance)
}
