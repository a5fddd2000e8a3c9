//! `mixed`: gates and bars on one server. The gates follow a schedule; the bars ask as much as they are told to, or can.

use crate::admin::Admin;
use crate::bar::{self, Evening, Transfers};
use crate::cli::{Gate, Load, Mixed};
use crate::gate::{self, DISK_S, Night};
use crate::reader::DeviceConfig;
use crate::report::{DiskUs, MixedReport};
use crate::server::Server;
use crate::stage::{self, on_a_server};
use storage::journal::bench::bench_disk;

/// Runs it.
///
/// # Errors
/// The server does not start, or refuses to be set up. What it answers wrongly is in the report.
pub fn run(args: &Mixed) -> anyhow::Result<MixedReport> {
    let (mut report, stopped) = on_a_server(&args.load, |server, admin, folder| {
        let disk = bench_disk(&folder, DISK_S)?;
        let mut report = measure(args, server, admin)?;
        report.gate.metrics.disk_us = DiskUs::of(&disk);
        report.bar.metrics.disk_us = DiskUs::of(&disk);
        Ok(report)
    })?;
    if let Some(why) = stopped {
        report.bar.wrong += 1;
        report.bar.notes.push(why);
    }
    Ok(report)
}

fn measure(args: &Mixed, server: Option<&Server>, admin: &Admin) -> anyhow::Result<MixedReport> {
    let connections = (args.load.connections / 2).max(1);
    let bars = Load { connections, ..args.load.clone() };
    let gates = Load { rate: Some(args.scans), window: None, ..bars.clone() };
    let gates = Gate { load: gates, tickets: args.tickets, ack: args.ack, idle: 0 };
    let (scans, commands) =
        (gate::window(&gates.load, gates.tickets)?, bar::window(&bars, args.customers.wallets, connections)?);
    let night = Night::prepare(admin, &gates, scans)?;
    let device_config = DeviceConfig { window: commands, keep: 0, remember: false, waits: false, echo: false };
    // The same operator has no two attempts with one key.
    let barkeeper = admin.another();
    let mut evening = Evening::prepare(&barkeeper, &args.customers, connections, bars.seed, device_config)?;
    let server = server.and_then(Server::watched);
    let slots = core::mem::take(&mut evening.slots);
    let Night { festival, target, slots: readers } = night;
    let at_the_gates = stage::start(&gates.load, scans, target, readers, server.clone())?;
    let at_the_bars = stage::start(&bars, commands, evening.target.clone(), slots, server)?;
    let transfers = Transfers::start(&barkeeper, &evening, bars.seconds);
    let gate = gate::add_up(&gates, at_the_gates.come_home()?, (admin, &festival))?;
    let worked = at_the_bars.come_home()?;
    let bar = bar::add_up(&args.customers, worked, transfers.come_home()?, (&barkeeper, &evening))?;
    Ok(MixedReport { mode: "mixed", gate, bar })
}
