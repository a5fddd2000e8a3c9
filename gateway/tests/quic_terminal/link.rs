//! A bare connection that pays, and what it hears.

use std::time::Duration;

use engine::cashless::command::*;

use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use tapgate_client::Link;
use tapgate_wire::{Frame, LineItem, Pay, Refund, TopUp, WalletName};

use crate::common::terminal::*;
use crate::common::{House, open};

/// Nothing here takes so long; a test that hangs ends.
pub(crate) const AT_MOST: Duration = Duration::from_secs(20);

pub(crate) async fn bar() -> House {
    let house = open().await;
    cashless(&house).await;
    house
}

/// What a bare connection hears about a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Heard {
    Told(TerminalAnswer),
    Busy(Rejection),
}

impl Heard {
    pub(crate) fn verdict(&self) -> CashlessVerdict {
        match self {
            Self::Told(answer) => answer.verdict,
            Self::Busy(rejection) => panic!("busy: {rejection:?}"),
        }
    }
}

/// This machine's clock, which is also the server's.
pub(crate) fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// So many answers, by number.
pub(crate) async fn receive(link: &mut Link, count: usize) -> Vec<(u64, Heard)> {
    let mut heard = Vec::new();
    let listen = async {
        loop {
            link.frames
                .take(|frame| match frame {
                    Frame::CashlessAnswer { seq, answer } => heard.push((*seq, Heard::Told(*answer))),
                    Frame::Busy { seq, rejection, .. } => heard.push((*seq, Heard::Busy(*rejection))),
                    other => panic!("{other:?}"),
                })
                .unwrap();
            if heard.len() >= count {
                return;
            }
            assert!(link.frames.fill().await.unwrap(), "the stream goes on");
        }
    };
    tokio::time::timeout(AT_MOST, listen).await.expect("answers come");
    heard.sort_by_key(|(seq, _)| *seq);
    heard
}

pub(crate) async fn send(link: &mut Link, frames: &[Frame<'_>]) {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    link.send.write_all(&bytes).await.unwrap();
}

pub(crate) async fn one(link: &mut Link, frame: Frame<'_>) -> Heard {
    send(link, &[frame]).await;
    receive(link, 1).await[0].1
}

pub(crate) fn pay(seq: u64, wallet: WalletName<'_>, minor: i64) -> Frame<'_> {
    pay_at(now(), seq, wallet, minor)
}

/// A payment that was tapped at this moment.
pub(crate) fn pay_at(captured_at: Timestamp, seq: u64, wallet: WalletName<'_>, minor: i64) -> Frame<'_> {
    let (amount, expires_at) = (eur(minor), Timestamp(0));
    Frame::Pay(Pay { seq, floor: 1, captured_at, expires_at, wallet, amount, lines: &[], resent: false })
}

pub(crate) fn with_lines<'a>(frame: Frame<'a>, lines: &'a [LineItem]) -> Frame<'a> {
    let Frame::Pay(pay) = frame else { panic!("{frame:?}") };
    Frame::Pay(Pay { lines, ..pay })
}

pub(crate) fn top_up(seq: u64, wallet: WalletName<'_>, minor: i64) -> Frame<'_> {
    let (captured_at, expires_at, amount) = (now(), Timestamp(0), eur(minor));
    Frame::TopUp(TopUp { seq, floor: 1, captured_at, expires_at, wallet, amount, resent: false })
}

pub(crate) fn replay(frame: Frame<'_>) -> Frame<'_> {
    match frame {
        Frame::Pay(pay) => Frame::Pay(Pay { resent: true, ..pay }),
        Frame::Refund(refund) => Frame::Refund(Refund { resent: true, ..refund }),
        Frame::TopUp(top_up) => Frame::TopUp(TopUp { resent: true, ..top_up }),
        other => panic!("{other:?}"),
    }
}
