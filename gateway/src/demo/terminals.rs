//! The demo's terminals: at each stand as many as it needs, and one cash desk in each zone. Enrolled and kept as readers
//! are.

use std::path::Path;

use actors::Node;
use engine::cashless::command::CashlessAction;
use engine::command::AdminAction;
use engine::model::ids::{FestivalId, VendorNo};
use tapgate_client::{ClientError, ReaderOptions, Terminal};

use crate::demo::customers::Counter;
use crate::demo::festival::DemoError;
use crate::demo::readers::{Server, enrolled};
use crate::demo::vendors::VENDORS;

/// One in each zone.
const DESKS: [&str; 3] = ["Cash desk, ground", "Cash desk, deck", "Cash desk, backstage"];
/// The second terminal of this stand is put aside for seven minutes of every twenty, so that there is a silent one to see.
const RESTS: usize = 10;
const RESTS_MIN: i64 = 7;
const RESTS_EVERY_MIN: i64 = 20;

/// Terminals by where they stand.
pub struct Counters {
    vendors: Vec<Vec<Terminal>>,
    desks: Vec<Terminal>,
}

impl Counters {
    /// The one that somebody steps up to; `pick` draws below a number.
    pub fn at(&self, counter: Counter, now_ms: i64, pick: impl FnOnce(u64) -> u64) -> &Terminal {
        let all = match counter {
            Counter::Vendor(vendor) => &self.vendors[vendor],
            Counter::Desk => &self.desks,
        };
        let rests = counter == Counter::Vendor(RESTS) && now_ms / 60_000 % RESTS_EVERY_MIN < RESTS_MIN;
        let awake = if rests { 1 } else { all.len() };
        &all[pick(awake as u64) as usize]
    }

    /// Says goodbye for all of them.
    pub async fn close(&self) {
        let all = self.vendors.iter().flatten().chain(&self.desks);
        futures_util::future::join_all(all.map(Terminal::close)).await;
    }
}

/// Enrols whoever is not enrolled yet, and connects all.
///
/// # Errors
/// [`DemoError`].
pub async fn connect(node: &Node, festival: FestivalId, folder: &Path, server: Server) -> Result<Counters, DemoError> {
    let folder = folder.join("terminals");
    std::fs::create_dir_all(&folder).map_err(|why| DemoError::File { path: folder.display().to_string(), why })?;
    let start = async |name: String, file: String, vendor: Option<VendorNo>| {
        let file = folder.join(file);
        let (cashier, called) = (vendor.is_none(), name.clone());
        let offer = |code_hash| {
            AdminAction::Cashless(CashlessAction::OfferTerminal { festival, vendor, cashier, code_hash, name: called })
        };
        let identity = enrolled(node, festival, &name, &file, server, offer).await?;
        let options = ReaderOptions::with_queue(&file.with_extension("queue"));
        Terminal::start(identity, options)
            .map_err(|why: ClientError| DemoError::Reader { name: name.clone(), why: why.to_string() })
    };
    let mut counters = Counters { vendors: Vec::with_capacity(VENDORS.len()), desks: Vec::with_capacity(DESKS.len()) };
    for (i, &(name, _, _, count, _)) in VENDORS.iter().enumerate() {
        let mut at_vendor = Vec::new();
        for number in 1..=count {
            let vendor = Some(VendorNo(i as u16));
            at_vendor.push(start(format!("{name} {number}"), format!("{i}-{number}.json"), vendor).await?);
        }
        counters.vendors.push(at_vendor);
    }
    for (i, name) in DESKS.iter().enumerate() {
        counters.desks.push(start((*name).to_owned(), format!("desk-{i}.json"), None).await?);
    }
    Ok(counters)
}
