//! What the demo needs to take money: stands with what they sell, wallets with wristbands and money on them. Each step
//! looks at what is there first, so that a start that was broken off is finished by the next one.

use std::path::Path;
use std::time::Duration;

use actors::Node;
use engine::cashless::command::{CashlessAction, CashlessPolicy, ProductValues, Source, SourceKind, VendorValues};
use engine::cashless::view::WalletView;
use engine::command::{AdminAction, AdminAnswer, AdminCommand};
use engine::model::ids::{FestivalId, TagUid, VendorNo, WalletId};
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::VendorKind;
use engine::view::{Query, View};
use futures_util::{StreamExt as _, stream};
use sha2::{Digest, Sha256};

use crate::demo::customers::{Drinkers, Item, Vendor, Visitor};
use crate::demo::festival::{DemoError, ask, secret};

/// Wallets, each with a wristband.
pub const WALLETS: u32 = 20_000;
/// Wallets are set up so many at once: their answers share the journal's groups.
const AT_ONCE: usize = 1_024;
/// The first wristbands were reported lost, the next wallets are blocked; somebody comes with them all the same.
const LOST: u32 = 60;
const BLOCKED: u32 = 30;
/// What is on a new wristband, in cents: one of these.
const FIRST_MONEY: [i64; 4] = [2_000, 3_000, 5_000, 8_000];
/// How often somebody asks again who was told to come later.
const PATIENCE: u32 = 200;
const BUSY_WAIT: Duration = Duration::from_millis(25);

