//! The demo festival and its crowd: simulated readers and terminals that stream real scans and payments over real QUIC.
//!
//! [`festival`] and [`vendors`] make what is missing, [`visitors`] and [`customers`] decide who tries what, [`readers`] and
//! [`terminals`] are the devices, [`bars`] brings customers to terminals. Starting again finds the festival, its tickets, wallets
//! and devices as they were, asks the node who is inside and what is on which wristband, and goes on from there.

pub mod bars;
pub mod customers;
pub mod festival;
pub mod readers;
pub mod terminals;
pub mod vendors;
pub mod visitors;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actors::Node;
use engine::model::credential;
use engine::model::credential::{QrClaim, QrKey, QrSecret};
use engine::model::ids::{CategoryNo, FestivalId, TicketId};
use engine::model::status::ZoneState;
use engine::view::{Query, View};
use tapgate_client::Read;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::http::AppState;
use festival::DemoError;
use readers::{Readers, Server};
use visitors::{Place, Population, Shown};

/// How often somebody looks who steps up next.
const STEP: Duration = Duration::from_millis(50);
/// Attempts under way: 85 a second wait 100 ms at worst, and a server that answers slower than that is not hurried.
const UNDER_WAY_MAX: usize = 64;
/// How long attempts under way may take to end when the demo is stopped.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// How often the crowd looks around: an operator may rotate the QR key, or have a zone evacuated.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The crowd on its feet.
pub struct Running {
    stop: watch::Sender<bool>,
    plays: [JoinHandle<()>; 2],
}

impl Running {
    /// Sends everybody home: no new attempts, the last answers, goodbye.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for ended in futures_util::future::join_all(self.plays).await {
            if ended.is_err() {
                tracing::warn!("the demo's crowd panicked");
            }
        }
    }
}

/// Makes what is missing, lets the crowd in, and gives back the key for its page.
///
/// # Errors
/// [`DemoError`].
pub async fn start(state: &AppState, data: &Path, server: Server) -> Result<(Running, String), DemoError> {
    let folder = data.join("demo");
    std::fs::create_dir_all(&folder).map_err(|why| DemoError::File { path: folder.display().to_string(), why })?;
    let view = festival::set_up(&state.node, &folder).await?;
    let key = festival::page_key(&state.node, &folder).await?;
    vendors::set_up(&state.node, view.id).await?;
    let drinkers = vendors::gather(&state.node, &folder, view.id).await?;
    let readers = readers::connect(&state.node, &view, &folder, server).await?;
    let counters = terminals::connect(&state.node, view.id, &folder, server).await?;
    let population = festival::gather(&state.node, &folder).await?;
    let printer = Printer::new(&state.qr_secret, view.id, view.qr_version);
    let (stop, stopping) = watch::channel(false);
    let play = Play { node: state.node.clone(), secret: state.qr_secret.clone(), population, printer };
    let play = tokio::spawn(play.run(Arc::new(readers), stopping.clone()));
    let bars = tokio::spawn(bars::run(drinkers, counters, stopping));
    Ok((Running { stop, plays: [play, bars] }, key))
}

/// Makes what is held to the readers.
struct Printer {
    festival: FestivalId,
    version: u32,
    key: QrKey,
    foreign: QrKey,
}

/// A festival whose tickets turn up at the wrong gate.
const ELSEWHERE: &str = "another-festival";

impl Printer {
    fn new(secret: &QrSecret, festival: FestivalId, version: u32) -> Self {
        let foreign = secret.key(FestivalId::of_slug(ELSEWHERE), 1);
        Self { festival, version, key: secret.key(festival, version), foreign }
    }

