//! What can be set, where from (flags, file, defaults), and what is refused.
//!
//! One TOML file, every setting optional; a flag wins over the file. `deploy/tapgate.toml` shows them all with their
//! defaults. A value out of bounds is refused with the setting's name, before anything is opened.

mod several;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use engine::model::credential::SECRET_LEN_MIN;
use serde::Deserialize;

use crate::http::gates::lists::READS_MAX;
use crate::http::kit::ndjson::CALLS_MAX;
use crate::live::{PER_KEY_MAX, VIEWERS_MAX};
use crate::quic;
use crate::server::listen::Connections;
use crate::server::proxies::{ProxyHeader, TrustedProxies};

pub use self::several::NodeSettings;

/// The settings file, as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// The data folder. Default `./data`.
    pub data: Option<PathBuf>,
    /// Where people and programs reach the HTTP door. Default `127.0.0.1:8080`.
    pub http: Option<SocketAddr>,
    /// Where devices reach the QUIC door. Default `0.0.0.0:4433`; for the demo `127.0.0.1:4433`.
    pub quic: Option<SocketAddr>,
    /// How devices reach it from where they are, `host:port`, or up to four with commas between: what enrolment offers say.
    /// Default: the machine's name with the port of `quic`.
    pub quic_advertised: Option<String>,
    /// How many shards the journal has, 1 to 1,024. Fixed when it is made: opening it with another number is refused.
    /// Default 16.
    pub shards: Option<u16>,
    /// How many threads host shards, 1 to 256. Default: half the cores, at least one.
    pub threads: Option<usize>,
    /// Kafka brokers, `host:port` each: the journal lies there, and not in the data folder.
    pub kafka: Option<Vec<String>>,
    /// The cluster's name, which stands in every record: another cluster's topic is refused. Default `tapgate`.
    pub cluster: Option<String>,
    /// The topic of the journal, with a partition for each shard. Default `tapgate.journal`.
    pub kafka_topic: Option<String>,
    /// Make the topic if it is not there. Default no: an address that is wrong must not look like a new festival.
    pub kafka_create_topic: Option<bool>,
    /// How many brokers have each record, 1 to 7; one may be missing if there are three or more. Default 3.
    pub kafka_replication: Option<u16>,
    /// Servers of ScyllaDB or Cassandra, `host:port` each: read models and snapshots lie there. Only with `kafka`.
    pub cql: Option<Vec<String>>,
    /// The keyspace for them. Default `tapgate`.
    pub cql_keyspace: Option<String>,
    /// On how many of them everything is kept, 1 to 7, if the keyspace has to be made. Default 3.
    pub cql_replication: Option<u16>,
    /// The name to log in with, with `cql_password`.
    pub cql_user: Option<String>,
    pub cql_password: Option<Secret>,
    /// This server's number among the nodes of the cluster, 1 to 65,535: with it, it is one of several, and needs the six
    /// settings that follow, `qr_secret` and a certificate. Default: it is alone.
    pub node: Option<u32>,
    /// Where the door for the other nodes listens (UDP).
    pub peers: Option<SocketAddr>,
    /// How the others reach it, `host:port`. Default: the address of `peers`, which must not be 0.0.0.0 then.
    pub peers_advertised: Option<String>,
    /// Who signs the nodes' certificates (PEM).
    pub peer_ca: Option<PathBuf>,
    /// This node's certificate (PEM), with `peer_key`.
    pub peer_certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub peer_key: Option<PathBuf>,
    /// After how long without a sign of life a node counts as gone, in ms, 1,000 to 60,000. Default 3,000. Brokers must allow
    /// it (`group.min.session.timeout.ms`, which is 6,000 unless it is set).
    pub node_session_ms: Option<u32>,
    /// A Redis server, `host:port`: nodes add up there how much everybody asks of all of them. Only with `kafka`.
    pub redis: Option<String>,
    /// Of how many of other nodes' shards a copy is kept up, so that taking one over does not wait for a replay, 0 to 1,024; each
    /// takes as much memory as the shard. Default: of all. Only with `node`.
    pub shadows: Option<usize>,
    /// The server's secret, from which QR keys are derived, at least 32 bytes. Nodes that share festivals share it.
    /// Default: made on first start, in the data folder.
    pub qr_secret: Option<Secret>,
    /// A file that has it, instead.
    pub qr_secret_file: Option<PathBuf>,
    /// The certificate chain (PEM) of the QUIC door, with `tls_key`. Default: made on first start, in the data folder.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub tls_key: Option<PathBuf>,
    /// The certificate (PEM) of the key that will follow: devices are told, and stay enrolled when it takes its place.
    pub tls_next_certificate: Option<PathBuf>,
    /// Scans a second that one reader may send in the long run, to 10,000,000; 0 for as many as it likes. Default 2,000:
    /// a person scans one.
    pub device_scans_per_s: Option<u32>,
    /// HTTP requests a second of one key in the long run, to 1,000,000; 0 for as many as it likes. Default 100.
    pub http_requests_per_key_s: Option<u32>,
    /// The same from one address, of requests without a known key. Default 100.
    pub http_requests_per_s: Option<u32>,
    /// HTTP connections at once, 16 to 65,536. Default 2,048.
    pub http_connections: Option<usize>,
    /// The same from one address. Default 256.
    pub http_connections_per_address: Option<usize>,
    /// Networks (CIDR) or addresses of proxies that are believed about where a request comes from. Default none.
    pub trusted_proxies: Option<Vec<String>>,
    /// Where they write it: `x-forwarded-for` or `forwarded`. Default `x-forwarded-for`.
    pub proxy_header: Option<ProxyHeader>,
    /// Live streams at once, 1 to 4,096. Default 128.
    pub live_streams: Option<usize>,
    /// The same of one key. Default 16.
    pub live_streams_per_key: Option<usize>,
    /// Bulk calls at once, 1 to 64. Default 8.
    pub bulk_calls: Option<usize>,
    /// Reads of the read models at once, 1 to 256. Default 8.
    pub reads: Option<usize>,
    /// Devices' connections at once, 16 to 1,000,000. Default 20,480.
    pub device_connections: Option<usize>,
    /// Devices from one address, to 1,000,000. Default 12,288.
    pub devices_per_address: Option<usize>,
    /// Connections from one address that have not proven themselves yet, 16 to 1,024. Default 256.
    pub unproven_per_address: Option<usize>,
    /// Devices' handshakes a second from one address in the long run, to 1,000,000. Default 1,000.
    pub handshakes_per_s: Option<u32>,
    /// How long requests under way get to end when the server is stopped, 1 to 300 seconds. Default 10.
    pub stop_within_s: Option<u64>,
    /// What goes to the log, as `RUST_LOG` says it. Default `info`.
    pub log: Option<String>,
}

