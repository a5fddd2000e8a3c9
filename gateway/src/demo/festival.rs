//! Lakeside Lights: what the demo needs to exist. Each step looks at what is there first, so that a start that was
//! broken off is finished by the next one.

use std::path::Path;

use actors::Node;
use engine::command::{AdminAction, AdminAnswer, AdminCommand, issued};
use engine::gates::command::{CategoryValues, ISSUE_MAX};
use engine::gates::view::FestivalView;
use engine::model::ids::{CategoryNo, FestivalId, TicketId, ZoneNo};
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::{CategoryKind, EntryPolicy, FestivalStatus, Policy, Role, TicketStatus};
use engine::model::time::{HOUR_MS, Timestamp};
use engine::view::{Query, View};
use sha2::{Digest, Sha256};

use crate::auth::{key_hash, key_text};
use crate::demo::visitors::{ALL_PASSES, Place, Population};

/// Its name in addresses.
pub const SLUG: &str = "demo";
pub const NAME: &str = "Lakeside Lights";

/// Name, the zone around it, places.
const ZONES: [(&str, Option<u8>, u32); 3] =
    [("Festival ground", None, 16_000), ("VIP deck", Some(0), 600), ("Backstage", Some(0), 150)];
/// Name, zone.
const GATES: [(&str, u8); 6] =
    [("North gate", 0), ("East gate", 0), ("South gate", 0), ("Lake gate", 0), ("Deck stairs", 1), ("Stage door", 2)];
/// Name, kind, price in cents, tickets, zones as a mask. In the order of [`ALL_PASSES`].
const CATEGORIES: [(&str, CategoryKind, i64, u32, u64); 3] = [
    ("Standard", CategoryKind::Standard, 14_900, 44_000, 0b001),
    ("VIP", CategoryKind::Vip, 32_900, 5_000, 0b011),
    ("Crew", CategoryKind::Backstage, 0, 1_000, 0b111),
];
/// Tickets of one command; every quota above is a multiple of it.
const BATCH: u32 = 1_000;
const _: () = assert!(BATCH as usize <= ISSUE_MAX);
/// The first Standard tickets are cancelled, and their holders come all the same.
const CANCELLED: u32 = 150;

pub fn id() -> FestivalId {
    FestivalId::of_slug(SLUG)
}

/// Why the demo does not come about.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The node said no to something it should do.
    #[error("the demo festival cannot be set up: {what}: {}", .why.sentence())]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Why not.
        why: Rejection,
    },
    /// There is a festival `demo` that this program did not make.
    #[error("there is a festival `{SLUG}` in this data folder that is not the demo's; use another --data")]
    NotOurs,
    /// What the demo keeps in the data folder cannot be read or written.
    #[error("{path}: {why}")]
    File {
        /// Which file.
        path: String,
        why: std::io::Error,
    },
    /// A reader or a terminal cannot be enrolled.
    #[error("{name}: {why}")]
    Reader { name: String, why: String },
}

/// Makes what is missing of the festival, and opens its gates.
///
/// # Errors
/// [`DemoError`].
pub async fn set_up(node: &Node, folder: &Path) -> Result<FestivalView, DemoError> {
    let seed = secret(&folder.join("seed"))?;
    let festival = id();
    let now_ms = jiff::Timestamp::now().as_millisecond();
    if matches!(node.query(Query::Festival(festival)).await, View::No(Rejection::UnknownFestival)) {
        let starts_at = Timestamp(now_ms - now_ms.rem_euclid(24 * HOUR_MS) + 10 * HOUR_MS);
        let policy = Policy { entry: EntryPolicy::Reentry, ..Policy::default() };
        let (slug, name) = (SLUG.into(), NAME.into());
        let ends_at = starts_at.plus_ms(3 * 24 * HOUR_MS);
        ask(
            node,
            "festival",
            AdminAction::CreateFestival {
                slug,
                name,
                starts_at,
                ends_at,
                policy,
                calendar: engine::model::time::Calendar::default(),
            },
        )
        .await?;
    }
    let view = query(node, festival).await?;
    if view.name != NAME || view.policy.entry != EntryPolicy::Reentry {
        return Err(DemoError::NotOurs);
    }
    for &(name, parent, capacity) in ZONES.iter().skip(view.zones.len()) {
        let (name, parent) = (name.into(), parent.map(ZoneNo));
        ask(node, "zone", AdminAction::PutZone { festival, zone: None, name, parent, capacity }).await?;
    }
    for &(name, zone) in GATES.iter().skip(view.gates.len()) {
        ask(node, "gate", AdminAction::AddGate { festival, zone: ZoneNo(zone), name: name.into() }).await?;
    }
    for &(name, kind, minor, quota, zones) in CATEGORIES.iter().skip(view.categories.len()) {
        let values = CategoryValues {
            name: name.into(),
            kind,
            price: Money { minor, currency: Currency::EUR },
            quota,
            zones,
            valid_from: Timestamp(now_ms - 24 * HOUR_MS),
            // The demo never ends.
            valid_until: Timestamp(i64::MAX),
        };
        ask(node, "category", AdminAction::PutCategory { festival, category: None, values }).await?;
    }
    let view = query(node, festival).await?;
    if view.zones.len() != ZONES.len() || view.gates.len() != GATES.len() || view.categories.len() != CATEGORIES.len() {
        return Err(DemoError::NotOurs);
    }
    for (category, values) in view.categories.iter().zip(CATEGORIES) {
        issue(node, festival, &seed, category.no, category.issued, values.3).await?;
    }
    for ticket in cancelled(festival, &seed) {
        let View::Ticket(seen) = node.query(Query::Ticket(ticket)).await else { return Err(DemoError::NotOurs) };
        if seen.status == TicketStatus::Sold {
            let to = TicketStatus::Cancelled;
            ask(node, "cancelled ticket", AdminAction::SetTicketStatus { ticket, to }).await?;
        }
    }
    for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
        if query(node, festival).await?.status < to {
            ask(node, "status", AdminAction::SetFestivalStatus { festival, to }).await?;
        }
    }
    query(node, festival).await
}

