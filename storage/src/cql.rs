//! A connection to ScyllaDB, or to whatever else speaks version 4 of its protocol (tests use Apache Cassandra), and the tables
//! of Tapgate's keyspace: [`crate::views::cql`] and [`crate::snapshots::cql`] keep what they keep there.
//!
//! The traits of this crate block, and the driver is asynchronous: so a connection has a small runtime of its own,
//! and whoever asks waits on a thread where blocking is allowed.
//!
//! The schema has a version, and the program migrates it when it connects. A schema that a newer program has migrated is
//! refused, since nobody here knows what is in it.
//!
//! The driver connects again by itself after a server was away. While it is away, every call fails within [`REQUEST_MAX`].

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use tokio::runtime::{Builder, Runtime};

/// The version of the schema that this program knows: each migration makes one.
pub const SCHEMA: i32 = MIGRATIONS.len() as i32;

/// How long one request may take, retries included.
pub const REQUEST_MAX: Duration = Duration::from_secs(5);
/// How long connecting may take, migrations included.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// Each brings the schema from the version before to the next. `{}` stands for the keyspace. Each statement may be run again:
/// a program that dies on the way, or two that start at once, do it twice.
const MIGRATIONS: [&[&str]; 1] = [&[
    // Read models: see `views/cql.rs`.
    "CREATE TABLE IF NOT EXISTS {}.access_log (list blob, bucket bigint, key blob, body blob, PRIMARY KEY ((list, bucket), key))",
    "CREATE TABLE IF NOT EXISTS {}.transactions (list blob, bucket bigint, key blob, body blob, PRIMARY KEY ((list, bucket), key))",
    "CREATE TABLE IF NOT EXISTS {}.sums (list blob, bucket bigint, key blob, body blob, PRIMARY KEY ((list, bucket), key))",
    "CREATE TABLE IF NOT EXISTS {}.tickets (list blob, bucket bigint, key blob, body blob, PRIMARY KEY ((list, bucket), key))",
    "CREATE TABLE IF NOT EXISTS {}.buckets (list blob, bucket bigint, PRIMARY KEY (list, bucket))",
    "CREATE TABLE IF NOT EXISTS {}.about (one tinyint, name text, value blob, PRIMARY KEY (one, name))",
    // Snapshots: see `snapshots/cql.rs`.
    "CREATE TABLE IF NOT EXISTS {}.snapshots (shard int, seq bigint, attempt bigint, state tinyint, chunks int, crc bigint, \
     meta blob, PRIMARY KEY (shard, seq, attempt)) WITH CLUSTERING ORDER BY (seq DESC, attempt DESC)",
    "CREATE TABLE IF NOT EXISTS {}.snapshot_chunks (shard int, attempt bigint, chunk int, body blob, \
     PRIMARY KEY ((shard, attempt), chunk))",
]];

/// Where the servers are, and what to do there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Some nodes, as `host:port`; the others are found through them.
    pub nodes: Vec<String>,
    /// Lower-case letters, digits and underscores, a letter first, 48 at most. Made if it is not there.
    pub keyspace: String,
    /// On how many nodes everything is kept, if the keyspace has to be made. Reads and writes ask for a quorum of them.
    pub replication: u16,
    /// Name and password, where the servers ask for them.
    pub login: Option<(String, String)>,
}

/// Why there is no connection. Each message is for whoever is on call.
#[derive(Debug, thiserror::Error)]
pub enum CqlError {
    /// A name that would have to be quoted.
    #[error(
        "`{0}` is no name for a keyspace: it takes a lower-case letter, then up to 47 of those, digits and underscores"
    )]
    KeyspaceName(String),
    /// Nobody answered, or not in time.
    #[error("the CQL servers at {nodes} cannot be reached: {why}")]
    Unreachable {
        /// Whom it asked.
        nodes: String,
        /// What the driver said.
        why: String,
    },
    /// A newer program has been there.
    #[error(
        "keyspace {keyspace} has version {found} of the schema and this program knows {SCHEMA}: start the newer program, or set \
         another keyspace (read models are rebuilt from the journal)"
    )]
    NewerSchema {
        keyspace: String,
        /// Its version.
        found: i32,
    },
    /// The server would not do something.
    #[error("could not {doing} keyspace {keyspace}: {why}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        keyspace: String,
        /// What the server said.
        why: String,
    },
}

/// A connection to a keyspace whose schema is this program's. Cheap to share.
pub struct Cql {
    /// `None` once it is dropped.
    runtime: Option<Runtime>,
    pub(crate) session: Session,
    keyspace: String,
}