/// What flags say, over the file.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--http`
    pub http: Option<SocketAddr>,
    /// `--quic`
    pub quic: Option<SocketAddr>,
    /// `--demo`
    pub demo: bool,
    /// `--accept-loss`
    pub accept_loss: Option<u64>,
}

/// Every setting, decided.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// Address of the HTTP door.
    pub http: SocketAddr,
    /// Address of the QUIC door.
    pub quic: SocketAddr,
    /// What enrolment offers say; `None`: this machine's name and the port of `quic`.
    pub quic_advertised: Option<String>,
    /// Shards of the journal.
    pub shards: u16,
    /// Threads that host shards.
    pub threads: usize,
    /// Where journal, read models and snapshots lie, if not in the data folder.
    pub cluster: Option<ClusterConfig>,
    /// The server's secret, if it was set.
    pub qr_secret: Option<Secret>,
    /// Certificate and key, if they were set.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The certificate of the key that will follow.
    pub tls_next: Option<PathBuf>,
    /// Scans a second from one reader; 0: no limit.
    pub device_scans_per_s: u32,
    /// HTTP requests a second of one key; 0: no limit.
    pub http_requests_per_key_s: u32,
    /// HTTP requests a second from one address; 0: no limit.
    pub http_requests_per_s: u32,
    /// HTTP connections, and who is believed about them.
    pub http_connections: Connections,
    /// Live streams at once.
    pub live_streams: usize,
    /// Of one key.
    pub live_streams_per_key: usize,
    /// Bulk calls at once.
    pub bulk_calls: usize,
    /// Reads of the read models at once.
    pub reads: usize,
    /// Devices' connections at once.
    pub device_connections: usize,
    /// Devices from one address.
    pub devices_per_address: usize,
    /// Connections of one address that have not proven themselves.
    pub unproven_per_address: usize,
    /// Devices' handshakes a second from one address.
    pub handshakes_per_s: u32,
    /// How long requests under way get, in seconds.
    pub stop_within_s: u64,
    /// What goes to the log.
    pub log: String,
    /// With the demo festival.
    pub demo: bool,
    /// Where a journal whose newest part is missing may be opened all the same.
    pub accept_loss: Option<u64>,
}

