//! A terminal: takes payments, gives them back, tops up, says how much there is.

use std::sync::Arc;
use std::time::Duration;

use engine::cashless::command::{CashlessVerdict, LINES_MAX, Line, OVER_LIMIT, TerminalAnswer};
use engine::model::ids::{DeviceId, ProductNo, TagUid, TransactionId, WalletId};
use engine::model::money::{Currency, Money};
use engine::model::rejection::Rejection;
use tapgate_wire::{Balance, Frame, LineItem, Pay, RECENT_MAX, Refund, ReturnedItem, TopUp, WalletName};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::ask::{Ask, DeviceKind, Numbered, Reply, Request};
use super::driver::Driver;
use super::late::Untold;
use super::{
    ASKS_MAX, CONNECT_TIMEOUT, ClientError, EVENTS_MAX, Event, Identity, Lately, ReaderOptions, State, Unanswered,
    Welcomed, connected, hand_over,
};

/// What was held to the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A wristband's tag.
    Tag(TagUid),
    /// The bytes of a QR.
    Qr(Vec<u8>),
    /// The wallet itself, for whoever knows its id.
    Wallet(WalletId),
}

impl Shown {
    fn name(&self) -> WalletName<'_> {
        match self {
            Self::Tag(uid) => WalletName::Tag(*uid),
            Self::Qr(qr) => WalletName::of_qr(qr),
            Self::Wallet(wallet) => WalletName::Id(*wallet),
        }
    }
}

/// What became of a terminal's command. It is on the server's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The command's number.
    pub seq: u64,
    /// What.
    pub answer: TerminalAnswer,
}

impl Told {
    /// What to say to the person in front of you.
    pub fn sentence(&self) -> String {
        let TerminalAnswer { verdict, flags, currency, order, amount, balance, .. } = self.answer;
        let money = |minor| Money { minor, currency };
        let said = match verdict {
            CashlessVerdict::Paid => format!("{} paid, order {order}. {} left.", money(amount), money(balance)),
            CashlessVerdict::Refunded => format!("{} given back. {} on it now.", money(amount), money(balance)),
            CashlessVerdict::ToppedUp => format!("{} topped up. {} on it now.", money(amount), money(balance)),
            CashlessVerdict::Balance => format!("{} on it.", money(balance)),
            CashlessVerdict::Rejected(rejection @ Rejection::InsufficientFunds) => {
                format!("{} {} left.", rejection.sentence(), money(balance))
            }
            // The domain's sentences on these are a gate's.
            CashlessVerdict::Rejected(Rejection::InvalidQr) => "This is not the code of a wallet.".to_owned(),
            CashlessVerdict::Rejected(Rejection::TamperedQr) => "This wallet's code has been altered.".to_owned(),
            CashlessVerdict::Rejected(Rejection::KeyRetired) => {
                "This code was replaced. Please open the newest one in your account.".to_owned()
            }
            CashlessVerdict::Rejected(Rejection::StaleSeq) => Rejection::OutcomeUnknown.sentence().to_owned(),
            CashlessVerdict::Rejected(Rejection::Busy) => "One moment, please tap again.".to_owned(),
            CashlessVerdict::Rejected(rejection) => rejection.sentence().to_owned(),
        };
        if flags & OVER_LIMIT == 0 { said } else { said + " That is more than a wallet should hold." }
    }

    /// Nobody can say whether it was done: neither was it answered before, nor is it decided now.
    pub fn is_unknown(&self) -> bool {
        let unknown = |rejection| matches!(rejection, Rejection::OutcomeUnknown | Rejection::StaleSeq);
        matches!(self.answer.verdict, CashlessVerdict::Rejected(rejection) if unknown(rejection))
    }

    /// The payment, for a refund; the refund or top-up, for a receipt.
    pub fn transaction(&self) -> Option<TransactionId> {
        self.answer.transaction()
    }
}

/// A terminal that stays connected. Clones are the same terminal; it ends when the last one goes.
///
/// A command is in the queue's file before it is sent, and stays there until its answer, through broken connections and
/// restarts: a call that was given up is carried out all the same, once, as soon as the server can be reached, and what
/// came of it is an [`Event::LateAnswer`]. Whoever does not want that says how long it holds ([`Self::within`]), and has it
/// given back ([`Self::or_give_back`]).
#[derive(Clone)]
pub struct Terminal {
    device: DeviceId,
    asks: mpsc::Sender<Ask>,
    events: broadcast::Sender<Event>,
    state: watch::Receiver<State>,
    untold: Untold,
    patience: Option<Duration>,
    or_give_back: bool,
}

