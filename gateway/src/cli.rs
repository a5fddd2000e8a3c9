//! What can be typed: `tapgate serve`, `tapgate key …`, `tapgate audit` and its neighbours.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use engine::model::status::Role;

use crate::http::ops::api_keys::{KEY_ROLES, is_for_keys};
use crate::server::config::{Config, ConfigError, File, Flags};
use audit::Audit;
use backup::Backup;
use ready::Ready;
use rebuild::Rebuild;
use top::Top;

pub mod audit;
pub mod backup;
pub mod clock;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod key;
mod progress;
pub mod ready;
pub mod rebuild;
pub mod server_key;
pub mod top;
mod worker_pool;

/// Where the journal of a data folder is.
fn journal_in(data: &Path) -> PathBuf {
    data.join("journal")
}

/// Tapgate: access and payments for festivals.
#[derive(Debug, Parser)]
#[command(name = "tapgate", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server: QUIC for devices, HTTP for people, until Ctrl-C.
    Serve(Serve),
    /// Create, list and revoke operators' API keys, on the machine with the data folder.
    #[command(subcommand)]
    Key(Key),
    /// Tell a running server that the system's clock is right, after it has jumped.
    #[command(subcommand)]
    Clock(Clock),
    /// Prepare the next key that devices pin, and switch to it once they know it.
    #[command(subcommand)]
    ServerKey(ServerKey),
    /// What several servers need that are to be one.
    #[cfg(feature = "cluster")]
    #[command(subcommand)]
    Cluster(Cluster),
    /// Measure what a durable write costs in the data folder, in about nine seconds. A running server is slowed meanwhile.
    BenchDisk {
        /// Where to measure.
        #[command(flatten)]
        data: DataFolder,
    },
    /// Check that the journal is not damaged, and that everything that must always hold has held. Exits with 1 if not.
    Audit(Audit),
    /// Copy the data folder, whether or not a server is running, and audit the copy.
    Backup(Backup),
    /// Rebuild the read models from the journal, while no server is running.
    Rebuild(Rebuild),
    /// Watch a running server in this terminal: gates, terminals, refusals. Tab: next festival; q: quit.
    Top(Top),
    /// Ask a running server whether it takes commands. Exits with 1 if it does not.
    Ready(Ready),
}

/// `tapgate serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// The settings file; `deploy/tapgate.toml` shows all settings with their defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data folder, created if it is missing [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The address for HTTP: the API and the pages [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// The address for QUIC: readers and terminals [default: 0.0.0.0:4433; with --demo, 127.0.0.1:4433].
    #[arg(long, value_name = "ADDR")]
    pub quic: Option<SocketAddr>,
    /// Set up a demo festival, if there is none yet, and let a simulated crowd come and go.
    #[arg(long)]
    pub demo: bool,
    /// Carry on without the missing newest part of a journal. POSITION is where it ends now, as the refusal says.
    #[arg(long, value_name = "POSITION")]
    pub accept_loss: Option<u64>,
}

impl Serve {
    /// The file's settings with these flags over them.
    ///
    /// # Errors
    /// As [`File::read`] and [`Config::new`].
    pub fn settings(self) -> Result<Config, ConfigError> {
        let file = self.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
        let Self { config: _, data, http, quic, demo, accept_loss } = self;
        Config::new(file, Flags { data, http, quic, demo, accept_loss })
    }
}

/// Where the server's data is.
#[derive(Clone, Debug, Args)]
pub struct DataFolder {
    /// The server's settings file, if it has one.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data folder [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl DataFolder {
    /// The server's settings.
    ///
    /// # Errors
    /// As [`File::read`] and [`Config::new`].
    pub fn settings(self) -> Result<Config, ConfigError> {
        let Self { config, data } = self;
        Serve { config, data, http: None, quic: None, demo: false, accept_loss: None }.settings()
    }
}

/// `tapgate key …`. Works beside a running server (through its control socket) and without one.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Create a key. It is printed once and stored nowhere. If there is no data folder yet, one is created.
    Create {
        /// What it may do: ADMIN, ORGANIZER, STAFF, CASHIER or SECURITY.
        #[arg(long, value_parser = role)]
        role: Role,
        /// The slug of a festival where it is valid; repeat for several. An ADMIN key without any may do everything everywhere.
        #[arg(long = "festival", value_name = "SLUG")]
        festivals: Vec<String>,
        /// What the key is for, so that somebody later knows which one to revoke.
        #[arg(long, default_value = "")]
        name: String,
        /// Where the server's data is.
        #[command(flatten)]
        data: DataFolder,
    },
    /// List all keys with number, role, festivals and name, but never the keys themselves.
    List {
        /// Where the server's data is.
        #[command(flatten)]
        data: DataFolder,
    },
    /// Revoke a key: it is refused from the next request on.
    Revoke {
        /// The key's number, as `list` shows it.
        number: u32,
        /// Where the server's data is.
        #[command(flatten)]
        data: DataFolder,
    },
}