/// A journal on Kafka, and what follows it.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The cluster's name.
    pub name: String,
    /// Brokers, `host:port`, at least one.
    pub brokers: Vec<String>,
    /// The journal's topic.
    pub topic: String,
    /// Make it if it is not there.
    pub create_topic: bool,
    /// How many brokers have each record.
    pub replication: u16,
    /// Read models and snapshots on CQL; `None`: in the data folder.
    pub cql: Option<CqlConfig>,
    /// Where requests to all nodes are added up, `host:port`.
    pub redis: Option<String>,
    /// Which of several nodes this is; `None`: it is alone, and has every shard.
    pub node: Option<NodeSettings>,
}

/// Where read models and snapshots lie.
#[derive(Clone, Debug)]
pub struct CqlConfig {
    /// Servers, `host:port`, at least one.
    pub servers: Vec<String>,
    /// The keyspace for them.
    pub keyspace: String,
    /// On how many servers everything is kept, if it has to be made.
    pub replication: u16,
    /// Name and password, if they ask for them.
    pub login: Option<(String, Secret)>,
}

/// Something that must not appear in a log.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a setting is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}: {why}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// The file is not TOML, or has a setting that does not exist.
    #[error("the settings file {} cannot be used: {why}", .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where in it, and why.
        why: Box<toml::de::Error>,
    },
    /// A value is out of bounds.
    #[error("setting `{setting}`: {why}")]
    Refused {
        /// Its name.
        setting: &'static str,
        /// What it may be.
        why: String,
    },
}

const SHARDS_MAX: u16 = 1_024;
/// Of each record or row. More would only make writing slower.
const COPIES_MAX: u16 = 7;
const THREADS_MAX: usize = 256;
const STOP_WITHIN_S_MAX: u64 = 300;
const DEVICE_SCANS_PER_S_MAX: u32 = 10_000_000;
const HTTP_REQUESTS_PER_S_MAX: u32 = 1_000_000;

impl File {
    /// Reads a settings file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`], [`ConfigError::Malformed`], [`ConfigError::Refused`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|why| ConfigError::Unreadable { path: path.into(), why })?;
        let file: Self =
            toml::from_str(&text).map_err(|why| ConfigError::Malformed { path: path.into(), why: Box::new(why) })?;
        file.in_environment(|name| std::env::var(name).ok())
    }

    /// What nodes with one settings file differ in, their environment says.
    fn in_environment(mut self, says: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        if let Some(name) = says("TAPGATE_NODE") {
            let bad = || {
                refused("TAPGATE_NODE", &format!("is {name:?}, but must be a node's number, or a name like tapgate-0"))
            };
            let number = match name.rsplit_once('-') {
                // In a StatefulSet, which counts from 0.
                Some((_, pod)) => pod.parse::<u32>().ok().and_then(|pod| pod.checked_add(1)),
                None => name.parse().ok(),
            };
            self.node = Some(number.ok_or_else(bad)?);
        }
        if let Some(address) = says("TAPGATE_PEERS_ADVERTISED") {
            self.peers_advertised = Some(address);
        }
        Ok(self)
    }
}