/// Name, commission in basis points, how much it draws, terminals, what it sells: name, cents, VAT in basis points.
type Plan = (&'static str, u16, u64, u32, &'static [(&'static str, i64, u16)]);

/// Vendors, by number.
pub const VENDORS: [Plan; 12] = [
    ("Lake bar", 1_000, 16, 3, &[("Lager 0.4", 550, 1_900), ("Radler 0.4", 550, 1_900), ("Water 0.5", 300, 1_900)]),
    ("North bar", 1_000, 14, 3, &[("Lager 0.4", 550, 1_900), ("Wheat beer", 590, 1_900), ("Cola 0.4", 400, 1_900)]),
    ("Deck bar", 1_200, 4, 2, &[("Spritz", 950, 1_900), ("Champagne", 1_400, 1_900), ("Water 0.5", 350, 1_900)]),
    ("Backstage bar", 0, 1, 1, &[("Lager 0.3", 250, 1_900), ("Coffee", 150, 1_900)]),
    ("Cocktail boat", 1_200, 8, 2, &[("Mojito", 1_050, 1_900), ("Gin tonic", 990, 1_900), ("Virgin mule", 750, 1_900)]),
    ("Crêperie Lac", 1_500, 6, 2, &[("Crêpe sugar", 500, 700), ("Galette", 890, 700), ("Cider", 450, 1_900)]),
    ("Pizza Forno", 1_500, 8, 2, &[("Margherita", 950, 700), ("Diavola", 1_150, 700), ("Focaccia", 600, 700)]),
    ("Burger smoke", 1_500, 8, 2, &[("Burger", 1_150, 700), ("Fries", 550, 700), ("Halloumi", 1_090, 700)]),
    ("Noodle stall", 1_500, 5, 2, &[("Pad thai", 1_090, 700), ("Spring rolls", 650, 700)]),
    ("Coffee cart", 1_000, 6, 2, &[("Flat white", 420, 700), ("Espresso", 280, 700), ("Carrot cake", 450, 700)]),
    ("Ice & fruit", 1_000, 4, 2, &[("Two scoops", 400, 700), ("Fruit cup", 550, 700), ("Smoothie", 600, 1_900)]),
    ("Merch tent", 800, 2, 1, &[("T-shirt", 3_000, 1_900), ("Cap", 2_200, 1_900), ("Poster", 1_000, 1_900)]),
];

/// What a vendor mostly sells.
fn kind_of(number: usize) -> VendorKind {
    match number {
        0..=4 => VendorKind::Bar,
        9 => VendorKind::Drink,
        11 => VendorKind::Merchandise,
        _ => VendorKind::Food,
    }
}

/// Opens the terminals: the festival's cashless policy, its vendors, what they sell.
///
/// # Errors
/// [`DemoError`].
pub async fn set_up(node: &Node, festival: FestivalId) -> Result<(), DemoError> {
    let cash = |action| AdminAction::Cashless(action);
    if matches!(node.query(Query::Cashless(festival)).await, View::No(Rejection::NotCashless)) {
        let policy = CashlessPolicy::default();
        ask(node, "cashless policy", cash(CashlessAction::SetPolicy { festival, policy })).await?;
    }
    let View::Cashless(view) = node.query(Query::Cashless(festival)).await else { return Err(DemoError::NotOurs) };
    for (i, &(name, commission_bp, _, _, products)) in VENDORS.iter().enumerate() {
        let vendor = VendorNo(i as u16);
        let known = view.vendors.get(i);
        if known.is_some_and(|known| known.values.name != name) {
            return Err(DemoError::NotOurs);
        }
        if known.is_none() {
            let values = VendorValues { name: name.into(), commission_bp, open: true, kind: kind_of(i) };
            ask(node, "vendor", cash(CashlessAction::PutVendor { festival, vendor: None, values })).await?;
        }
        for &(name, price, vat_bp) in products.iter().skip(known.map_or(0, |known| known.products.len())) {
            let values = ProductValues { name: name.into(), price, vat_bp, on_sale: true };
            ask(node, "product", cash(CashlessAction::PutProduct { festival, vendor, product: None, values })).await?;
        }
    }
    Ok(())
}

/// Everybody with a wallet, made where they are missing, with what is on their wristbands now.
///
/// # Errors
/// [`DemoError`].
pub async fn gather(node: &Node, folder: &Path, festival: FestivalId) -> Result<Drinkers, DemoError> {
    let seed = secret(&folder.join("seed"))?;
    let visitors: Vec<Result<Visitor, DemoError>> = stream::iter(0..WALLETS)
        .map(|number| visitor(node, festival, Person::of(&seed, number)))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let visitors = visitors.into_iter().collect::<Result<Vec<_>, _>>()?;
    let vendors = VENDORS.iter().map(|&(_, _, draws, _, products)| Vendor {
        draws,
        items: products.iter().zip(0..).map(|(&(_, price, _), product)| Item { product, price }).collect(),
    });
    let (lost, blocked) = (LOST as usize, BLOCKED as usize);
    let seed = u64::from_be_bytes(seed[8..16].try_into().expect("8 of 32"));
    Ok(Drinkers::new(seed, vendors.collect(), visitors, lost..lost + blocked))
}

/// Somebody with a wristband, as the demo's own secret tells them again and again.
#[derive(Clone, Copy)]
struct Person {
    number: u32,
    wallet: WalletId,
    tag: TagUid,
    first_money: i64,
}

impl Person {
    fn of(seed: &[u8; 32], number: u32) -> Self {
        let digest = Sha256::new()
            .chain_update(b"tapgate.demo.wallet")
            .chain_update(seed)
            .chain_update(number.to_be_bytes())
            .finalize();
        let wallet = u64::from_be_bytes(digest[..8].try_into().expect("8 of 32"));
        let mut uid: [u8; 7] = digest[8..15].try_into().expect("7 of 32");
        uid[0] = 0x04; // as tags of the usual make begin
        Self {
            number,
            wallet: WalletId(wallet.max(1)),
            tag: TagUid::new(&uid).expect("seven bytes"),
            first_money: FIRST_MONEY[usize::from(digest[15]) % FIRST_MONEY.len()],
        }
    }
}

/// Sells a wristband with money on it, as far as that has not happened.
async fn visitor(node: &Node, festival: FestivalId, person: Person) -> Result<Visitor, DemoError> {
    let Person { number, wallet, tag, first_money } = person;
    let mut known = query(node, wallet).await?;
    if known.as_ref().is_none_or(|known| known.tag.is_none()) {
        let link = CashlessAction::LinkTag { tag, wallet, festival, replace: false, create: true };
        patiently(node, "wristband", link).await?;
        known = query(node, wallet).await?;
    }
    let known = known.ok_or(DemoError::NotOurs)?;
    let mut balance = known.available;
    if known.transactions == 0 {
        let amount = Money { minor: first_money, currency: Currency::EUR };
        let source = Source::new(SourceKind::Desk, festival, 0);
        patiently(node, "first money", CashlessAction::TopUp { wallet, festival, amount, source, taken: false })
            .await?;
        balance = first_money;
    }
    if number < LOST && !known.tag_lost {
        patiently(node, "lost wristband", CashlessAction::ReportLost { wallet }).await?;
    }
    if (LOST..LOST + BLOCKED).contains(&number) && !known.blocked {
        patiently(node, "blocked wallet", CashlessAction::Block { wallet, blocked: true }).await?;
    }
    Ok(Visitor::new(tag, balance))
}

async fn query(node: &Node, wallet: WalletId) -> Result<Option<WalletView>, DemoError> {
    for _ in 0..PATIENCE {
        match node.query(Query::Wallet(wallet)).await {
            View::Wallet(view) => return Ok(Some(view)),
            View::No(Rejection::UnknownWallet) => return Ok(None),
            View::No(Rejection::Busy) => tokio::time::sleep(BUSY_WAIT).await,
            View::No(why) => return Err(DemoError::Refused { what: "look at a wallet", why }),
            _ => break,
        }
    }
    Err(DemoError::Refused { what: "look at a wallet", why: Rejection::Busy })
}

/// Asks as the installation itself, and again where a shard has no room now.
async fn patiently(node: &Node, what: &'static str, action: CashlessAction) -> Result<(), DemoError> {
    for _ in 0..PATIENCE {
        let command =
            AdminCommand { key: None, by: Principal::Installation, action: AdminAction::Cashless(action.clone()) };
        match node.ask(command).await.0 {
            AdminAnswer::Rejected(Rejection::Busy) => tokio::time::sleep(BUSY_WAIT).await,
            AdminAnswer::Rejected(why) => return Err(DemoError::Refused { what, why }),
            _ => return Ok(()),
        }
    }
    Err(DemoError::Refused { what, why: Rejection::Busy })
}
