//! The proof of a statement: its period's postings are read one by one and added up anew, and what is payable now is held
//! against the ledgers of all shards.
//!
//! The ledgers are ahead of what statements are made of, by milliseconds as a rule, and both move while stands sell. So
//! they are asked before and after: if the account's number of postings is that of either, the sums have to be the same
//! to the cent; if it lies between, the sums have to as well, and a quieter moment proves them.

use std::time::{Duration, Instant};

use engine::cashless::view::{LedgerView, VendorSums};
use engine::model::ids::{FestivalId, VendorNo};
use serde::Serialize;
use storage::views::cashless::{
    CashlessViews, Only, Statement, Transactions, TransactionsOf, VendorAccount, VendorSpan,
};
use storage::views::{PAGE_MAX, Page, Span};
use utoipa::ToSchema;

use crate::http::kit::problem::Problem;
use crate::http::reports::ledger::books_of;
use crate::http::state::AppState;
use crate::read_models::ReadError;

/// The most postings that one statement adds up anew: 83,000 a second in a build that is not optimised, so 6 s at worst.
const POSTINGS_MAX: u64 = 500_000;
/// For how long, and after which pauses, a statement is made anew because its account was behind the books, or went on
/// meanwhile: as a rule one pause is enough.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// Whether opening and the postings of the period, added up anew, are closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Postings {
    /// They are, to the cent and by number.
    AddUp,
    /// They are not. Do not pay by this statement: call support.
    Differ,
    /// More of them came while they were added up. Ask again in a moment.
    Moving,
    /// They are more than 500,000: ask for shorter periods, or one vendor.
    TooMany,
}

/// Whether what is payable now is what the books say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Books {
    /// It is, to the cent and by number of payments and refunds.
    Agree,
    /// It is not. Do not pay by this statement: call support.
    Differ,
    /// The stands are selling: the sums lie between those of the books before and after. Ask again in a quieter moment.
    Moving,
    /// The account has not everything yet that is in the books. Ask again in a moment.
    Behind,
}

impl Postings {
    /// As JSON has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::AddUp => "ADD_UP",
            Self::Differ => "DIFFER",
            Self::Moving => "MOVING",
            Self::TooMany => "TOO_MANY",
        }
    }
}

impl Books {
    /// As JSON has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Agree => "AGREE",
            Self::Differ => "DIFFER",
            Self::Moving => "MOVING",
            Self::Behind => "BEHIND",
        }
    }
}

/// What became of the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proven {
    /// The postings of the period, added up.
    pub(super) posted: Option<VendorAccount>,
    pub(super) postings: Postings,
    /// What the books say.
    pub(super) in_books: VendorSums,
    pub(super) books: Books,
}