impl Config {
    /// Flags over file over defaults.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] with the setting's name.
    pub fn new(file: File, flags: Flags) -> Result<Self, ConfigError> {
        let quic_default = if flags.demo { [127, 0, 0, 1] } else { [0, 0, 0, 0] };
        let (connections, devices) = (Connections::default(), quic::Limits::default());
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let mut file = file;
        if let Some(path) = file.qr_secret_file.take() {
            if file.qr_secret.is_some() {
                return Err(refused("qr_secret_file", "stands beside `qr_secret`, which says the same: leave one out"));
            }
            let secret = std::fs::read_to_string(&path);
            let secret = secret.map_err(|why| refused("qr_secret_file", &format!("{}: {why}", path.display())))?;
            file.qr_secret = Some(Secret(secret.trim().to_owned()));
        }
        let cluster = cluster(&file)?;
        let config = Self {
            data: flags.data.or(file.data).unwrap_or_else(|| "./data".into()),
            http: flags.http.or(file.http).unwrap_or_else(|| ([127, 0, 0, 1], 8080).into()),
            quic: flags.quic.or(file.quic).unwrap_or_else(|| (quic_default, 4433).into()),
            quic_advertised: file.quic_advertised,
            shards: within("shards", file.shards.unwrap_or(16), 1, SHARDS_MAX)?,
            threads: within("threads", file.threads.unwrap_or((cores / 2).max(1)), 1, THREADS_MAX)?,
            cluster,
            qr_secret: file.qr_secret,
            tls: match (file.tls_certificate, file.tls_key) {
                (Some(certificate), Some(key)) => Some((certificate, key)),
                (None, None) => None,
                (Some(_), None) => return Err(refused("tls_key", "is needed with `tls_certificate`")),
                (None, Some(_)) => return Err(refused("tls_certificate", "is needed with `tls_key`")),
            },
            tls_next: file.tls_next_certificate,
            device_scans_per_s: within(
                "device_scans_per_s",
                file.device_scans_per_s.unwrap_or(2_000),
                0,
                DEVICE_SCANS_PER_S_MAX,
            )?,
            http_requests_per_key_s: within(
                "http_requests_per_key_s",
                file.http_requests_per_key_s.unwrap_or(100),
                0,
                HTTP_REQUESTS_PER_S_MAX,
            )?,
            http_requests_per_s: within(
                "http_requests_per_s",
                file.http_requests_per_s.unwrap_or(100),
                0,
                HTTP_REQUESTS_PER_S_MAX,
            )?,
            http_connections: Connections {
                max: within("http_connections", file.http_connections.unwrap_or(connections.max), 16, 65_536)?,
                per_address_max: within(
                    "http_connections_per_address",
                    file.http_connections_per_address.unwrap_or(connections.per_address_max),
                    1,
                    65_536,
                )?,
                proxies: TrustedProxies::new(
                    &file.trusted_proxies.unwrap_or_default(),
                    file.proxy_header.unwrap_or_default(),
                )
                .map_err(|bad| refused("trusted_proxies", &format!("{bad} is neither a network nor an address")))?,
            },
            live_streams: within("live_streams", file.live_streams.unwrap_or(VIEWERS_MAX), 1, 4_096)?,
            live_streams_per_key: within(
                "live_streams_per_key",
                file.live_streams_per_key.unwrap_or(PER_KEY_MAX),
                1,
                4_096,
            )?,
            bulk_calls: within("bulk_calls", file.bulk_calls.unwrap_or(CALLS_MAX), 1, 64)?,
            reads: within("reads", file.reads.unwrap_or(READS_MAX), 1, 256)?,
            device_connections: within(
                "device_connections",
                file.device_connections.unwrap_or(devices.connections_max),
                16,
                1_000_000,
            )?,
            devices_per_address: within(
                "devices_per_address",
                file.devices_per_address.unwrap_or(devices.devices_per_address_max),
                1,
                1_000_000,
            )?,
            unproven_per_address: within(
                "unproven_per_address",
                file.unproven_per_address.unwrap_or(devices.unproven_per_address_max),
                16,
                devices.unproven_max,
            )?,
            handshakes_per_s: within(
                "handshakes_per_s",
                file.handshakes_per_s.unwrap_or(devices.handshakes_per_s),
                1,
                1_000_000,
            )?,
            stop_within_s: within("stop_within_s", file.stop_within_s.unwrap_or(10), 1, STOP_WITHIN_S_MAX)?,
            log: file.log.unwrap_or_else(|| "info".into()),
            demo: flags.demo,
            accept_loss: flags.accept_loss,
        };
        if config.qr_secret.as_ref().is_some_and(|secret| secret.0.len() < SECRET_LEN_MIN) {
            return Err(refused("qr_secret", &format!("needs at least {SECRET_LEN_MIN} bytes")));
        }
        if let Some(address) = &config.quic_advertised
            && !address.split(',').all(is_host_and_port)
        {
            return Err(refused(
                "quic_advertised",
                "must be host:port, such as gates.example.org:4433, or several with commas between",
            ));
        }
        if let Err(why) = config.log.parse::<tracing_subscriber::EnvFilter>() {
            return Err(refused("log", &why.to_string()));
        }
        Ok(config)
    }
}

