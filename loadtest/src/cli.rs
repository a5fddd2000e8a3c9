//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::model::status::ScanAck;

/// Crowds for Tapgate: loads a server on this machine, and checks every answer.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scans at a festival's gates. Exit 1 if an answer was wrong or lost, or somebody was let in twice.
    Gate(Gate),
    /// Payments, top-ups and refunds at a festival's bars. Exit 1 if an answer was wrong or lost, or a cent too many or
    /// too few is anywhere.
    Bar(Bar),
    /// Gates and bars together: when there is too much to do, gates come first. Exit 1 as both.
    Mixed(Mixed),
    /// The same frames through a bare QUIC echo: the ceiling.
    Echo(Echo),
    /// Kills the server under load, again and again, and compares everything ever acknowledged with the journal.
    /// Exit 1 if anything was lost or happened twice, or a cent too many or too few is anywhere.
    Crash(Crash),
    /// Nodes on real brokers of Kafka, and a failure under load: compares everything ever acknowledged with the log.
    /// Exit 1 if anything was lost or happened twice, or the failure showed what it must not.
    #[cfg(feature = "cluster")]
    Cluster(ClusterArgs),
    /// Whole evenings at the gates in one thread, with every fault there is, each from one number. Exit 1 if a rule broke.
    Sim(crate::sim::Args),
    /// The echo's server; started by `echo`.
    #[command(hide = true)]
    EchoServer,
}

/// When answers leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ack {
    /// When they are on disk.
    Durable,
    /// At once; the confirmation follows.
    Decided,
}

impl Ack {
    /// The festival's policy.
    pub fn policy(self) -> ScanAck {
        match self {
            Self::Durable => ScanAck::Durable,
            Self::Decided => ScanAck::Decided,
        }
    }
}

/// What every run on a server needs.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// The HTTP door of a server that runs on this machine; its operator's key (ADMIN) comes in TAPGATE_KEY.
    #[arg(long, value_name = "ADDR", conflicts_with = "spawn", value_parser = on_this_machine)]
    pub connect: Option<SocketAddr>,
    /// Start a server of one's own in a fresh folder (what happens without --connect).
    #[arg(long)]
    pub spawn: bool,
    /// Devices, each with a connection of its own.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub connections: u32,
    /// Commands without an answer a device keeps under way [default: 8; with --rate 4096, as many as the protocol lets it].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub window: Option<u32>,
    /// Open loop: commands a second, whether answers come or not. Without it the loop is closed.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rate: Option<u64>,
    /// How long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// The same seed makes the same crowd.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where a server of one's own gets its fresh folder [default: beside this program, on its disk].
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Wait until the read models have caught up, and say what they cost; with a server of one's own.
    #[arg(long)]
    pub views: bool,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl Load {
    /// Commands a device keeps under way.
    pub fn window(&self) -> usize {
        self.window.unwrap_or(if self.rate.is_some() { 4_096 } else { 8 }) as usize
    }
}

/// `echo`
#[derive(Clone, Debug, Args)]
pub struct Echo {
    /// As everywhere; it always starts a process of its own.
    #[command(flatten)]
    pub load: Load,
    /// Tickets or wallets, over all devices.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub tickets: u32,
    /// The frames of a bar's payments, in place of a gate's scans.
    #[arg(long)]
    pub payments: bool,
}

/// `gate`
#[derive(Clone, Debug, Args)]
pub struct Gate {
    /// As everywhere.
    #[command(flatten)]
    pub load: Load,
    /// Tickets, over all readers.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub tickets: u32,
    /// When answers leave.
    #[arg(long, value_enum, default_value_t = Ack::Durable)]
    pub ack: Ack,
    /// Readers that are connected beside them, and silent.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=50_000))]
    pub idle: u32,
}

/// `bar`
#[derive(Clone, Debug, Args)]
pub struct Bar {
    /// As everywhere.
    #[command(flatten)]
    pub load: Load,
    /// What is at the bar.
    #[command(flatten)]
    pub customers: Customers,
}

/// Who is at the bar.
#[derive(Clone, Debug, Args)]
pub struct Customers {
    /// Wallets, over all terminals.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=20_000_000))]
    pub wallets: u32,
    /// Of these, so many have a wristband, which names them.
    #[arg(long, default_value_t = 1_000)]
    pub tags: u32,
    /// Vendors; terminals take turns at them.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub vendors: u16,
    /// This share of all payments is made from one wallet, and this share of the terminals is one vendor's.
    #[arg(long, default_value_t = 0.0, value_parser = a_share)]
    pub hot: f64,
    /// Operators that transfer money from wallet to wallet meanwhile, one call at a time each.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    pub transfers: u32,
}

/// `mixed`
#[derive(Clone, Debug, Args)]
pub struct Mixed {
    /// As everywhere; half of the connections are gates, half are bars. The rate is that of the bars.
    #[command(flatten)]
    pub load: Load,
    /// What is at the bar.
    #[command(flatten)]
    pub customers: Customers,
    /// Scans a second at the gates, in an open loop.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub scans: u64,
    /// Tickets, over all readers.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub tickets: u32,
    /// When the answers to scans leave.
    #[arg(long, value_enum, default_value_t = Ack::Durable)]
    pub ack: Ack,
}