/// Each vendor's statement with its proof.
pub(super) async fn proven(
    state: &AppState,
    festival: FestivalId,
    vendors: Vec<VendorNo>,
    span: Span,
) -> Result<Vec<(Statement, Proven)>, Problem> {
    let began = Instant::now();
    loop {
        let before = books_of(state, festival).await?;
        let asked = vendors.clone();
        let read = state.read(move |models| statements(&*models.cashless()?, festival, &asked, span)).await?;
        let after = books_of(state, festival).await?;
        let proven: Vec<_> = vendors
            .iter()
            .zip(read)
            .map(|(vendor, read)| {
                let (before, after) = (sums_of(&before, *vendor), sums_of(&after, *vendor));
                (read.statement, prove(&read, &before, &after))
            })
            .collect();
        let settled =
            |(_, proven): &(Statement, Proven)| proven.books != Books::Behind && proven.postings != Postings::Moving;
        if began.elapsed() >= PATIENCE || proven.iter().all(settled) {
            return Ok(proven);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What was read of one vendor.
struct Read {
    statement: Statement,
    /// The period's postings, one by one, if they are not too many.
    posted: Option<VendorAccount>,
    /// More came into the period while they were read.
    moved: bool,
}

fn statements(
    views: &dyn CashlessViews,
    festival: FestivalId,
    vendors: &[VendorNo],
    span: Span,
) -> Result<Vec<Read>, ReadError> {
    let mut left = POSTINGS_MAX;
    let mut all = Vec::with_capacity(vendors.len());
    for &vendor in vendors {
        let of = VendorSpan { festival, vendor, span };
        let first = views.statement(of)?;
        let sums = first.sums();
        let postings = sums.payments.saturating_add(sums.refunds);
        let posted = if postings <= left { Some(add_up(views, festival, vendor, span)?) } else { None };
        left = left.saturating_sub(postings);
        // Each answer is one snapshot, but these are several.
        let statement = views.statement(of)?;
        let moved = (first.opening, first.closing) != (statement.opening, statement.closing);
        all.push(Read { statement, posted, moved });
    }
    Ok(all)
}

fn add_up(
    views: &dyn CashlessViews,
    festival: FestivalId,
    vendor: VendorNo,
    span: Span,
) -> Result<VendorAccount, ReadError> {
    let of = Transactions { of: TransactionsOf::Vendor(festival, vendor), only: Only::Moved, span };
    let mut page = Page::first(PAGE_MAX);
    let mut sum = VendorAccount::default();
    loop {
        let rows = views.transactions(of, page)?;
        rows.iter().for_each(|row| sum.add(&row.entry()));
        match rows.last() {
            Some(last) if rows.len() == PAGE_MAX => page.after = Some(last.position),
            _ => return Ok(sum),
        }
    }
}

fn sums_of(ledger: &LedgerView, vendor: VendorNo) -> VendorSums {
    let none = VendorSums { vendor, ..VendorSums::default() };
    ledger.vendors.iter().filter(|sums| sums.vendor == vendor).fold(none, |sum, one| VendorSums {
        vendor,
        payable: sum.payable + one.payable,
        sold: sum.sold + one.sold,
        refunded: sum.refunded + one.refunded,
        payments: sum.payments + one.payments,
        refunds: sum.refunds + one.refunds,
    })
}

/// Holds a statement against its postings, and against the books before and after it was made.
fn prove(read: &Read, before: &VendorSums, after: &VendorSums) -> Proven {
    let Read { statement, posted, moved } = read;
    let mut expected = statement.opening;
    let postings = match posted {
        None => Postings::TooMany,
        Some(_) if *moved => Postings::Moving,
        Some(posted) => {
            expected.add(posted);
            if expected == statement.closing { Postings::AddUp } else { Postings::Differ }
        }
    };
    let now = &statement.now;
    let number = |sums: &VendorSums| (sums.payments, sums.refunds);
    let same = |sums: &VendorSums| (now.payable, now.sold, now.refunded) == (sums.payable, sums.sold, sums.refunded);
    let between = |low: i128, is: i128, high: i128| (low..=high).contains(&is);
    let (is, low, high) = ((now.payments, now.refunds), number(before), number(after));
    let (books, in_books) = if is == low {
        (if same(before) { Books::Agree } else { Books::Differ }, before)
    } else if is == high {
        (if same(after) { Books::Agree } else { Books::Differ }, after)
    } else if is.0 < low.0 || is.1 < low.1 {
        (Books::Behind, after)
    } else if is.0 <= high.0
        && is.1 <= high.1
        && between(before.sold, now.sold, after.sold)
        && between(before.refunded, now.refunded, after.refunded)
    {
        (Books::Moving, after)
    } else {
        (Books::Differ, after)
    };
    Proven { posted: *posted, postings, in_books: *in_books, books }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many payments of 10.00 and refunds of 1.00, at 10 %.
    fn account(payments: u64, refunds: u64) -> VendorAccount {
        let (sold, refunded) = (i128::from(payments) * 1_000, i128::from(refunds) * 100);
        let payable = (sold - refunded) * 9 / 10;
        VendorAccount { payments, sold, refunds, refunded, payable, commission: sold - refunded - payable }
    }
    fn books(account: VendorAccount) -> VendorSums {
        let VendorAccount { payments, sold, refunds, refunded, payable, .. } = account;
        VendorSums { vendor: VendorNo(0), payable, sold, refunded, payments, refunds }
    }

    #[test]
    fn what_a_statement_is_held_against() {
        let statement = Statement { opening: account(2, 0), closing: account(5, 1), now: account(7, 2) };
        let (six, seven, nine) = (books(account(6, 2)), books(account(7, 2)), books(account(9, 3)));
        let off = |mut sums: VendorSums, by: i128| {
            sums.payable += by;
            sums
        };
        let read = Read { statement, posted: Some(account(3, 1)), moved: false };
        let verdict = |before: &VendorSums, after: &VendorSums| prove(&read, before, after).books;
        assert_eq!(verdict(&seven, &seven), Books::Agree);
        assert_eq!(verdict(&seven, &nine), Books::Agree, "it has gone on since");
        assert_eq!(verdict(&six, &seven), Books::Agree, "it has come meanwhile");
        assert_eq!(verdict(&six, &nine), Books::Moving);
        assert_eq!(verdict(&nine, &nine), Books::Behind);
        assert_eq!(verdict(&six, &six), Books::Differ, "more than was ever booked");
        for cent in [-1, 1] {
            assert_eq!(verdict(&off(seven, cent), &off(seven, cent)), Books::Differ, "one cent");
        }
        let dearer = VendorSums { sold: nine.sold - 2_001, ..nine };
        assert_eq!(verdict(&six, &dearer), Books::Differ, "not between");
    }

    #[test]
    fn opening_and_postings_are_closing_to_the_cent_or_it_is_said() {
        let statement = Statement { opening: account(2, 0), closing: account(5, 1), now: account(5, 1) };
        let now = books(account(5, 1));
        let added = |posted| prove(&Read { statement, posted, moved: false }, &now, &now).postings;
        assert_eq!(added(Some(account(3, 1))), Postings::AddUp);
        let moving = Read { statement, posted: Some(account(4, 1)), moved: true };
        assert_eq!(prove(&moving, &now, &now).postings, Postings::Moving);
        assert_eq!(added(None), Postings::TooMany);
        assert_eq!(added(Some(account(3, 0))), Postings::Differ);
        for cent in [-1, 1] {
            let mut posted = account(3, 1);
            posted.payable += cent;
            posted.commission -= cent;
            assert_eq!(added(Some(posted)), Postings::Differ);
        }
    }
}
