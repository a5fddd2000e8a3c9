//! `tapgate`, the one binary.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use gateway::cli::rebuild::Rebuilt;
use gateway::cli::{Cli, Command, audit, backup, clock, key, ready, rebuild, server_key};
use gateway::server::config::ConfigError;
use gateway::server::data_folder::FolderError;
use gateway::server::run;
use gateway::server::run::ServeError;
use storage::journal::JournalError;
use storage::journal::bench::bench_disk;
use tracing_subscriber::EnvFilter;

/// One that does not slow down when many threads share it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Whatever is written holds secrets, or who was where and when: for its owner only.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tapgate: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

#[expect(clippy::print_stdout, reason = "a command prints its answer")]
fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(flags) => {
            let config = flags.settings()?;
            log_to_stderr(&config.log);
            run::run(config)?;
        }
        Command::Key(command) => {
            log_to_stderr("warn");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let said = runtime.block_on(key::run(command))?;
            print!("{}", said.answer);
            eprint!("{}", said.note);
        }
        Command::Clock(command) => {
            log_to_stderr("warn");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            print!("{}", runtime.block_on(clock::run(command))?);
        }
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => print!("{}", gateway::cli::cluster::run(command)?),
        Command::ServerKey(command) => print!("{}", server_key::run(command)?),
        Command::Audit(args) => {
            log_to_stderr("warn");
            let findings = audit::run(&args.data.settings()?)?;
            match args.json {
                true => println!("{}", serde_json::to_string(&findings)?),
                false => print!("{findings}"),
            }
            if let Some(verdict) = findings.verdict() {
                anyhow::bail!(verdict);
            }
        }
        Command::Backup(args) => {
            log_to_stderr("warn");
            print!("{}", backup::run(&args.data.settings()?, &args.to)?);
        }
        Command::Rebuild(args) => {
            log_to_stderr("warn");
            let Rebuilt { records, events, took } = rebuild::run(&args.data.settings()?)?;
            println!("read models rebuilt: {events} events from {records} records in {:.1} s", took.as_secs_f64());
        }
        Command::Top(top) => {
            log_to_stderr("off"); // a line of a log would tear the picture
            if let Some(picture) = top.run()? {
                print!("{picture}");
            }
        }
        Command::Ready(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            print!("{}", runtime.block_on(ready::run(args))?);
        }
        Command::BenchDisk { data } => {
            log_to_stderr("warn");
            let folder = data.settings()?.data;
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            print!("{}", bench_disk(&folder, BENCH_DISK_S)?);
        }
    }
    Ok(())
}

/// How long a measurement takes, in seconds.
const BENCH_DISK_S: f64 = 9.0;

/// `RUST_LOG` wins over the settings.
fn log_to_stderr(filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
}

/// 2: see to a flag or setting; 3: to the data folder; 4: to an address; 5: to the cluster's servers; 1: anything else.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<ConfigError>().is_some() {
        return 2;
    }
    if error.downcast_ref::<JournalError>().is_some() || error.downcast_ref::<FolderError>().is_some() {
        return 3;
    }
    error.chain().find_map(|cause| cause.downcast_ref::<ServeError>()).map_or(1, ServeError::exit_code)
}
