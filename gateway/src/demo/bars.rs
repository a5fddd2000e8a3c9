//! The evening at the bars: brings who is thirsty to a terminal, and tells them how it ended.

use std::sync::Arc;
use std::time::Duration;

use engine::cashless::command::TerminalAnswer;
use engine::model::money::{Currency, Money};
use tapgate_client::{ClientError, Shown, Terminal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{LAST_ANSWERS_WITHIN, UNDER_WAY_MAX};
use crate::demo::customers::{Drinkers, Want};
use crate::demo::terminals::Counters;

/// How often somebody looks who steps up next: not in time with the gates.
const STEP: Duration = Duration::from_millis(70);

/// Until `stop`: then no new wishes, the last answers, goodbye.
pub async fn run(mut drinkers: Drinkers, counters: Counters, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    // One for each place: an answer never waits for room.
    let (ended, mut endings) = mpsc::channel(UNDER_WAY_MAX);
    let mut step = interval(STEP);
    step.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some((wish, answer)) = endings.recv() => drinkers.ended(&wish, answer),
            _ = step.tick() => {
                let now_ms = jiff::Timestamp::now().as_millisecond();
                for _ in 0..drinkers.arrivals(now_ms, STEP.as_secs_f64() * 1_000.0) {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { break };
                    let Some(wish) = drinkers.next(now_ms) else { continue };
                    let terminal = counters.at(wish.at, now_ms, |n| drinkers.below(n)).clone();
                    let ended = ended.clone();
                    tokio::spawn(async move {
                        let answer = carry_out(&terminal, &wish.want).await.ok();
                        let _ = ended.send((wish, answer)).await;
                        drop(place);
                    });
                }
            }
        }
    }
    // What is still unanswered then lies in the terminals' queues, and is sent at the next start.
    drop(ended);
    let _ = timeout(LAST_ANSWERS_WITHIN, async { while let Some(_ending) = endings.recv().await {} }).await;
    counters.close().await;
}

async fn carry_out(terminal: &Terminal, want: &Want) -> Result<TerminalAnswer, ClientError> {
    let money = |minor: i64| Money { minor, currency: Currency::EUR };
    let told = match want {
        Want::Pay { tag, amount, lines } => terminal.pay(Shown::Tag(*tag), money(*amount), lines).await?,
        Want::TopUp { tag, amount } => terminal.top_up(Shown::Tag(*tag), money(*amount)).await?,
        Want::Refund { payment, amount } => terminal.refund(*payment, amount.map(money)).await?,
    };
    Ok(told.answer)
}