impl Terminal {
    /// Opens the queue and begins to connect. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The queue's file cannot be used.
    pub fn start(identity: Identity, options: ReaderOptions) -> Result<Self, ClientError> {
        let (asks, inbox) = mpsc::channel(ASKS_MAX);
        let (events, untold) = (broadcast::Sender::new(EVENTS_MAX), Untold::new());
        let (state_out, state) = watch::channel(State::default());
        let device = identity.device;
        let driver =
            Driver::new(identity, DeviceKind::Terminal, options, inbox, (events.clone(), untold.clone()), state_out)?;
        tokio::spawn(driver.run());
        Ok(Self { device, asks, events, state, untold, patience: None, or_give_back: false })
    }

    /// The same, and waits until the terminal is connected.
    ///
    /// # Errors
    /// As [`Self::start`]; the server's refusal, if it is final; [`ClientError::WrongTrade`] for a reader's identity;
    /// [`ClientError::Timeout`] after twice [`CONNECT_TIMEOUT`].
    pub async fn connect(identity: Identity, options: ReaderOptions) -> Result<Self, ClientError> {
        let terminal = Self::start(identity, options)?;
        tokio::time::timeout(2 * CONNECT_TIMEOUT, terminal.connected()).await.unwrap_or(Err(ClientError::Timeout))?;
        Ok(terminal)
    }

    /// The same terminal, whose calls wait only so long. A payment or top-up that the server has not decided by then is
    /// [`Rejection::Expired`], whenever it arrives: what could not be sent is answered so when the time is over, network or
    /// not, and has not been charged and will not be. What was sent and has no answer [`ANSWER_SLACK`] later ends with
    /// [`ClientError::NoAnswerYet`], and its answer comes as [`Event::LateAnswer`].
    #[must_use]
    pub fn within(&self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self.clone() }
    }

    /// The same terminal, whose payments are given back if they succeed when nobody waits for them any more: once, by a
    /// refund with a number of its own, after a restart on the same queue too.
    #[must_use]
    pub fn or_give_back(&self) -> Self {
        Self { or_give_back: true, ..self.clone() }
    }

    /// What has no final answer, in the order in which it was asked; afterwards [`super::unanswered`] says so.
    ///
    /// # Errors
    /// The terminal has ended.
    pub async fn unanswered(&self) -> Result<Vec<Unanswered>, ClientError> {
        let (reply, answer) = oneshot::channel();
        hand_over(&self.asks, &self.state, Ask::Unanswered(reply)).await?;
        answer.await.map_err(|_| ClientError::Gone)
    }

    /// Its id.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Waits until it is connected.
    ///
    /// # Errors
    /// It never will be.
    pub async fn connected(&self) -> Result<Arc<Welcomed>, ClientError> {
        connected(&self.state).await
    }

    /// The festival's currency, once connected.
    ///
    /// # Errors
    /// As [`Self::connected`].
    pub async fn currency(&self) -> Result<Currency, ClientError> {
        let welcome = self.connected().await?;
        welcome.terminal.as_ref().map(|terminal| terminal.currency).ok_or(ClientError::WrongTrade("a reader"))
    }

    /// Somebody pays. Lines may be left out; given, their sum is the amount.
    ///
    /// # Errors
    /// [`ClientError::TooManyLines`], [`ClientError::QueueFull`], [`ClientError::NeverConnected`], the queue's file; the
    /// server's final refusal.
    pub async fn pay(&self, shown: Shown, amount: Money, lines: &[Line]) -> Result<Told, ClientError> {
        if lines.len() > LINES_MAX {
            return Err(ClientError::TooManyLines);
        }
        let lines: Vec<LineItem> = lines.iter().copied().map(LineItem::from).collect();
        let wanted = Request { kept: true, patience: self.patience, or_give_back: self.or_give_back };
        self.ask(wanted, move |Numbered { seq, at, expires_at }| {
            let (floor, wallet, captured_at, lines) = (seq, shown.name(), at, &lines);
            Frame::Pay(Pay { seq, floor, captured_at, expires_at, wallet, amount, lines, resent: false }).to_bytes()
        })
        .await
    }

    /// Gives back a payment of this vendor's, or a part of it, which is shared over its VAT rates.
    ///
    /// # Errors
    /// As [`Self::pay`].
    pub async fn refund(&self, payment: TransactionId, amount: Option<Money>) -> Result<Told, ClientError> {
        self.ask(Request { kept: true, ..Request::default() }, move |Numbered { seq, .. }| {
            Frame::Refund(Refund { seq, floor: seq, payment, amount, lines: &[], resent: false }).to_bytes()
        })
        .await
    }

    /// Gives back products of a payment of this vendor's, so many of each, at what they had cost.
    ///
    /// # Errors
    /// As [`Self::pay`].
    pub async fn refund_products(
        &self,
        payment: TransactionId,
        products: &[(ProductNo, u16)],
    ) -> Result<Told, ClientError> {
        if products.len() > LINES_MAX {
            return Err(ClientError::TooManyLines);
        }
        let lines: Vec<ReturnedItem> = products.iter().map(|&(no, count)| ReturnedItem::new(no, count)).collect();
        self.ask(Request { kept: true, ..Request::default() }, move |Numbered { seq, .. }| {
            let (floor, amount, lines) = (seq, None, &lines[..]);
            Frame::Refund(Refund { seq, floor, payment, amount, lines, resent: false }).to_bytes()
        })
        .await
    }

    /// Cash goes into a wallet. Only where the terminal tops up: see [`super::TerminalWelcomed::cashier`].
    ///
    /// # Errors
    /// As [`Self::pay`].
    pub async fn top_up(&self, shown: Shown, amount: Money) -> Result<Told, ClientError> {
        let wanted = Request { kept: true, patience: self.patience, or_give_back: false };
        self.ask(wanted, move |Numbered { seq, at, expires_at }| {
            let (wallet, captured_at) = (shown.name(), at);
            Frame::TopUp(TopUp { seq, floor: seq, captured_at, expires_at, wallet, amount, resent: false }).to_bytes()
        })
        .await
    }

    /// How much there is. Forgotten when the terminal is switched off.
    ///
    /// # Errors
    /// As [`Self::pay`].
    pub async fn balance(&self, shown: Shown) -> Result<Told, ClientError> {
        self.ask(Request::default(), move |Numbered { seq, at, .. }| {
            let wallet = shown.name();
            Frame::Balance(Balance { seq, floor: seq, captured_at: at, wallet, resent: false }).to_bytes()
        })
        .await
    }

    /// The terminal's last transactions and refusals, up to 50, and how far the server's lists are behind: for whoever
    /// wonders what became of something, and for a terminal receipt.
    ///
    /// # Errors
    /// [`ClientError::Offline`], [`ClientError::NoLists`].
    pub async fn recent(&self, limit: u16) -> Result<Lately, ClientError> {
        let (reply, answer) = oneshot::channel();
        let limit = limit.clamp(1, RECENT_MAX);
        hand_over(&self.asks, &self.state, Ask::Recent { limit, reply }).await?;
        answer.await.map_err(|_| ClientError::Offline)?
    }

    /// What happens from now on, and for the first who asks the late answers that came before. A listener that lags loses
    /// the oldest and is told so.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.untold.listen(&self.events)
    }

    /// Says goodbye and ends the terminal; what is unanswered stays in the queue's file.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if hand_over(&self.asks, &self.state, Ask::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    async fn ask(
        &self,
        wanted: Request,
        frame: impl Fn(Numbered) -> Vec<u8> + Send + 'static,
    ) -> Result<Told, ClientError> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Cashless { frame: Box::new(frame), wanted, reply: Reply::Cashless(reply) };
        hand_over(&self.asks, &self.state, ask).await?;
        let answer = async { answer.await.map_err(|_| ClientError::Gone)? };
        match self.patience {
            None => answer.await,
            Some(patience) => {
                let answered = tokio::time::timeout(patience.saturating_add(ANSWER_SLACK), answer);
                answered.await.unwrap_or(Err(ClientError::NoAnswerYet))
            }
        }
    }
}

