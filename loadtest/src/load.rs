//! Devices on their threads: connects them all, starts them together, brings them home.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::{mpsc as tokio_mpsc, oneshot, watch};
use tokio::task::LocalSet;

use crate::drive::{DRAIN, RunContext, drive};
use crate::link::{Identity, Link, Offer, Target, endpoint};
use crate::pace::Pace;
use crate::simulated::{Latencies, SimulatedDevice};

/// Handshakes at a time from one thread: the server gives an address 256 places for those who are not proven yet.
const CONNECTING_MAX: usize = 32;
/// How often a reader connects anew after the end before what is missing counts as lost.
const ROUNDS_AFTER_END: u32 = 2;
/// Between two attempts to connect.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// How long a server may be away before its readers give up.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// A device before it has connected.
pub struct Slot<P> {
    /// Who will sit there.
    pub simulated: P,
    /// Its place at the festival; an echo needs none.
    pub offer: Option<Offer>,
}

/// What is to be done.
pub struct Plan<P> {
    pub target: Target,
    /// By whom; the one at index `n` has number `n`.
    pub slots: Vec<Slot<P>>,
    /// On how many threads.
    pub threads: usize,
    /// For how long.
    pub lasts: Duration,
    /// Commands a second, for an open loop.
    pub rate: Option<u64>,
    /// How long an answer is waited for on a connection before another is made. Without it devices trust their connection,
    /// and hear that a server has gone from whoever has ended it.
    pub answer_within: Option<Duration>,
}

/// Devices that are at work.
pub struct Running<P> {
    /// Shared with all of them.
    pub context: Arc<RunContext>,
    threads: Vec<JoinHandle<anyhow::Result<Home<P>>>>,
    pacer: Option<JoinHandle<()>>,
}

/// What all brought home.
pub struct Home<P> {
    pub simulated_devices: Vec<P>,
    /// How long it took them.
    pub latencies: Latencies,
    /// Connections made again.
    pub reconnects: u64,
    /// Why, the first few times.
    pub complaints: Vec<String>,
    /// When the last was done, in ns after the start.
    pub done_ns: u64,
}

const COMPLAINTS_MAX: usize = 8;

/// Connects every one, then starts all of them at one moment.
///
/// # Errors
/// One of them cannot connect.
pub fn start<P: SimulatedDevice>(plan: Plan<P>) -> anyhow::Result<Running<P>> {
    let Plan { target, slots, threads, lasts, rate, answer_within } = plan;
    let simulated_devices = slots.len();
    let mut shares: Vec<Vec<Slot<P>>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
    for (number, slot) in slots.into_iter().enumerate() {
        shares[number % threads.max(1)].push(slot);
    }
    let (connected, connecting) = mpsc::channel();
    let mut homes = Vec::new();
    let mut starts = Vec::new();
    for (number, share) in shares.into_iter().enumerate() {
        let (start, started) = oneshot::channel();
        starts.push(start);
        let connected = connected.clone();
        let thread = std::thread::Builder::new().name(format!("devices-{number}"));
        let target = target.clone();
        homes.push(thread.spawn(move || thread_of(target, share, &connected, started))?);
    }
    drop(connected);
    for _ in 0..homes.len() {
        connecting.recv().context("a thread of devices ended early")??;
    }
    // Only now: to make a festival takes a while, and what a wristband names is decided by when it was held to a terminal.
    let context = Arc::new(RunContext {
        start: Instant::now(),
        epoch_ms: now_ms(),
        end_ns: AtomicU64::new(lasts.as_nanos() as u64),
        pace: rate.map(|rate| Pace::new(rate, simulated_devices)),
        incarnation: watch::Sender::new(0),
        answer_within,
    });
    for start in starts {
        start.send(Arc::clone(&context)).map_err(|_| anyhow!("a thread of devices ended early"))?;
    }
    let pacer = context.pace.is_some().then(|| {
        let context = Arc::clone(&context);
        std::thread::Builder::new().name("pacer".into()).spawn(move || {
            if let Some(pace) = &context.pace {
                pace.keep(context.start, context.end_ns.load(Ordering::Relaxed));
            }
        })
    });
    Ok(Running { context, threads: homes, pacer: pacer.transpose()? })
}

