//! A terminal at a bar. What the bartender types is done, and what the guest is told is printed.
//!
//! ```text
//! cargo run -p tapgate-client --example terminal -- bar-7 'tapgate:enrol?…'   # the first time: the offer of the office
//! cargo run -p tapgate-client --example terminal -- bar-7                     # from then on
//! ```
//!
//! It keeps its key in `bar-7.key` and what has no answer in `bar-7.queue`. Lines are
//!
//! ```text
//! pay 5.00 tag 04a1b2c3d4e580      topup 20.00 tag 04a1b2c3d4e580      balance tag 04a1b2c3d4e580
//! refund                           the last payment, all that is left of it
//! recent                           the terminal's last transactions, as the server has them
//! ```
//!
//! with a wallet's QR in place of `tag …`, if there is one.
#![allow(clippy::print_stdout)] // that is its display

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tapgate_client::{
    CashlessVerdict, ClientError, Event, Identity, LateAnswer, Money, ReaderOptions, Shown, TagUid, Terminal, Told,
    TransactionId, enrol,
};
use tokio::sync::{broadcast, mpsc};

/// How long a guest waits. What is not done by then will not be done, also if the network is gone.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().ok_or("say a name for the terminal's files, and the first time its offer")?;
    let (key, queue) = (format!("{name}.key"), format!("{name}.queue"));
    let identity = match args.next() {
        Some(offer) => enrol(&offer.parse()?, Path::new(&key)).await?,
        None => Identity::load(Path::new(&key))?,
    };
    let terminal = Terminal::connect(identity, ReaderOptions::with_queue(Path::new(&queue))).await?;
    let welcome = terminal.connected().await?;
    let vendor = welcome.terminal.as_ref().map_or("", |terminal| &terminal.vendor_name);
    println!("welcome, {}: {}, {vendor}", welcome.device_name, welcome.festival_name);
    let telling = tokio::spawn(print_events(terminal.events()));

    let terminal = terminal.within(PATIENCE);
    let mut lines = typed();
    let mut last = None;
    while let Some(line) = lines.recv().await {
        match carry_out(&terminal, &line, last).await {
            Ok(told) => {
                println!("{} {}", told.seq, told.sentence());
                if told.answer.verdict == CashlessVerdict::Paid {
                    last = told.transaction();
                }
            }
            Err(why) => println!("{why}"),
        }
    }
    telling.abort();
    terminal.close().await;
    Ok(())
}

/// What was typed, done; or why it was not.
async fn carry_out(terminal: &Terminal, line: &str, last: Option<TransactionId>) -> Result<Told, String> {
    let currency = terminal.currency().await.map_err(|error| sentence(&error))?;
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let amount = |rest| -> Result<(Money, Shown), String> {
        let (amount, rest) = str::split_once(rest, ' ').ok_or("how much, and whose?")?;
        let minor = currency.read(amount).map_err(|why| format!("{amount}: {why}"))?;
        Ok((Money { minor, currency }, shown(rest)?))
    };
    let told = match word {
        "pay" => {
            let (amount, shown) = amount(rest)?;
            terminal.pay(shown, amount, &[]).await
        }
        "topup" => {
            let (amount, shown) = amount(rest)?;
            terminal.top_up(shown, amount).await
        }
        "balance" => terminal.balance(shown(rest)?).await,
        "refund" => terminal.refund(last.ok_or("nothing was paid here yet")?, None).await,
        "recent" => {
            let lately = terminal.recent(10).await.map_err(|error| sentence(&error))?;
            let row = |row: &tapgate_client::Recent| Told { seq: row.seq, answer: row.answer };
            let rows = lately.rows.iter().map(row).map(|told| format!("\n  {} {}", told.seq, told.sentence()));
            return Err(format!("the last {}:{}", lately.rows.len(), rows.collect::<String>()));
        }
        _ => return Err("pay, topup, balance, refund, recent".to_owned()),
    };
    told.map_err(|error| sentence(&error))
}

/// A failure is no refusal.
fn sentence(error: &ClientError) -> String {
    format!("no answer: {error}")
}

/// What happens without being asked.
async fn print_events(mut events: broadcast::Receiver<Event>) {
    while let Ok(event) = events.recv().await {
        match event {
            Event::Connected(_) => println!("connected again"),
            Event::Lost(error) => println!("lost the server: {error}"),
            Event::Ended(error) => println!("this terminal is of no use any more: {error}"),
            Event::PutOff { seq, why } => println!("{seq} waits: {}", why.sentence()),
            Event::LateAnswer(LateAnswer::Cashless { told, .. }) => println!("late: {} {}", told.seq, told.sentence()),
            _ => {}
        }
    }
}

fn shown(read: &str) -> Result<Shown, String> {
    let Some(digits) = read.strip_prefix("tag ") else { return Ok(Shown::Qr(read.as_bytes().to_vec())) };
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let uid: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
    let uid = uid.and_then(|uid| TagUid::new(&uid));
    uid.map(Shown::Tag).ok_or("a UID has 4, 7 or 10 bytes in hexadecimal digits".to_owned())
}

/// Lines as they are typed, on a thread of their own: the terminal goes on while nobody types.
fn typed() -> mpsc::Receiver<String> {
    let (line, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for typed in std::io::stdin().lines().map_while(Result::ok).filter(|typed| !typed.trim().is_empty()) {
            if line.blocking_send(typed.trim().to_owned()).is_err() {
                return;
            }
        }
    });
    lines
}
