//! A reader at a gate. What a scanner types is scanned, and what the steward would see is printed.
//!
//! ```text
//! cargo run -p tapgate-client --example reader -- north-1 'tapgate:enrol?…'   # the first time: the offer of the office
//! cargo run -p tapgate-client --example reader -- north-1                     # from then on
//! ```
//!
//! It keeps its key in `north-1.key` and what has no answer in `north-1.queue`. Lines are a QR, or `tag 04a1b2c3d4e580` for a
//! wristband; `out` before either for an exit; `undo` for the last scan that named a ticket.
#![allow(clippy::print_stdout)] // that is its display

use std::error::Error;
use std::path::Path;

use tapgate_client::{
    Answered, Direction, Event, Identity, Read, Reader, ReaderOptions, TagUid, Verdict, ZoneNo, enrol,
};
use tokio::sync::{broadcast, mpsc};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().ok_or("say a name for the reader's files, and the first time its offer")?;
    let (key, queue) = (format!("{name}.key"), format!("{name}.queue"));
    let identity = match args.next() {
        Some(offer) => enrol(&offer.parse()?, Path::new(&key)).await?,
        None => Identity::load(Path::new(&key))?,
    };
    let reader = Reader::connect(identity, ReaderOptions::with_queue(Path::new(&queue))).await?;
    let welcome = reader.connected().await?;
    let (device, festival) = (&welcome.device_name, &welcome.festival_name);
    println!("welcome, {device}: {festival}, {}, into {}", welcome.gate_name, welcome.zone_name);
    let telling = tokio::spawn(print_events(reader.events()));

    let mut lines = typed();
    let mut last = None;
    while let Some(line) = lines.recv().await {
        let answered = match (line.as_str(), last) {
            ("undo", Some((seq, ticket))) => reader.undo(seq, ticket).await,
            ("undo", None) => {
                println!("nothing was scanned yet");
                continue;
            }
            (line, _) => {
                let (direction, read) = match line.strip_prefix("out ") {
                    Some(read) => (Direction::Exit, read),
                    None => (Direction::Enter, line),
                };
                let Some(read) = shown(read) else {
                    println!("a UID has 4, 7 or 10 bytes in hexadecimal digits");
                    continue;
                };
                // In the queue's file before it is sent, and asked again until it is answered, whatever happens.
                reader.scan(read, direction).await
            }
        };
        match answered {
            Ok(answered) => {
                println!("{}", steward(&answered));
                last = answered.answer.ticket.map(|ticket| (answered.seq, ticket)).or(last);
            }
            Err(error) => println!("not scanned: {error}"),
        }
    }
    telling.abort();
    reader.close().await;
    Ok(())
}

/// What is shown at the gate.
fn steward(answered: &Answered) -> String {
    let Answered { seq, answer, .. } = answered;
    match answer.verdict {
        Verdict::Admitted => format!("{seq} GREEN in, {} inside", answer.occupancy),
        Verdict::Exited => format!("{seq} GREEN out, {} inside", answer.occupancy),
        Verdict::Undone => format!("{seq} GREEN undone, {} inside", answer.occupancy),
        Verdict::Rejected(rejection) => format!("{seq} RED {}: {}", rejection as u8, rejection.sentence()),
    }
}

/// What happens without being asked.
async fn print_events(mut events: broadcast::Receiver<Event>) {
    while let Ok(event) = events.recv().await {
        match event {
            Event::Connected(_) => println!("connected again"),
            Event::Lost(error) => println!("lost the server: {error}"),
            Event::Ended(error) => println!("this reader is of no use any more: {error}"),
            Event::Notice(tapgate_client::Notice::Zone { zone: ZoneNo(zone), state }) => {
                println!("zone {zone} is {}", state.word());
            }
            Event::PutOff { seq, why } => println!("{seq} waits: {}", why.sentence()),
            Event::LateAnswer(late) => println!("late: {late:?}"),
            _ => {}
        }
    }
}

fn shown(read: &str) -> Option<Read> {
    let Some(digits) = read.strip_prefix("tag ") else { return Some(Read::Qr(read.as_bytes().to_vec())) };
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let uid: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect::<Option<_>>()?;
    TagUid::new(&uid).map(Read::Tag)
}

/// Lines as they are typed, on a thread of their own: the reader goes on while nobody types.
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