/// How long after the end of a command's time its answer may still be on its way.
pub const ANSWER_SLACK: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::time::Timestamp;

    #[test]
    fn every_answer_can_be_read_aloud() {
        let answer = TerminalAnswer::rejected(Rejection::InsufficientFunds, WalletId(1), Timestamp(0));
        let say = |answer| Told { seq: 1, answer }.sentence();
        let paid =
            TerminalAnswer { verdict: CashlessVerdict::Paid, order: 42, amount: 1_250, balance: 3_750, ..answer };
        for (answer, said) in [
            (paid, "12.50 EUR paid, order 42. 37.50 EUR left."),
            (
                TerminalAnswer { verdict: CashlessVerdict::Refunded, ..paid },
                "12.50 EUR given back. 37.50 EUR on it now.",
            ),
            (
                TerminalAnswer { verdict: CashlessVerdict::ToppedUp, flags: OVER_LIMIT, ..paid },
                "12.50 EUR topped up. 37.50 EUR on it now. That is more than a wallet should hold.",
            ),
            (TerminalAnswer { verdict: CashlessVerdict::Balance, ..paid }, "37.50 EUR on it."),
            (TerminalAnswer { balance: 350, ..answer }, "There is not enough money on this wristband. 3.50 EUR left."),
        ] {
            assert_eq!(say(answer), said);
        }
        for &rejection in Rejection::ALL {
            let said = say(TerminalAnswer { verdict: CashlessVerdict::Rejected(rejection), ..answer });
            assert!(said.ends_with('.') && said.len() > 10, "{said}");
        }
    }
}
