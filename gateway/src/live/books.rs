//! What a sampler asks about a festival's money: the books of every shard once a second, and now and then what rarely
//! changes. All are questions that change nothing, a few a second however much is sold.

use std::time::{Duration, Instant};

use actors::Node;
use engine::cashless::view::CashlessView;
use engine::model::ids::FestivalId;
use engine::model::rejection::Rejection;
use engine::view::{Query, View};

use super::names::Names;
use crate::live::cashless::Cashless;

/// How often the vendors are asked for, with all that they sell: what is new or renamed shows within this.
const VENDORS_EVERY: Duration = Duration::from_secs(10);

/// What is known of a festival's money.
pub(super) struct Books {
    festival: FestivalId,
    /// Its vendors; `None` while it takes no cashless payments.
    about: Option<Box<CashlessView>>,
    asked_at: Option<Instant>,
    shown: Option<Cashless>,
}

impl Books {
    pub(super) fn of(festival: FestivalId) -> Self {
        Self { festival, about: None, asked_at: None, shown: None }
    }

    /// How it stands with the money now; `None` where the festival takes no cashless payments. Whatever does not answer
    /// leaves the last figures standing, marked as such.
    pub(super) async fn query(&mut self, node: &Node, names: &mut Names, at: i64) -> Option<Cashless> {
        if self.asked_at.is_none_or(|asked| asked.elapsed() >= VENDORS_EVERY) {
            match node.query(Query::Cashless(self.festival)).await {
                View::Cashless(about) => (self.about, self.asked_at) = (Some(about), Some(Instant::now())),
                View::No(Rejection::NotCashless) => self.asked_at = Some(Instant::now()),
                _ => {} // asked again a second later
            }
        }
        self.about.as_ref()?;
        let answer = node.query(Query::Ledger(self.festival)).await;
        if let View::Ledger(books) = &answer {
            names.learn(node, books.terminals.iter().map(|terminal| terminal.device)).await;
        }
        let about = self.about.as_ref()?;
        self.shown = match (answer, self.shown.take()) {
            (View::Ledger(books), _) => {
                if books.vendors.iter().any(|sums| about.vendors.iter().all(|known| known.no != sums.vendor)) {
                    self.asked_at = None; // a stand that is new and has sold already
                }
                Some(Cashless::of(about, &books, names, at))
            }
            (_, shown) => shown.map(|shown| Cashless { current: false, ..shown }),
        };
        self.shown.clone()
    }
}
