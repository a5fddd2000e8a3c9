//! What terminals are told from the read models: their last transactions, and what products of a payment had cost. Read
//! models follow the shards, so the lists say by how much they are behind.

use std::sync::Arc;

use engine::cashless::command::{CashlessVerdict, TerminalAnswer};
use engine::cashless::event::{SoldLine, TransactionKind};
use engine::model::ids::{DeviceId, TransactionId};
use engine::model::rejection::Rejection;
use engine::view::{Query, View};
use storage::views::cashless::{Only, TransactionRow, Transactions, TransactionsOf};
use storage::views::{Page, Span};
use tapgate_wire::{Frame, RECENT_MAX, RECENT_ROWS_MAX, Recent, RecentRow, RecentRows};
use tokio::sync::Semaphore;

use super::Listener;
use super::outbox::Outbox;
use crate::read_models::ReadModels;

/// Reads for terminals at once, of all terminals: each takes a thread for a millisecond or two and at most 50 rows of 200 B.
const AT_ONCE: usize = 4;

/// Where terminals' lists come from.
pub(super) struct Recents {
    read_models: Option<Arc<dyn ReadModels>>,
    permits: Arc<Semaphore>,
}

impl Recents {
    pub(super) fn new(read_models: Option<Arc<dyn ReadModels>>) -> Self {
        Self { read_models, permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Reads and answers, on a thread that may wait. False: too many are asked for at once, so nothing will come.
    pub(super) fn answer(
        &self,
        listener: &Listener,
        outbox: &Arc<Outbox>,
        device: DeviceId,
        (ask, limit): (u64, u16),
    ) -> bool {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return false };
        let (read_models, outbox, at) = (self.read_models.clone(), Arc::clone(outbox), listener.node.now());
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let read = read_models.and_then(|read_models| read(read_models.as_ref(), device, limit.min(RECENT_MAX)));
            let (rows, behind) = read.unwrap_or((Vec::new(), RecentRows::REBUILDING));
            let parts = rows.chunks(RECENT_ROWS_MAX).map(|part| (part, false));
            let mut parts: Vec<(&[RecentRow], bool)> = parts.collect();
            match parts.last_mut() {
                Some((_, is_last)) => *is_last = true,
                None => parts.push((&[], true)),
            }
            let frame = |(rows, is_last)| Frame::RecentRows(RecentRows { ask, at, behind, is_last, rows });
            outbox.send(&parts.into_iter().map(frame).collect::<Vec<_>>());
        });
        true
    }

    /// The lines of a payment; none if its shard does not know such a payment, and will say so.
    ///
    /// # Errors
    /// What the shard says that does not answer now; [`Rejection::Unavailable`] if the read models do not have it yet.
    pub(super) async fn sold(&self, listener: &Listener, payment: TransactionId) -> Result<Vec<SoldLine>, Rejection> {
        match listener.node.query(Query::Payment(payment)).await {
            View::Payment(_) => {}
            View::No(Rejection::UnknownTransaction | Rejection::NotAPayment | Rejection::RefundTooLate) => {
                return Ok(Vec::new());
            }
            View::No(rejection) => return Err(rejection),
            _ => return Err(Rejection::Internal),
        }
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return Err(Rejection::Unavailable) };
        let read_models = self.read_models.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read_models?.cashless().ok()?.transaction(payment).ok()?
        });
        read.await.ok().flatten().map(|row| row.lines).ok_or(Rejection::Unavailable)
    }
}

fn read(read_models: &dyn ReadModels, device: DeviceId, limit: u16) -> Option<(Vec<RecentRow>, u32)> {
    // Before the rows: they may have more than this says, never less.
    let behind = u32::try_from(read_models.condition().lag_records).unwrap_or(RecentRows::REBUILDING - 1);
    let of = Transactions { of: TransactionsOf::Terminal(device), only: Only::Everything, span: Span::ALWAYS };
    let page = Page { after: None, limit: usize::from(limit), backwards: true };
    let rows = read_models.cashless().ok()?.transactions(of, page).ok()?;
    Some((rows.iter().map(|row| RecentRow::new(&recent(row))).collect(), behind))
}

/// A terminal's row with the answer that it got.
fn recent(row: &TransactionRow) -> Recent {
    let verdict = match (row.rejection, row.kind) {
        (Some(rejection), _) => CashlessVerdict::Rejected(rejection),
        (None, TransactionKind::Payment) => CashlessVerdict::Paid,
        (None, TransactionKind::Refund) => CashlessVerdict::Refunded,
        (None, _) => CashlessVerdict::ToppedUp,
    };
    let answer = TerminalAnswer {
        verdict,
        flags: row.flags,
        currency: row.currency,
        order: row.order.unwrap_or(0),
        amount: row.amount,
        balance: row.after,
        wallet: row.wallet,
        serial: row.id.map_or(0, |id| id.serial),
        at: row.position.at,
    };
    Recent { seq: row.asked.unwrap_or(0), kind: row.kind, answer }
}
