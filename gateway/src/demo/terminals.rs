//! The demo's terminals: at each stand as many as it needs, and one cash desk in each zone. Enrolled and kept as readers
//! are.

use std::path::Path;

use actors::Node;
use engine::cashless::command::CashAction;
use engine::command::OfficeAction;
use engine::model::ids::{FestivalId, VendorNo};
use tapgate_client::{ClientError, ReaderOptions, Terminal};

use crate::demo::customers::Till;
use crate::demo::festival::DemoError;
use crate::demo::readers::{Server, enrolled};
use crate::demo::vendors::STANDS;

/// One in each zone.
const DESKS: [&str; 3] = ["Cash desk, ground", "Cash desk, deck", "Cash desk, backstage"];
/// The second terminal of this stand is put aside for seven minutes of every twenty, so that there is a silent one to see.
const RESTS: usize = 10;
const RESTS_MIN: i64 = 7;
const RESTS_EVERY_MIN: i64 = 20;

/// Terminals by where they stand.
pub struct Tills {
    stands: Vec<Vec<Terminal>>,
    desks: Vec<Terminal>,
}

impl Tills {
    /// The one that somebody steps up to; `pick` draws below a number.
    pub fn at(&self, till: Till, now_ms: i64, pick: impl FnOnce(u64) -> u64) -> &Terminal {
        let all = match till {
            Till::Stand(stand) => &self.stands[stand],
            Till::Desk => &self.desks,
        };
        let rests = till == Till::Stand(RESTS) && now_ms / 60_000 % RESTS_EVERY_MIN < RESTS_MIN;
        let awake = if rests { 1 } else { all.len() };
        &all[pick(awake as u64) as usize]
    }

    /// Says goodbye for all of them.
    pub async fn close(&self) {
        let all = self.stands.iter().flatten().chain(&self.desks);
        futures_util::future::join_all(all.map(Terminal::close)).await;
    }
}

/// Enrols whoever is not enrolled yet, and connects all.
///
/// # Errors
/// [`DemoError`].
pub async fn connect(node: &Node, festival: FestivalId, folder: &Path, server: Server) -> Result<Tills, DemoError> {
    let folder = folder.join("terminals");
    std::fs::create_dir_all(&folder).map_err(|why| DemoError::File { path: folder.display().to_string(), why })?;
    let start = async |name: String, file: String, vendor: Option<VendorNo>| {
        let file = folder.join(file);
        let (cashier, called) = (vendor.is_none(), name.clone());
        let offer = |code_hash| {
            OfficeAction::Cash(CashAction::OfferTerminal { festival, vendor, cashier, code_hash, name: called })
        };
        let identity = enrolled(node, festival, &name, &file, server, offer).await?;
        let options = ReaderOptions::with_queue(&file.with_extension("queue"));
        Terminal::start(identity, options)
            .map_err(|why: ClientError| DemoError::Reader { name: name.clone(), why: why.to_string() })
    };
    let mut tills = Tills { stands: Vec::with_capacity(STANDS.len()), desks: Vec::with_capacity(DESKS.len()) };
    for (i, &(name, _, _, count, _)) in STANDS.iter().enumerate() {
        let mut at_stand = Vec::new();
        for number in 1..=count {
            let vendor = Some(VendorNo(i as u16));
            at_stand.push(start(format!("{name} {number}"), format!("{i}-{number}.json"), vendor).await?);
        }
        tills.stands.push(at_stand);
    }
    for (i, name) in DESKS.iter().enumerate() {
        tills.desks.push(start((*name).to_owned(), format!("desk-{i}.json"), None).await?);
    }
    Ok(tills)
}