    fn print(&self, shown: Shown) -> Vec<u8> {
        let genuine = |ticket| self.key.sign(ticket, self.version);
        match shown {
            Shown::Genuine(ticket) => credential::text(&genuine(ticket)).into_bytes(),
            Shown::Forged(ticket) => {
                let claim = genuine(ticket);
                credential::text(&QrClaim { hash: claim.hash.map(|byte| byte ^ 0x55), ..claim }).into_bytes()
            }
            Shown::Flipped(ticket, bit) => {
                let mut text = credential::text(&genuine(ticket)).into_bytes();
                let bit = bit as usize % (text.len() * 8);
                text[bit / 8] ^= 1 << (bit % 8);
                text
            }
            Shown::Foreign(nonce) => {
                let ticket = TicketId::new(FestivalId::of_slug(ELSEWHERE), CategoryNo(0), 1, nonce);
                credential::text(&self.foreign.sign(ticket, 1)).into_bytes()
            }
        }
    }
}

struct Play {
    node: Node,
    secret: QrSecret,
    population: Population,
    printer: Printer,
}

impl Play {
    async fn run(mut self, readers: Arc<Readers>, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(UNDER_WAY_MAX));
        // One for each place: an answer never waits for room.
        let (ended, mut endings) = mpsc::channel(UNDER_WAY_MAX);
        let mut step = interval(STEP);
        step.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = stop.changed() => break,
                Some((attempt, verdict)) = endings.recv() => self.population.ended(&attempt, verdict),
                _ = look.tick() => self.look_around().await,
                _ = step.tick() => {
                    let now_ms = jiff::Timestamp::now().as_millisecond();
                    for _ in 0..self.population.arrivals(now_ms, STEP.as_secs_f64() * 1_000.0) {
                        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { break };
                        let Some(attempt) = self.population.next(now_ms) else { continue };
                        let at_gates = readers.at(attempt.gate_of);
                        let reader = at_gates[self.population.below(at_gates.len() as u64) as usize].clone();
                        let read = Read::Qr(self.printer.print(attempt.shown));
                        let ended = ended.clone();
                        tokio::spawn(async move {
                            let verdict = reader.scan(read, attempt.direction).await.ok().map(|a| a.answer.verdict);
                            let _ = ended.send((attempt, verdict)).await;
                            drop(place);
                        });
                    }
                }
            }
        }
        // What is still unanswered then lies in the readers' queues, and is sent at the next start.
        drop(ended);
        let _ = timeout(LAST_ANSWERS_WITHIN, async { while let Some(_ending) = endings.recv().await {} }).await;
        readers.close().await;
    }

    /// What an operator has changed: the QR key, or the state of a zone.
    async fn look_around(&mut self) {
        let View::Festival(view) = self.node.query(Query::Festival(self.printer.festival)).await else { return };
        for (zone, place) in view.zones.iter().zip([Place::Ground, Place::Deck, Place::Backstage]) {
            self.population.evacuate(place, zone.state == ZoneState::Evacuating);
        }
        if view.qr_version != self.printer.version {
            self.printer = Printer::new(&self.secret, view.id, view.qr_version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::rejection::Rejection;

    #[test]
    fn what_is_printed_is_what_it_should_be() {
        let secret = QrSecret::new(b"a secret of at least 32 bytes, for tests").unwrap();
        let festival = FestivalId::of_slug(festival::SLUG);
        let printer = Printer::new(&secret, festival, 3);
        let ticket = TicketId::new(festival, CategoryNo(1), 7, 99);
        let seen = |shown| secret.verify(&printer.print(shown));
        let genuine = seen(Shown::Genuine(ticket)).unwrap();
        assert_eq!((genuine.id(), genuine.version()), (ticket, 3));
        assert_eq!(seen(Shown::Forged(ticket)), Err(Rejection::TamperedQr));
        assert_eq!(seen(Shown::Foreign(5)).unwrap().id().festival(), FestivalId::of_slug(ELSEWHERE));
        for bit in 0..4_096 {
            assert!(seen(Shown::Flipped(ticket, bit)).is_err(), "bit {bit}");
        }
    }
}
