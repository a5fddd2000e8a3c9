//! What of a payment a refund takes off: the pieces that it names, and for whatever it does not name, each VAT rate's part
//! of what is left, the remainder at the highest rate. So that products, VAT, hours and settlements add up to the same
//! cent, in however many pieces a payment is given back, and that nothing is left of one that was given back whole.

use engine::cashless::event::SoldLine;
use engine::model::ids::ProductNo;

use crate::views::cashless::TransactionRow;

/// What is left of a payment, line by line.
pub(super) struct Left {
    lines: Vec<LineLeft>,
}

#[derive(Clone, Copy)]
struct LineLeft {
    product: Option<ProductNo>,
    vat_bp: u16,
    price: i64,
    pieces: u64,
    gross: i128,
    commission: i128,
}

/// What a line is given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GivenBack {
    pub(super) product: Option<ProductNo>,
    pub(super) vat_bp: u16,
    /// Of those that were named.
    pub(super) pieces: u64,
    pub(super) gross: i128,
    pub(super) commission: i128,
}

impl Left {
    /// All of it. A bare amount is one line of no product, without VAT.
    pub(super) fn of(payment: &TransactionRow) -> Self {
        let (gross, commission) = (payment.parts(payment.amount), payment.parts(payment.posting.commission));
        let left = |(product, vat_bp, price, pieces), gross, commission| LineLeft {
            product,
            vat_bp,
            price,
            pieces,
            gross,
            commission,
        };
        let goods: Vec<_> = match payment.lines.is_empty() {
            true => vec![(None, 0, payment.amount, 1)],
            false => {
                let good = |line: &SoldLine| (Some(line.product), line.vat_bp, line.price, u64::from(line.count));
                payment.lines.iter().map(good).collect()
            }
        };
        let lines = goods.into_iter().zip(gross).zip(commission);
        Self { lines: lines.map(|((good, gross), commission)| left(good, gross, commission)).collect() }
    }

    /// Each line as it is.
    pub(super) fn whole(&self) -> impl Iterator<Item = GivenBack> {
        self.lines.iter().map(|line| GivenBack {
            product: line.product,
            vat_bp: line.vat_bp,
            pieces: line.pieces,
            gross: line.gross,
            commission: line.commission,
        })
    }

    /// Takes a refund off. What it names is taken from those lines, as far as there is something left of them.
    pub(super) fn give_back(&mut self, refund: &TransactionRow) -> Vec<GivenBack> {
        let mut given: Vec<GivenBack> = self
            .lines
            .iter()
            .map(|line| GivenBack { product: line.product, vat_bp: line.vat_bp, ..GivenBack::default() })
            .collect();
        let mut rest = i128::from(refund.amount);
        for named in &refund.lines {
            let mut pieces = u64::from(named.count);
            for (line, given) in self.lines.iter_mut().zip(&mut given) {
                if line.product != Some(named.product) || line.price != named.price || line.vat_bp != named.vat_bp {
                    continue;
                }
                let taken = pieces.min(line.pieces);
                let gross = (i128::from(taken) * i128::from(line.price)).min(line.gross).min(rest);
                (line.pieces, line.gross) = (line.pieces - taken, line.gross - gross);
                (given.pieces, given.gross) = (given.pieces + taken, given.gross + gross);
                (pieces, rest) = (pieces - taken, rest - gross);
            }
        }
        for (rate, part) in self.by_rate(rest) {
            let of_rate: Vec<usize> = (0..self.lines.len()).filter(|&at| self.lines[at].vat_bp == rate).collect();
            let left: Vec<i128> = of_rate.iter().map(|&at| self.lines[at].gross).collect();
            for (at, part) in of_rate.into_iter().zip(shared(part, &left, &left)) {
                self.lines[at].gross -= part;
                given[at].gross += part;
            }
        }
        let weights: Vec<i128> = given.iter().map(|given| given.gross).collect();
        let left: Vec<i128> = self.lines.iter().map(|line| line.commission).collect();
        let parts = shared(-i128::from(refund.posting.commission), &weights, &left);
        for ((line, given), part) in self.lines.iter_mut().zip(&mut given).zip(parts) {
            line.commission -= part;
            given.commission = part;
        }
        given.retain(|given| {
            *given != GivenBack { product: given.product, vat_bp: given.vat_bp, ..GivenBack::default() }
        });
        given
    }

    /// A sum over the VAT rates, by what is left at each.
    fn by_rate(&self, sum: i128) -> Vec<(u16, i128)> {
        let mut rates: Vec<u16> = self.lines.iter().map(|line| line.vat_bp).collect();
        rates.sort_unstable();
        rates.dedup();
        let left = |rate: &u16| self.lines.iter().filter(|line| line.vat_bp == *rate).map(|line| line.gross).sum();
        let left: Vec<i128> = rates.iter().map(left).collect();
        let parts = shared(sum, &left, &left);
        rates.into_iter().zip(parts).collect()
    }
}

/// A sum taken apart by weight, each part rounded down and none above its bound. What remains goes to the last that has
/// room for it; where none has, to the last.
fn shared(sum: i128, weights: &[i128], bounds: &[i128]) -> Vec<i128> {
    let whole = weights.iter().sum::<i128>().max(1);
    let part = |(weight, bound): (&i128, &i128)| (sum * weight / whole).min(*bound).max(0);
    let mut parts: Vec<i128> = weights.iter().zip(bounds).map(part).collect();
    let mut remainder = sum - parts.iter().sum::<i128>();
    for (part, bound) in parts.iter_mut().zip(bounds).rev() {
        let more = remainder.clamp(0, (bound - *part).max(0));
        (*part, remainder) = (*part + more, remainder - more);
    }
    if let Some(last) = parts.last_mut() {
        *last += remainder;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remainder_is_the_highest_rates() {
        // Of 10.00 at 7 % and 5.00 at 19 %, 1.00 back: 0.666… and 0.333…
        assert_eq!(shared(100, &[1_000, 500], &[1_000, 500]), [66, 34]);
        assert_eq!(shared(1_500, &[1_000, 500], &[1_000, 500]), [1_000, 500]);
        assert_eq!(shared(0, &[1_000, 500], &[1_000, 500]), [0, 0]);
        // The highest has nothing left: it goes to the next.
        assert_eq!(shared(10, &[3, 3, 0], &[30, 30, 0]), [5, 5, 0]);
        assert_eq!(shared(11, &[3, 3, 0], &[30, 30, 0]), [5, 6, 0]);
        assert_eq!(shared(7, &[], &[]), [0_i128; 0]);
    }
}
