//! `loadtest`: what is typed, and what is said at the end.
#![allow(clippy::print_stdout)] // a report is what this program is for

use std::fmt::Display;
use std::process::ExitCode;

use clap::Parser as _;
use loadtest::cli::{Cli, Command};
use loadtest::{bar, crash, echo, gate, mixed, sim};
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 1: something was wrong, lost or doubled; 2: there was no run to speak of.
fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("loadtest: {error:#}");
        ExitCode::from(2)
    })
}

fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Gate(args) => {
            let report = gate::run(&args)?;
            print_report(&report, args.load.json, report.is_good())
        }
        Command::Bar(args) => {
            let report = bar::run(&args)?;
            print_report(&report, args.load.json, report.is_good())
        }
        Command::Mixed(args) => {
            let report = mixed::run(&args)?;
            print_report(&report, args.load.json, report.is_good())
        }
        Command::Echo(args) => {
            let report = echo::run(&args)?;
            print_report(&report, args.load.json, report.is_good())
        }
        Command::Crash(args) => {
            let report = crash::run(&args)?;
            print_report(&report, args.json, report.is_good())
        }
        #[cfg(feature = "cluster")]
        Command::Cluster(args) if args.list => {
            print!("{}", loadtest::cluster::scenarios::list());
            Ok(ExitCode::SUCCESS)
        }
        #[cfg(feature = "cluster")]
        Command::Cluster(args) => {
            let report = loadtest::cluster::run(&args)?;
            print_report(&report, args.json, report.is_good())
        }
        Command::Sim(args) => sim::run(args),
        Command::EchoServer => {
            echo::serve(|ready| println!("{ready}"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn print_report(report: &(impl Display + Serialize), json: bool, good: bool) -> anyhow::Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{report}");
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