/// `tapgate clock …`. A server counts time by itself and is slewed towards the system's clock; a jump is not followed.
#[derive(Debug, Subcommand)]
pub enum Clock {
    /// Take the system's time at once. What has been recorded keeps its time.
    Accept {
        /// Where the server's data is.
        #[command(flatten)]
        data: DataFolder,
    },
}

/// `tapgate server-key …`
#[derive(Debug, Subcommand)]
pub enum ServerKey {
    /// Create the key that will follow the present one. From its next start on, the server tells its devices.
    Next {
        /// Where the server's data is.
        #[command(flatten)]
        data: DataFolder,
    },
    /// Switch to that key, while no server is running. Devices that have not heard of it must be enrolled again.
    Switch {
        /// Where the server's data is.
        #[command(flatten)]
        data: DataFolder,
    },
}

/// `tapgate cluster …`
#[cfg(feature = "cluster")]
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Make certificates with which nodes prove to each other who they are: an authority, and a pair for each node. What is
    /// there already stays as it is, so that nodes can be added later.
    Certificates {
        /// The folder for them, created if it is missing. Each node needs `ca.pem` and its own pair; `ca.key` belongs on none.
        folder: PathBuf,
        /// How many nodes there are.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
        nodes: u16,
    },
    /// Ask the node that runs here which node has which shard.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Where the server's data is.
        #[command(flatten)]
        data: DataFolder,
    },
    /// Hand over the shards of the node that runs here to the others. It stays up, and forwards what it is asked.
    Drain {
        /// The node's number, so that no other is drained by mistake.
        node: u32,
        /// Where the server's data is.
        #[command(flatten)]
        data: DataFolder,
    },
    /// Let a drained node have its share of the shards again. Starting it again does the same.
    Undrain {
        /// The node's number.
        node: u32,
        /// Where the server's data is.
        #[command(flatten)]
        data: DataFolder,
    },
}

fn role(text: &str) -> Result<Role, String> {
    let word = text.to_ascii_uppercase();
    match Role::from_word(&word) {
        Some(role) if is_for_keys(role) => Ok(role),
        Some(_) => Err(format!("a key's role is one of {KEY_ROLES}")),
        None => Err(format!("there is no such role: a key's role is one of {KEY_ROLES}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn it_goes_by_its_own_name() {
        assert_eq!(Cli::command().get_name(), "tapgate");
        assert!(Cli::command().render_version().starts_with("tapgate "));
        assert!(Cli::command().render_long_help().to_string().contains("Usage: tapgate"));
    }

    #[test]
    fn what_others_rely_on_can_be_typed() {
        for line in [
            "tapgate serve",
            "tapgate serve --data d --accept-loss 1234",
            "tapgate serve --config c.toml --data d --http 127.0.0.1:1 --quic 127.0.0.1:2 --demo",
            "tapgate key create --role ADMIN",
            "tapgate key create --role security --festival a --festival b --name front --data d",
            "tapgate key create --role cashier --festival a",
            "tapgate key list --data d",
            "tapgate key revoke 3",
            "tapgate clock accept --data d",
            "tapgate server-key next --data d",
            "tapgate server-key switch",
            "tapgate bench-disk --data d",
            "tapgate audit --data d --json",
            "tapgate backup --to b --data d",
            "tapgate rebuild --data d",
            "tapgate ready",
            "tapgate ready http://h:1",
            "tapgate top",
            "tapgate top http://h:1/live/demo#key=tgk_x --once",
            "tapgate top h:1 --key tgk_x --festival demo",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
        #[cfg(feature = "cluster")]
        for line in [
            "tapgate cluster certificates c --nodes 3",
            "tapgate cluster status --config c.toml --json",
            "tapgate cluster drain 3 --config c.toml",
            "tapgate cluster undrain 3 --data d",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
        for line in ["tapgate", "tapgate serve --http 8080", "tapgate key create", "tapgate key create --role USER"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