async fn issue(
    node: &Node,
    festival: FestivalId,
    seed: &[u8; 32],
    category: CategoryNo,
    issued: u32,
    quota: u32,
) -> Result<(), DemoError> {
    if !issued.is_multiple_of(BATCH) || issued > quota {
        return Err(DemoError::NotOurs);
    }
    for first in (issued..quota).step_by(BATCH as usize) {
        let holders = vec![None; BATCH as usize];
        let seed = batch_seed(seed, category, first);
        ask(node, "tickets", AdminAction::IssueTickets { festival, category, holders, paid: true, seed }).await?;
    }
    Ok(())
}

/// Everybody with a ticket, where the node says they are.
///
/// # Errors
/// [`DemoError`].
pub async fn gather(node: &Node, folder: &Path) -> Result<Population, DemoError> {
    let seed = secret(&folder.join("seed"))?;
    let festival = id();
    let mut places = std::collections::HashMap::new();
    // Who is in an inner zone is on the ground too: the inner ones have the last word.
    for (zone, place) in [(0, Place::Ground), (1, Place::Deck), (2, Place::Backstage)] {
        let mut after = None;
        loop {
            let query = Query::Inside { festival, zone: ZoneNo(zone), after, limit: 2_000 };
            let View::Inside(page) = node.query(query).await else {
                return Err(DemoError::Refused { what: "who is inside", why: Rejection::Unavailable });
            };
            places.extend(page.iter().map(|&ticket| (ticket, place)));
            match page.last() {
                Some(&last) => after = Some(last),
                None => break,
            }
        }
    }
    let mut population = Population::new(u64::from_be_bytes(seed[..8].try_into().expect("8 of 32")));
    for (pass, values) in ALL_PASSES.into_iter().zip(CATEGORIES) {
        let skipped = if pass as u16 == 0 { CANCELLED as usize } else { 0 };
        for ticket in tickets(festival, &seed, CategoryNo(pass as u16), values.3).skip(skipped) {
            population.add(ticket, pass, places.get(&ticket).copied().unwrap_or(Place::Outside));
        }
    }
    cancelled(festival, &seed).for_each(|ticket| population.add_cancelled(ticket));
    Ok(population)
}

/// A key for the demo's page: ORGANIZER at this festival and nowhere else. Kept in the demo's folder, so that the
/// address shown is the same after a restart.
///
/// # Errors
/// [`DemoError`].
pub async fn page_key(node: &Node, folder: &Path) -> Result<String, DemoError> {
    let key = key_text(&secret(&folder.join("page-key"))?);
    let hash = key_hash(&key).expect("just made");
    if matches!(node.query(Query::ApiKey(hash)).await, View::No(Rejection::UnknownKey)) {
        let (role, festivals) = (Role::Organizer, vec![id()]);
        ask(node, "key", AdminAction::CreateApiKey { hash, role, festivals, name: "the demo's live page".into() })
            .await?;
    }
    Ok(key)
}

fn tickets(festival: FestivalId, seed: &[u8; 32], category: CategoryNo, count: u32) -> impl Iterator<Item = TicketId> {
    let batches = (0..count).step_by(BATCH as usize);
    batches.flat_map(move |first| issued(festival, category, first, BATCH, batch_seed(seed, category, first)))
}

fn cancelled(festival: FestivalId, seed: &[u8; 32]) -> impl Iterator<Item = TicketId> {
    tickets(festival, seed, CategoryNo(0), BATCH).take(CANCELLED as usize)
}

/// Where a batch's nonces come from: with the demo's own secret, all its tickets can be told again without a list.
fn batch_seed(seed: &[u8; 32], category: CategoryNo, first: u32) -> u64 {
    let digest = Sha256::new()
        .chain_update(b"tapgate.demo.batch")
        .chain_update(seed)
        .chain_update(category.0.to_be_bytes())
        .chain_update(first.to_be_bytes())
        .finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("8 of 32"))
}

async fn query(node: &Node, festival: FestivalId) -> Result<FestivalView, DemoError> {
    match node.query(Query::Festival(festival)).await {
        View::Festival(view) => Ok(*view),
        View::No(why) => Err(DemoError::Refused { what: "look at the festival", why }),
        _ => Err(DemoError::Refused { what: "look at the festival", why: Rejection::Internal }),
    }
}

/// Asks as the installation itself, which is operator 0.
///
/// # Errors
/// [`DemoError::Refused`].
pub async fn ask(node: &Node, what: &'static str, action: AdminAction) -> Result<AdminAnswer, DemoError> {
    match node.ask(AdminCommand { key: None, by: Principal::Installation, action }).await.0 {
        AdminAnswer::Rejected(why) => Err(DemoError::Refused { what, why }),
        answer => Ok(answer),
    }
}

/// 32 bytes that are this demo's own.
pub(super) fn secret(path: &Path) -> Result<[u8; 32], DemoError> {
    let text =
        crate::server::secret::kept(path).map_err(|why| DemoError::File { path: path.display().to_string(), why })?;
    Ok(Sha256::digest(text.as_bytes()).into())
}