/// What is said about a cluster. Its details alone ask for none: with the brokers taken out, the journal would come to lie in
/// the data folder, and look like a new festival there.
fn cluster(file: &File) -> Result<Option<ClusterConfig>, ConfigError> {
    let Some(brokers) = &file.kafka else {
        several::node(file)?;
        let alone = [
            ("cluster", file.cluster.is_some()),
            ("redis", file.redis.is_some()),
            ("kafka_topic", file.kafka_topic.is_some()),
            ("kafka_create_topic", file.kafka_create_topic.is_some()),
            ("kafka_replication", file.kafka_replication.is_some()),
            ("cql", file.cql.is_some()),
        ];
        if let Some((setting, _)) = alone.into_iter().find(|(_, is_set)| *is_set) {
            return Err(refused(setting, "needs `kafka`, the brokers, beside it"));
        }
        return cql(file).map(|_| None);
    };
    if !cfg!(feature = "cluster") {
        return Err(refused("kafka", "is not known to this program: it was built without the feature `cluster`"));
    }
    let name = file.cluster.clone().unwrap_or_else(|| "tapgate".into());
    if name.is_empty() || name.len() > 64 || name.contains(char::is_whitespace) {
        return Err(refused("cluster", "must be 1 to 64 characters without spaces"));
    }
    let topic = file.kafka_topic.clone().unwrap_or_else(|| "tapgate.journal".into());
    let is_good = |byte: u8| is_name_byte(byte) || b".-".contains(&byte);
    if topic.is_empty() || topic.len() > 249 || !topic.bytes().all(is_good) {
        return Err(refused("kafka_topic", "must be 1 to 249 of a-z, 0-9, `.`, `_` and `-`"));
    }
    Ok(Some(ClusterConfig {
        name,
        brokers: addresses("kafka", brokers)?,
        topic,
        create_topic: file.kafka_create_topic.unwrap_or(false),
        replication: within("kafka_replication", file.kafka_replication.unwrap_or(3), 1, COPIES_MAX)?,
        cql: cql(file)?,
        redis: file.redis.clone().map(|redis| addresses("redis", &[redis]).map(|all| all.concat())).transpose()?,
        node: several::node(file)?,
    }))
}

