//! Drives one device over one link: asks as its window or the schedule allows, hands it what arrives, until it has
//! all its answers.

use std::cell::RefCell;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant as Moment, Interval, interval, sleep_until};

use crate::link::Link;
use crate::pace::Pace;
use crate::simulated::{Latencies, SimulatedDevice};

/// How long after the end answers are waited for on one connection.
pub const DRAIN: Duration = Duration::from_secs(10);

/// What all readers of a run share.
pub struct RunContext {
    /// Nanosecond 0.
    pub start: Instant,
    /// The same by this machine's clock, in ms since 1970.
    pub epoch_ms: i64,
    /// When asking ends, in ns; may be moved forward while the run is on.
    pub end_ns: AtomicU64,
    /// The schedule of an open loop; a closed one has none.
    pub pace: Option<Pace>,
    /// How long an answer is waited for on one connection, where somebody else might give it.
    pub answer_within: Option<Duration>,
    /// The server's incarnation: when it changes, connections are of no more use.
    pub incarnation: watch::Sender<u64>,
}

impl RunContext {
    /// Nanoseconds since the start.
    pub fn ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn moment(&self, ns: u64) -> Moment {
        let far = Duration::from_secs(24 * 3_600);
        Moment::from_std(self.start + Duration::from_nanos(ns).min(far))
    }
}

/// Until the device has all its answers.
///
/// # Errors
/// The connection is over, or answers do not come: connect anew and resume.
pub async fn drive(
    link: &mut Link,
    simulated: &mut impl SimulatedDevice,
    resumed: bool,
    context: &RunContext,
    latencies: &RefCell<Latencies>,
) -> anyhow::Result<()> {
    let mut incarnation = context.incarnation.subscribe();
    let mut out = Vec::new();
    let (mut written, mut stamped) = (0, 0);
    if resumed {
        simulated.resume(context.ns(), &mut out);
    }
    // When it last heard an answer: refusals are none.
    let mut heard_ns = context.ns();
    let mut alarm = pin!(sleep_until(context.moment(0)));
    let mut alarm_ns = 0;
    let mut patience = context.answer_within.map(Patience::new);
    loop {
        let now_ns = context.ns();
        let end_ns = context.end_ns.load(Ordering::Relaxed);
        if written == out.len() {
            out.clear();
            (written, stamped) = (0, 0);
            simulated.ask_again(now_ns, &mut out);
            ask(simulated, context, now_ns, end_ns, &mut out);
            if now_ns >= end_ns {
                simulated.ask_at_the_end(now_ns, &mut out);
            }
        }
        if written < out.len()
            && let Some(wrote) = link.send.write(&out[written..]).now_or_never()
        {
            written += wrote?;
            stamp(&out[..written], &mut stamped, context.ns(), simulated);
        }
        let ended = now_ns >= end_ns;
        let drain_ns = end_ns.max(heard_ns).saturating_add(DRAIN.as_nanos() as u64);
        if ended && simulated.is_done() && written == out.len() {
            return Ok(());
        }
        if now_ns >= drain_ns {
            bail!("{} commands have no answer after {} s", simulated.open(), DRAIN.as_secs());
        }
        let next_ns = simulated.next_retry_ns().unwrap_or(u64::MAX).min(if ended { drain_ns } else { end_ns });
        // Set anew only where it would ring late: setting it costs more than ringing early once.
        if next_ns < alarm_ns || now_ns >= alarm_ns {
            alarm.as_mut().reset(context.moment(next_ns));
            alarm_ns = next_ns;
        }
        tokio::select! {
            biased;
            arrived = link.incoming.fill() => {
                arrived?;
                let now_ns = context.ns();
                let latencies = &mut *latencies.borrow_mut();
                let open = simulated.open();
                link.incoming.take(|frame| simulated.heard(frame, now_ns, latencies))?;
                if simulated.open() < open {
                    heard_ns = now_ns;
                }
            }
            wrote = link.send.write(&out[written..]), if written < out.len() => {
                written += wrote?;
                stamp(&out[..written], &mut stamped, context.ns(), simulated);
            }
            () = due(context, simulated.number()) => {}
            () = &mut alarm => alarm_ns = 0,
            () = Patience::tick(patience.as_mut()) => {
                if let Some(patience) = &mut patience {
                    patience.check(context.ns(), link.packets(), simulated.waits_since_ns())?;
                }
            }
            _ = incarnation.changed() => bail!("the server has gone"),
        }
    }
}

/// When a device gives its connection up to make another, as the device's library does: whoever waits for an answer and
/// gets no packet at all has lost its node, and an answer that does not come although the node is there has lost its shard.
struct Patience {
    answer_within: Duration,
    look: Interval,
    /// How many packets had come, and when the last of them was noticed.
    packets: u64,
    heard_ns: u64,
}

/// How often a device looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Without a packet for so long, a node is gone.
const SILENT_FOR: Duration = Duration::from_millis(2_500);

impl Patience {
    fn new(answer_within: Duration) -> Self {
        Self { answer_within, look: interval(LOOK_EVERY), packets: 0, heard_ns: 0 }
    }

    async fn tick(this: Option<&mut Self>) {
        match this {
            Some(this) => drop(this.look.tick().await),
            None => pending().await,
        }
    }

    fn check(&mut self, now_ns: u64, packets: u64, waits_since_ns: Option<u64>) -> anyhow::Result<()> {
        let since = |ns: u64| Duration::from_nanos(now_ns.saturating_sub(ns));
        if packets != self.packets || waits_since_ns.is_none() {
            (self.packets, self.heard_ns) = (packets, now_ns);
        }
        ensure!(since(self.heard_ns) < SILENT_FOR, "the node is silent");
        ensure!(waits_since_ns.is_none_or(|sent_ns| since(sent_ns) < self.answer_within), "an answer does not come");
        Ok(())
    }
}

/// Commands count as sent when QUIC has taken them whole: until then they wait for room, which the server gives.
fn stamp(written: &[u8], stamped: &mut usize, now_ns: u64, simulated: &mut impl SimulatedDevice) {
    // Length at 0, number at 4.
    while let Some(head) = written.get(*stamped..*stamped + 12) {
        let len = usize::from(u16::from_le_bytes([head[0], head[1]]));
        if len < 12 || written.len() < *stamped + len {
            break;
        }
        simulated.left(u64::from_le_bytes(head[4..12].try_into().expect("eight bytes")), now_ns);
        *stamped += len;
    }
}

fn ask(simulated: &mut impl SimulatedDevice, context: &RunContext, now_ns: u64, end_ns: u64, out: &mut Vec<u8>) {
    match &context.pace {
        None if now_ns < end_ns => while simulated.may_ask(out) && simulated.ask(now_ns, now_ns, out) {},
        None => {}
        Some(pace) => {
            while now_ns < end_ns
                && simulated.may_ask(out)
                && let Some(due_ns) = pace.due(simulated.number(), simulated.sent())
                && simulated.ask(due_ns, now_ns, out)
            {}
        }
    }
}

async fn due(context: &RunContext, reader: usize) {
    match &context.pace {
        Some(pace) => pace.wait(reader).await,
        None => pending().await,
    }
}