impl<P: SimulatedDevice> Running<P> {
    /// Ends the asking now.
    pub fn end(&self) {
        self.context.end_ns.fetch_min(self.context.ns(), Ordering::Relaxed);
        if let Some(pace) = &self.context.pace {
            pace.stop();
        }
    }

    /// Waits for everybody.
    ///
    /// # Errors
    /// One of them panicked: what it knew is lost, so nothing can be said of the run.
    pub fn come_home(self) -> anyhow::Result<Home<P>> {
        let mut home = Home {
            simulated_devices: Vec::new(),
            latencies: Latencies::default(),
            reconnects: 0,
            complaints: Vec::new(),
            done_ns: 0,
        };
        for thread in self.threads {
            let of_thread = thread.join().map_err(|_| anyhow!("a thread of devices panicked"))??;
            home.simulated_devices.extend(of_thread.simulated_devices);
            home.latencies.add(&of_thread.latencies);
            home.reconnects += of_thread.reconnects;
            home.complaints.extend(of_thread.complaints);
            home.done_ns = home.done_ns.max(of_thread.done_ns);
        }
        if let Some(pacer) = self.pacer {
            pacer.join().map_err(|_| anyhow!("the pacer panicked"))?;
        }
        home.complaints.truncate(COMPLAINTS_MAX);
        home.simulated_devices.sort_by_key(SimulatedDevice::number);
        Ok(home)
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A device that is connected.
struct Seated<P> {
    simulated: P,
    identity: Option<Identity>,
    link: Link,
}

/// This machine's clock, in ms since 1970.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn thread_of<P: SimulatedDevice>(
    target: Target,
    slots: Vec<Slot<P>>,
    connected: &mpsc::Sender<anyhow::Result<()>>,
    started: oneshot::Receiver<Arc<RunContext>>,
) -> anyhow::Result<Home<P>> {
    let latencies = Rc::new(RefCell::new(Latencies::default()));
    let mut home = Home {
        simulated_devices: Vec::new(),
        latencies: Latencies::default(),
        reconnects: 0,
        complaints: Vec::new(),
        done_ns: 0,
    };
    let attended = runtime().and_then(|runtime| {
        LocalSet::new().block_on(&runtime, async {
            let endpoint = endpoint(&target)?;
            let seated = stream::iter(slots.into_iter().map(|slot| sit_down(&endpoint, &target, slot)));
            let seated: Vec<Seated<P>> = seated.buffered(CONNECTING_MAX).try_collect().await?;
            let _ = connected.send(Ok(()));
            let context = started.await.context("there is no start")?;
            let tasks: Vec<_> = seated
                .into_iter()
                .map(|mut slot| {
                    slot.simulated.begins_at(context.epoch_ms);
                    let (endpoint, context, latencies) =
                        (endpoint.clone(), Arc::clone(&context), Rc::clone(&latencies));
                    let target = target.clone();
                    tokio::task::spawn_local(async move { attend(slot, &endpoint, target, &context, &latencies).await })
                })
                .collect();
            for task in tasks {
                let attended = task.await.context("a device's task panicked")?;
                home.reconnects += attended.reconnects;
                home.complaints.extend(attended.complaint);
                home.simulated_devices.push(attended.simulated);
            }
            home.done_ns = context.ns();
            let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
            anyhow::Ok(())
        })
    });
    if let Err(error) = attended {
        // Before the start somebody waits for this; after it, whoever brings the readers home.
        let _ = connected.send(Err(anyhow!("{error:#}")));
        return Err(error);
    }
    home.latencies.add(&latencies.borrow());
    Ok(home)
}

async fn sit_down<P: SimulatedDevice>(
    endpoint: &quinn::Endpoint,
    target: &Target,
    slot: Slot<P>,
) -> anyhow::Result<Seated<P>> {
    let Slot { mut simulated, offer } = slot;
    let mut link = Link::open(endpoint, target, simulated.number()).await?;
    let identity = match offer {
        None => None,
        Some(offer) => {
            let identity = link.enrol(&offer).await?;
            link.hello(&identity).await?;
            simulated.enrolled(identity.device);
            Some(identity)
        }
    };
    Ok(Seated { simulated, identity, link })
}

struct Attended<P> {
    simulated: P,
    reconnects: u64,
    complaint: Option<String>,
}

async fn attend<P: SimulatedDevice>(
    slot: Seated<P>,
    endpoint: &quinn::Endpoint,
    target: Target,
    context: &RunContext,
    latencies: &RefCell<Latencies>,
) -> Attended<P> {
    let Seated { mut simulated, identity, mut link } = slot;
    let (mut reconnects, mut rounds, mut complaint) = (0, 0, None);
    let mut resumed = false;
    while let Err(error) = drive(&mut link, &mut simulated, resumed, context, latencies).await {
        link.close();
        complaint.get_or_insert_with(|| format!("device {}: {error:#}", simulated.number()));
        rounds += u32::from(context.ns() >= context.end_ns.load(Ordering::Relaxed));
        if rounds > ROUNDS_AFTER_END {
            break;
        }
        // Another node comes first each time: the one before may answer and be of no use.
        let first = simulated.number() + reconnects as usize + 1;
        let Some(replay) = come_back(endpoint, &target, first, identity.as_ref()).await else { break };
        (link, resumed) = (replay, true);
        reconnects += 1;
    }
    link.close();
    Attended { simulated, reconnects, complaint }
}

async fn come_back(
    endpoint: &quinn::Endpoint,
    target: &Target,
    first: usize,
    identity: Option<&Identity>,
) -> Option<Link> {
    let gone = Instant::now();
    while gone.elapsed() < AWAY_MAX {
        let connected = async {
            match identity {
                Some(identity) => Link::open_as(endpoint, target, first, identity).await,
                None => Link::open(endpoint, target, first).await,
            }
        };
        // A packet to a server that is just starting is lost; waiting for QUIC to send it again costs more than trying.
        match tokio::time::timeout(Duration::from_secs(2), connected).await {
            Ok(Ok(link)) => return Some(link),
            Ok(Err(_)) | Err(_) => tokio::time::sleep(TRY_AGAIN).await,
        }
    }
    None
}

/// Readers that are connected and silent, on a thread of their own.
pub struct Idle {
    thread: JoinHandle<anyhow::Result<()>>,
    release: oneshot::Sender<()>,
}

impl Idle {
    /// Seats everybody who comes with an offer, and returns when the last one is connected. `offers` is called on
    /// this thread until it has no more.
    ///
    /// # Errors
    /// One of them cannot connect.
    pub fn slot(target: Target, mut offers: impl FnMut() -> anyhow::Result<Option<Offer>>) -> anyhow::Result<Self> {
        // Codes that wait to be used: the festival keeps 1,024.
        let (queue, mut waiting) = tokio_mpsc::channel::<Offer>(128);
        let (all_seated, seated) = mpsc::channel();
        let (release, released) = oneshot::channel();
        let thread = std::thread::Builder::new().name("idle".into()).spawn(move || {
            runtime()?.block_on(async {
                let endpoint = endpoint(&target)?;
                let coming = stream::poll_fn(move |context| waiting.poll_recv(context));
                let links: Vec<Link> = coming
                    .map(|offer| {
                        let (endpoint, target) = (&endpoint, &target);
                        async move {
                            let mut link = Link::open(endpoint, target, 0).await?;
                            let identity = link.enrol(&offer).await?;
                            link.hello(&identity).await?;
                            anyhow::Ok(link)
                        }
                    })
                    .buffered(CONNECTING_MAX)
                    .try_collect()
                    .await?;
                let _ = all_seated.send(());
                // Whoever drops the other end without a word releases them as well.
                let _ = released.await;
                links.iter().for_each(Link::close);
                let _ = tokio::time::timeout(DRAIN, endpoint.wait_idle()).await;
                anyhow::Ok(())
            })
        })?;
        while let Some(offer) = offers()? {
            if queue.blocking_send(offer).is_err() {
                break;
            }
        }
        drop(queue);
        if seated.recv().is_err() {
            thread.join().map_err(|_| anyhow!("the idle readers' thread panicked"))??;
            anyhow::bail!("the idle readers' thread ended early");
        }
        Ok(Self { thread, release })
    }

    /// Lets them go.
    ///
    /// # Errors
    /// Their thread had failed.
    pub fn release(self) -> anyhow::Result<()> {
        let _ = self.release.send(());
        self.thread.join().map_err(|_| anyhow!("the idle readers' thread panicked"))?
    }
}