fn cql(file: &File) -> Result<Option<CqlConfig>, ConfigError> {
    let Some(servers) = &file.cql else {
        let alone = [
            ("cql_keyspace", file.cql_keyspace.is_some()),
            ("cql_replication", file.cql_replication.is_some()),
            ("cql_user", file.cql_user.is_some()),
            ("cql_password", file.cql_password.is_some()),
        ];
        let alone = alone.into_iter().find(|(_, is_set)| *is_set);
        return alone.map_or(Ok(None), |(setting, _)| Err(refused(setting, "needs `cql`, the servers, beside it")));
    };
    let keyspace = file.cql_keyspace.clone().unwrap_or_else(|| "tapgate".into());
    let begins_well = keyspace.starts_with(|first: char| first.is_ascii_lowercase());
    if !begins_well || keyspace.len() > 48 || !keyspace.bytes().all(is_name_byte) {
        return Err(refused("cql_keyspace", "must be 1 to 48 of a-z, 0-9 and _, beginning with a letter"));
    }
    Ok(Some(CqlConfig {
        servers: addresses("cql", servers)?,
        keyspace,
        replication: within("cql_replication", file.cql_replication.unwrap_or(3), 1, COPIES_MAX)?,
        login: match (file.cql_user.clone(), file.cql_password.clone()) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => return Err(refused("cql_password", "is needed with `cql_user`")),
            (None, Some(_)) => return Err(refused("cql_user", "is needed with `cql_password`")),
        },
    }))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