impl Cql {
    /// Connects, makes the keyspace if it is not there, and migrates its schema. Takes 30 s at most.
    ///
    /// # Errors
    /// [`CqlError`].
    pub fn open(settings: &Settings) -> Result<Arc<Self>, CqlError> {
        let keyspace = settings.keyspace.clone();
        if !is_plain_name(&keyspace) {
            return Err(CqlError::KeyspaceName(keyspace));
        }
        let nodes = settings.nodes.join(", ");
        let unreachable = |why: String| CqlError::Unreachable { nodes: nodes.clone(), why };
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("cql").enable_all().build();
        let runtime = runtime.map_err(|why| unreachable(why.to_string()))?;
        let opening = async {
            let session = connect(settings).await.map_err(|why| unreachable(why.to_string()))?;
            migrate(&session, settings).await?;
            Ok(session)
        };
        let opened = runtime.block_on(async { tokio::time::timeout(CONNECT_MAX, opening).await });
        let opened =
            opened.unwrap_or_else(|_| Err(unreachable(format!("no answer within {} s", CONNECT_MAX.as_secs()))));
        match opened {
            Ok(session) => Ok(Arc::new(Self { runtime: Some(runtime), session, keyspace })),
            Err(why) => {
                runtime.shutdown_background();
                Err(why)
            }
        }
    }

    /// Runs `work` to its end on the calling thread, where blocking has to be allowed.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("taken by Drop only").block_on(work)
    }

    /// Prepares a statement in which `{}` stands for the keyspace. All of them may be run twice.
    pub(crate) async fn prepare(&self, statement: &str) -> Result<PreparedStatement, String> {
        let statement = in_keyspace(statement, &self.keyspace);
        let mut prepared = self.session.prepare(statement).await.map_err(|why| why.to_string())?;
        prepared.set_is_idempotent(true);
        Ok(prepared)
    }

    /// Runs a statement without values in which `{}` stands for the keyspace.
    pub(crate) async fn run(&self, statement: &str) -> Result<(), String> {
        let done = self.session.query_unpaged(in_keyspace(statement, &self.keyspace), ()).await;
        done.map(drop).map_err(|why| why.to_string())
    }
}

impl Drop for Cql {
    fn drop(&mut self) {
        // Waiting for its threads is not allowed everywhere.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn in_keyspace(statement: &str, keyspace: &str) -> String {
    statement.replace("{}", keyspace)
}

/// It becomes a part of statements: a name that needs no quotes is no way out of one.
fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= 48 && name.bytes().all(plain) && name.starts_with(|first: char| first.is_ascii_lowercase())
}

async fn connect(settings: &Settings) -> Result<Session, scylla::errors::NewSessionError> {
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .request_timeout(Some(REQUEST_MAX))
        .build()
        .into_handle();
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.nodes)
        .default_execution_profile_handle(profile)
        .connection_timeout(REQUEST_MAX)
        // A server that accepts connections and answers nothing is noticed by requests; this is for idle ones.
        .keepalive_interval(Duration::from_secs(10))
        .keepalive_timeout(REQUEST_MAX)
        .pool_size(PoolSize::PerShard(NonZeroUsize::MIN))
        .fetch_full_schema_metadata(false);
    if let Some((name, password)) = &settings.login {
        builder = builder.user(name, password);
    }
    builder.build().await
}

async fn migrate(session: &Session, settings: &Settings) -> Result<(), CqlError> {
    let Settings { keyspace, replication, .. } = settings;
    let refused = |doing, why: String| CqlError::Refused { doing, keyspace: keyspace.clone(), why };
    let run = async |doing: &'static str, statement: String| {
        session.query_unpaged(statement, ()).await.map_err(|why| refused(doing, why.to_string()))
    };
    let made = format!(
        "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
         {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication}}}"
    );
    run("make", made).await?;
    let versions =
        format!("CREATE TABLE IF NOT EXISTS {keyspace}.schema_version (id tinyint PRIMARY KEY, version int)");
    run("prepare", versions).await?;
    let found =
        run("read the version of", format!("SELECT version FROM {keyspace}.schema_version WHERE id = 0")).await?;
    let found = found.into_rows_result().map_err(|why| refused("read the version of", why.to_string()))?;
    let found: Option<(i32,)> =
        found.maybe_first_row().map_err(|why| refused("read the version of", why.to_string()))?;
    let found = found.map_or(0, |(version,)| version);
    if found > SCHEMA {
        return Err(CqlError::NewerSchema { keyspace: keyspace.clone(), found });
    }
    for (version, statements) in (found + 1..).zip(MIGRATIONS.iter().skip(found.max(0) as usize)) {
        for statement in *statements {
            run("migrate", in_keyspace(statement, keyspace)).await?;
        }
        let noted = format!("INSERT INTO {keyspace}.schema_version (id, version) VALUES (0, {version})");
        run("migrate", noted).await?;
        tracing::info!(keyspace, version, "the schema has been migrated");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyspace_whose_name_would_need_quotes_is_refused() {
        for name in ["tapgate", "t_2026", &"a".repeat(48)] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in ["", "2026", "_t", "Tapgate", "a b", "a;drop", "a\"", &"a".repeat(49)] {
            let settings = Settings { nodes: Vec::new(), keyspace: name.to_owned(), replication: 1, login: None };
            assert!(matches!(Cql::open(&settings), Err(CqlError::KeyspaceName(_))), "{name}");
        }
    }
}