/// `crash`
#[derive(Clone, Debug, Args)]
pub struct Crash {
    /// How often the server is killed.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub cycles: u32,
    /// Readers.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub connections: u32,
    /// Commands without an answer a reader or terminal keeps under way.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub window: u32,
    /// Scans a second, all readers together: what is remembered of each takes 16 bytes here.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=200_000))]
    pub rate: u64,
    /// Tickets, over all readers.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub tickets: u32,
    /// Terminals beside them; one more pays by wristbands that are moved from wallet to wallet.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub terminals: u32,
    /// Commands a second, all terminals together: what is remembered of each takes 16 bytes here.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=200_000))]
    pub payments: u64,
    /// Wallets, over all terminals.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub wallets: u32,
    /// When answers leave; with `decided`, only those count as acknowledged that were confirmed.
    #[arg(long, value_enum, default_value_t = Ack::Durable)]
    pub ack: Ack,
    /// The same seed makes the same crowd, and kills at the same moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the server gets its fresh folder [default: beside this program, on its disk].
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// `cluster`
#[cfg(feature = "cluster")]
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// What fails; --list says what there is.
    #[arg(long, value_name = "NAME", required_unless_present = "list")]
    pub scenario: Option<String>,
    /// Print all scenarios, and what each must show.
    #[arg(long)]
    pub list: bool,
    /// How often it fails [default: the scenario's].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub cycles: Option<u32>,
    /// On how many nodes [default: the scenario's].
    #[arg(long, value_parser = nodes)]
    pub nodes: Option<usize>,
    /// The `tapgate` program, built with the feature `cluster` [default: the one beside this program].
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// Brokers that run, host:port each [default: TAPGATE_TEST_KAFKA, or three that are started and stopped here].
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub kafka: Vec<String>,
    /// Servers of CQL that run; read models and snapshots lie there, else in the nodes' folders [default: none, and where a
    /// scenario needs one, TAPGATE_TEST_CQL, or one that is started and stopped here].
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub cql: Vec<String>,
    /// Readers.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub readers: u32,
    /// Scans a second, all readers together.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pub scans: u64,
    /// Terminals; one more pays by wristbands that are moved from wallet to wallet.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub terminals: u32,
    /// Commands a second, all terminals together.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pub payments: u64,
    /// The same seed makes the same crowd, and the same failures.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the nodes get their folders [default: beside this program, on its disk].
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// The nodes' folders stay, with what they said.
    #[arg(long)]
    pub keep: bool,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Read the log as if the nodes had this bug: the comparison has to find it.
    #[arg(long, value_enum, hide = true)]
    pub plant: Option<crate::cluster::Plant>,
}

#[cfg(feature = "cluster")]
fn nodes(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=9).contains(count)).ok_or_else(|| "must be 1 to 9".to_owned())
}

fn a_share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "must be a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be a number from 0 to 1".into()) }
}

/// Load goes to this machine only: nobody wants to find out whose server that was.
fn on_this_machine(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "must be an address and a port, 127.0.0.1:8080".to_owned())?;
    match address {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => Ok(address),
        _ => Err("load goes to 127.0.0.0/8 only".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[cfg(feature = "cluster")]
    #[test]
    fn clusters_can_be_typed() {
        for line in [
            "loadtest cluster --list",
            "loadtest cluster --scenario node-killed --cycles 3 --nodes 1 --json",
            "loadtest cluster --scenario cql-killed --kafka 127.0.0.1:9092,127.0.0.1:9093 --cql 127.0.0.1:9042 --keep",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
        for line in
            ["loadtest cluster", "loadtest cluster --scenario x --nodes 0", "loadtest cluster --cycles 0 --list"]
        {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn what_others_rely_on_can_be_typed() {
        Cli::command().debug_assert();
        for line in [
            "loadtest gate",
            "loadtest gate --spawn --connections 4 --window 256 --seconds 2 --tickets 1000 --ack decided --json",
            "loadtest gate --connect 127.0.0.1:8080 --rate 50000",
            "loadtest bar --spawn --connections 4 --window 256 --seconds 2 --wallets 1000 --vendors 3 --hot 0.5 --json",
            "loadtest bar --wallets 10000000 --rate 50000",
            "loadtest mixed --scans 20000 --rate 100000 --seconds 2 --json",
            "loadtest echo --connections 32 --window 8 --seconds 3 --json",
            "loadtest echo --connections 256 --window 1 --payments",
            "loadtest crash --cycles 20 --json",
            "loadtest crash --cycles 2 --ack decided",
            "loadtest crash --cycles 2 --wallets 1000 --terminals 2 --payments 500",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
        for line in [
            "loadtest",
            "loadtest gate --connect 192.0.2.1:8080",
            "loadtest gate --connect 127.0.0.1:8080 --spawn",
            "loadtest bar --hot 1.1",
            "loadtest bar --hot NaN",
            "loadtest bar --connect 192.0.2.1:8080",
            "loadtest gate --window 4097",
            "loadtest gate --connections 0",
            "loadtest crash --cycles 0",
            "loadtest crash --wallets 0",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