fn addresses(setting: &'static str, all: &[String]) -> Result<Vec<String>, ConfigError> {
    match all.iter().find(|address| !is_host_and_port(address)) {
        Some(bad) => Err(refused(setting, &format!("has {bad:?}, but each must be host:port, such as kafka-1:9092"))),
        None if all.is_empty() => Err(refused(setting, "must name at least one")),
        None => Ok(all.to_vec()),
    }
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let host_is_good = !host.is_empty() && host.len() <= 253 && !host.contains(char::is_whitespace);
        host_is_good && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn within<T: PartialOrd + std::fmt::Display>(
    setting: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<T, ConfigError> {
    if value >= min && value <= max {
        Ok(value)
    } else {
        Err(refused(setting, &format!("is {value}, but must be {min} to {max}")))
    }
}

fn refused(setting: &'static str, why: &str) -> ConfigError {
    ConfigError::Refused { setting, why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Result<Config, String> {
        let file = toml::from_str(toml).map_err(|why| why.to_string())?;
        Config::new(file, Flags::default()).map_err(|why| why.to_string())
    }

    #[test]
    fn the_example_names_every_setting_with_its_default() {
        let example = include_str!("../../../deploy/tapgate.toml");
        let as_shipped = config(example).unwrap();
        let defaults = config("").unwrap();
        assert_eq!(format!("{as_shipped:?}"), format!("{defaults:?}"), "as shipped it changes nothing");
        // With every `# name = value` line switched on, it is still a settings file, and leaves nothing unset.
        let switched_on: String = example
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ')) => setting,
                _ => line,
            })
            .fold(String::new(), |text, line| text + line + "\n");
        let file: File = toml::from_str(&switched_on).unwrap();
        let unset: Vec<String> =
            format!("{file:#?}").lines().filter(|line| line.ends_with(": None,")).map(str::to_owned).collect();
        assert_eq!(unset, Vec::<String>::new());
        // The one or the other.
        let file = File { qr_secret_file: None, ..file };
        match Config::new(file, Flags::default()) {
            Err(ConfigError::Refused { setting: "kafka", .. }) if !cfg!(feature = "cluster") => {}
            config => drop(config.unwrap()),
        }
    }

    #[test]
    fn bad_settings_are_refused_by_name() {
        for (toml, named) in [
            ("shards = 0", "`shards`"),
            ("shards = 1025", "`shards`"),
            ("threads = 0", "`threads`"),
            ("stop_within_s = 301", "`stop_within_s`"),
            ("device_scans_per_s = 10000001", "`device_scans_per_s`"),
            ("http_requests_per_s = 1000001", "`http_requests_per_s`"),
            ("trusted_proxies = ['10.0.0.0/33']", "`trusted_proxies`"),
            ("proxy_header = 'via'", "proxy_header"),
            ("bulk_calls = 0", "`bulk_calls`"),
            ("unproven_per_address = 4096", "`unproven_per_address`"),
            ("qr_secret = 'too short'", "`qr_secret`"),
            ("quic_advertised = 'gates.example.org'", "`quic_advertised`"),
            ("tls_certificate = 'a.pem'", "`tls_key`"),
            ("tls_key = 'a.pem'", "`tls_certificate`"),
            ("log = 'gateway=loud'", "`log`"),
            ("http = 'localhost'", "http"),
            ("htpp = '127.0.0.1:80'", "htpp"),
            ("shards = -1", "shards"),
            ("kafka_topic = 'a'", "`kafka`"),
            ("cql = ['a:1']", "`kafka`"),
            ("cql_user = 'tapgate'", "`cql`"),
        ] {
            let why = config(toml).unwrap_err();
            assert!(why.contains(named), "{toml}: {why}");
        }
    }

    #[test]
    #[cfg(not(feature = "cluster"))]
    fn a_program_without_a_cluster_says_so() {
        assert!(config("kafka = ['a:1']").unwrap_err().contains("feature `cluster`"));
    }

    #[test]
    #[cfg(feature = "cluster")]
    fn bad_settings_of_a_cluster_are_refused_by_name() {
        for (toml, named) in [
            ("", "`kafka`"),
            ("kafka = []", "`kafka`"),
            ("kafka = ['kafka-1']", "`kafka`"),
            ("kafka = ['a:1']\nkafka_topic = 'Journal'", "`kafka_topic`"),
            ("kafka = ['a:1']\nkafka_replication = 0", "`kafka_replication`"),
            ("kafka = ['a:1']\ncluster = 'my festival'", "`cluster`"),
            ("kafka = ['a:1']\ncql = ['a']", "`cql`"),
            ("kafka = ['a:1']\ncql_keyspace = 'tapgate'", "`cql`"),
            ("kafka = ['a:1']\ncql = ['a:1']\ncql_keyspace = '1st'", "`cql_keyspace`"),
            ("kafka = ['a:1']\ncql = ['a:1']\ncql_user = 'a'", "`cql_password`"),
            ("kafka = ['a:1']\npeers = '127.0.0.1:1'", "`node`"),
            ("kafka = ['a:1']\nnode_session_ms = 3000", "`node`"),
        ] {
            let why = config(&format!("{toml}\nkafka_create_topic = true")).unwrap_err();
            assert!(why.contains(named), "{toml}: {why}");
        }
        let whole = config("kafka = ['kafka-1:9092']\ncql = ['scylla-1:9042']").unwrap().cluster.unwrap();
        assert_eq!((whole.topic.as_str(), whole.replication, whole.create_topic), ("tapgate.journal", 3, false));
        assert_eq!(whole.cql.unwrap().keyspace, "tapgate");
    }

    #[test]
    #[cfg(feature = "cluster")]
    fn a_node_has_all_that_a_node_needs() {
        let whole = [
            "kafka = ['a:1']",
            "node = 7",
            "qr_secret = 'a secret of at least 32 bytes, for tests'",
            "tls_certificate = 'a.pem'\ntls_key = 'b.pem'",
            "peers = '10.0.0.7:4434'",
            "peer_ca = 'c.pem'",
            "peer_certificate = 'd.pem'",
            "peer_key = 'e.pem'",
        ];
        let node = config(&whole.join("\n")).unwrap().cluster.unwrap().node.unwrap();
        assert_eq!((node.number.0, node.session_ms), (7, 3_000));
        for without in 0..whole.len() {
            let mut rest = whole.to_vec();
            let taken = rest.remove(without);
            let why = config(&rest.join("\n")).unwrap_err();
            let named = taken.split(' ').next().unwrap();
            assert!(without == 1 && why.contains("`node`") || why.contains(&format!("`{named}`")), "{taken}: {why}");
        }
        for (instead, of, named) in [
            ("node = 0", 1, "`node`"),
            ("node = 65536", 1, "`node`"),
            ("node = 7\nnode_session_ms = 100", 1, "`node_session_ms`"),
            ("peers = '0.0.0.0:4434'", 4, "`peers_advertised`"),
            ("peers = '0.0.0.0:4434'\npeers_advertised = 'here'", 4, "`peers_advertised`"),
        ] {
            let mut settings = whole.to_vec();
            settings[of] = instead;
            let why = config(&settings.join("\n")).unwrap_err();
            assert!(why.contains(named), "{instead}: {why}");
        }
    }

    /// What `deploy/compose.yml` and `deploy/k8s` give to all nodes.
    #[test]
    #[cfg(feature = "cluster")]
    fn nodes_share_one_settings_file_and_differ_by_their_environment() {
        let on_compose = include_str!("../../../deploy/cluster/tapgate.toml").to_owned();
        let documents = include_str!("../../../deploy/k8s/tapgate.yaml").split("\n---\n");
        let documents = documents.map(|text| serde_yaml_ng::from_str::<serde_json::Value>(text).expect("YAML"));
        let on_k8s = documents.into_iter().find(|document| document["kind"] == "ConfigMap").expect("there is one");
        let on_k8s = on_k8s["data"]["tapgate.toml"].as_str().expect("a text").to_owned();
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("qr.secret");
        std::fs::write(&secret, "a secret of at least 32 bytes, for tests\n").unwrap();
        for (toml, name, number) in [(on_compose, "2", 2), (on_k8s, "tapgate-2", 3)] {
            let file: File = toml::from_str(&toml).unwrap();
            assert!(file.node.is_none() && file.qr_secret_file.is_some());
            let file = File { qr_secret_file: Some(secret.clone()), ..file };
            let says = |asked: &str| match asked {
                "TAPGATE_NODE" => Some(name.to_owned()),
                _ => Some("here:4434".to_owned()),
            };
            let config = Config::new(file.clone().in_environment(says).unwrap(), Flags::default()).unwrap();
            let node = config.cluster.unwrap().node.unwrap();
            assert_eq!((node.number.0, node.peers_advertised.as_deref()), (number, Some("here:4434")));
            assert!(node.peer_key.ends_with(format!("node-{number}.key")), "{:?}", node.peer_key);
            assert_eq!(config.qr_secret.unwrap().0, "a secret of at least 32 bytes, for tests");
            for bad in ["", "tapgate", "tapgate-", "-1x", "0x"] {
                let why = file.clone().in_environment(|_| Some(bad.to_owned())).unwrap_err().to_string();
                assert!(why.contains("TAPGATE_NODE"), "{bad}: {why}");
            }
        }
    }

    #[test]
    fn a_secret_comes_from_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("qr.secret");
        let line = format!("qr_secret_file = {secret:?}");
        assert!(config(&line).unwrap_err().contains("qr.secret"), "it is not there");
        std::fs::write(&secret, "too short\n").unwrap();
        assert!(config(&line).unwrap_err().contains("`qr_secret`"));
        std::fs::write(&secret, "a secret of at least 32 bytes, for tests\n").unwrap();
        assert_eq!(config(&line).unwrap().qr_secret.unwrap().0, "a secret of at least 32 bytes, for tests");
        let both = format!("{line}\nqr_secret = 'a secret of at least 32 bytes, for tests'");
        assert!(config(&both).unwrap_err().contains("`qr_secret_file`"));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file: File = toml::from_str("http = '127.0.0.1:1'\nquic = '127.0.0.1:2'").unwrap();
        let flags = Flags { http: Some(([127, 0, 0, 1], 3).into()), ..Flags::default() };
        let config = Config::new(file, flags).unwrap();
        assert_eq!((config.http.port(), config.quic.port()), (3, 2));
        assert!(
            Config::new(File::default(), Flags { demo: true, ..Flags::default() }).unwrap().quic.ip().is_loopback()
        );
    }

    #[test]
    fn the_secret_stays_out_of_logs() {
        let secret = "a secret of at least 32 bytes, for tests";
        let config = config(&format!("qr_secret = '{secret}'")).unwrap();
        assert!(!format!("{config:?}").contains(secret));
    }
}
