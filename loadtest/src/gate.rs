//! `gate`: a festival is made, its readers are enrolled, a crowd comes, and every answer is checked.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use engine::model::rejection::Rejection;
use storage::journal::bench::bench_disk;

use crate::admin::{Admin, Festival};
use crate::cli::{Gate, Load};
use crate::link::{Offer, Target};
use crate::load::{Idle, Slot};
use crate::model::{Model, Tally, Visitor};
use crate::reader::{DeviceConfig, Reader};
use crate::report::{DiskUs, GateReport, rejected};
use crate::server::Server;
use crate::stage::{self, Worked, on_a_server};
use crate::workload::gate::Population;

/// One ticket in so many is for elsewhere.
const STRANGERS_ONE_IN: usize = 64;
/// How long the disk is measured beforehand, in seconds.
pub const DISK_S: f64 = 0.9;
/// A reader's tickets are at least so many times its window: else everybody would be under a scanner at once.
const TICKETS_PER_SCAN: usize = 5;

/// Runs it.
///
/// # Errors
/// The server does not start, or refuses to be set up. What it answers wrongly is in the report.
pub fn run(args: &Gate) -> anyhow::Result<GateReport> {
    let (mut report, stopped) = on_a_server(&args.load, |server, admin, folder| measure(args, server, admin, folder))?;
    if let Some(why) = stopped {
        report.wrong += 1;
        report.notes.push(why);
    }
    Ok(report)
}

fn measure(args: &Gate, server: Option<&Server>, admin: &Admin, folder: PathBuf) -> anyhow::Result<GateReport> {
    let window = window(&args.load, args.tickets)?;
    let night = Night::prepare(admin, args, window)?;
    let disk = bench_disk(&folder, DISK_S)?;
    let mut silent = 0;
    let idle = (args.idle > 0).then(|| {
        Idle::slot(night.target.clone(), || {
            silent += 1;
            if silent > args.idle {
                return Ok(None);
            }
            Ok(Some(admin.offer(&night.festival, &format!("Silent {silent}"))?.0))
        })
    });
    let idle = idle.transpose()?;
    let Night { festival, target, slots } = night;
    let working = stage::start(&args.load, window, target, slots, server.and_then(Server::watched))?;
    let mut report = add_up(args, working.come_home()?, (admin, &festival))?;
    report.metrics.disk_us = DiskUs::of(&disk);
    if let Some(idle) = idle {
        idle.release()?;
    }
    Ok(report)
}

/// A festival whose readers are ready to begin.
pub struct Night {
    pub festival: Festival,
    /// Where its readers connect.
    pub target: Target,
    pub slots: Vec<Slot<Reader>>,
}

impl Night {
    /// Makes a festival with its tickets and readers.
    ///
    /// # Errors
    /// The server refuses.
    pub fn prepare(admin: &Admin, args: &Gate, window: usize) -> anyhow::Result<Self> {
        let strangers = args.tickets as usize / STRANGERS_ONE_IN;
        let festival = admin.make_festival(args.tickets as usize - strangers, strangers, args.ack.policy())?;
        let device_config = DeviceConfig { window, keep: 0, remember: false, waits: false, echo: false };
        let (slots, target) = slots(admin, &festival, args.load.connections as usize, args.load.seed, device_config)?;
        Ok(Self { festival, target, slots })
    }
}

/// Scans a reader keeps under way: as asked, or as many as its tickets allow.
///
/// # Errors
/// It was asked for more than the tickets allow.
pub fn window(load: &Load, tickets: u32) -> anyhow::Result<usize> {
    let each = (tickets as usize - tickets as usize / STRANGERS_ONE_IN) / load.connections as usize;
    let most = each / TICKETS_PER_SCAN;
    if most == 0 || load.window.is_some_and(|window| window as usize > most) {
        bail!(
            "{} tickets are too few: each reader needs {TICKETS_PER_SCAN} for each scan under way; try --tickets {}",
            tickets,
            (load.window() * TICKETS_PER_SCAN + 8) * load.connections as usize * 64 / 62
        );
    }
    Ok(load.window().min(most))
}

/// Readers with a share of the festival's tickets each, and where they are to connect.
///
/// # Errors
/// The server offers no places.
pub fn slots(
    admin: &Admin,
    festival: &Festival,
    readers: usize,
    seed: u64,
    device_config: DeviceConfig,
) -> anyhow::Result<(Vec<Slot<Reader>>, Target)> {
    let offers: Vec<(Offer, Target)> =
        (0..readers).map(|number| admin.offer(festival, &format!("Reader {number}"))).collect::<anyhow::Result<_>>()?;
    let target = offers.first().context("there is a reader")?.1.clone();
    let of = |all: &[engine::model::credential::QrClaim], number: usize, stranger: bool| -> Vec<Visitor> {
        all.iter().skip(number).step_by(readers).map(|claim| Visitor::new(*claim, stranger)).collect()
    };
    let slot = |(number, (offer, _)): (usize, (Offer, Target))| {
        let mut visitors = of(&festival.good, number, false);
        visitors.extend(of(&festival.strangers, number, true));
        let model = Model::new(visitors, festival.zone, festival.good.len() as u32);
        let population = Population::new(&model, seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        Slot { simulated: Reader::new(number, model, population, device_config), offer: Some(offer) }
    };
    Ok((offers.into_iter().enumerate().map(slot).collect(), target))
}

/// What readers found, and whether the server counts the same.
///
/// # Errors
/// The server does not say what it counts.
pub fn add_up(
    args: &Gate,
    worked: Worked<Reader>,
    (admin, festival): (&Admin, &Festival),
) -> anyhow::Result<GateReport> {
    let Worked { simulated_devices: readers, mut metrics, complaints } = worked;
    let mut tally = Tally::default();
    readers.iter().for_each(|reader| tally.add(&reader.model.tally));
    let sum = |of: fn(&Reader) -> u64| readers.iter().map(of).sum::<u64>();
    metrics.answered(tally.answered, metrics.took_ns);
    metrics.busy = sum(|reader| reader.busy);
    metrics.lost = sum(Reader::lost);
    metrics.resent = sum(|reader| reader.resent);
    metrics.slowed = sum(|reader| reader.slowed);
    // A rejection that no scan of ours can cause would be among the wrong ones; busy is never an answer.
    debug_assert_eq!(tally.rejected[Rejection::Busy as usize], 0);
    let mut report = GateReport {
        mode: "gate",
        metrics,
        tickets: args.tickets,
        ack: args.ack.policy().word(),
        idle: args.idle,
        admitted: tally.admitted,
        exited: tally.exited,
        rejected: rejected(&tally.rejected),
        wrong: tally.wrong,
        double_admitted: tally.double_admitted,
        conflicts: tally.conflicts,
        counts_agree: true,
        notes: complaints.into_iter().chain(tally.explained).collect(),
    };
    let (counts, conflicts) = admin.counts(festival)?;
    let inside: u64 = readers.iter().map(|reader| reader.model.inside()).sum();
    let agree = (counts.occupancy, counts.admitted, counts.left) == (inside, report.admitted, tally.left);
    report.counts_agree = agree && conflicts == report.conflicts;
    if !report.counts_agree {
        let left = tally.left;
        report.notes.push(format!("the server counts {counts:?}, the model {inside} inside, {left} left"));
    }
    Ok(report)
}
