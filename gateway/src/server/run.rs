//! Puts a node, its doors and its followers together, and takes them down in order.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::{Node, StartError};
use engine::model::credential::QrSecret;
use tapgate_wire::Fingerprint;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::auth::OneTime;
#[cfg(feature = "cluster")]
use crate::cluster::driver::Driver;
#[cfg(feature = "cluster")]
use crate::cluster::peers::{PeerTlsError, PeersError, QuicPeers};
use crate::demo;
use crate::demo::festival::DemoError;
use crate::http;
use crate::http::AppState;
use crate::http::gates::lists;
use crate::http::kit::ndjson;
use crate::live::{self, LiveHub, Watching};
use crate::placement::Placement;
use crate::quic::{self, QuicConfig, QuicError, QuicServer};
use crate::read_models::FollowedReadModels;
use crate::server::config::Config;
use crate::server::data_folder::FolderError;
use crate::server::latency::LatencyTracker;
#[cfg(feature = "cluster")]
use crate::server::peers;
#[cfg(feature = "cluster")]
use crate::server::placing;
use crate::server::tls::{ServerTls, TlsError};
use crate::server::{control, data_folder, listen, metrics, secret, stores};
use crate::shared_counts::SharedCounts;

/// Why the server does not start. Each sentence is for whoever is on call.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder cannot be opened: in use, damaged, of a newer version, read-only.
    #[error("the data folder {} cannot be opened: {why}", .folder.display())]
    Data { folder: PathBuf, why: StartError },
    /// The cluster's servers cannot be reached, or what lies there is not this cluster's journal.
    #[error("the cluster's journal cannot be opened: {why}")]
    Cluster { why: StartError },
    /// There is none, or others may look into it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The address is taken, or not this machine's.
    #[error("cannot listen at {address} ({setting}): {why}{}", hint(.why, .setting))]
    Address {
        address: SocketAddr,
        /// The flag that sets it.
        setting: &'static str,
        why: io::Error,
    },
    /// A file in the data folder cannot be read or written.
    #[error("{}: {why}", .path.display())]
    File { path: PathBuf, why: io::Error },
    /// There is no usable certificate.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The door for other nodes does not open.
    #[cfg(feature = "cluster")]
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// What this node would show the others, or believe them by, cannot be used.
    #[cfg(feature = "cluster")]
    #[error("setting {0}")]
    PeerTls(#[from] PeerTlsError),
    /// The QUIC door does not open.
    #[error(transparent)]
    Quic(#[from] QuicError),
    /// The demo could not be set up.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The system gives no threads, or no signals.
    #[error("cannot set up {what}: {why}")]
    System { what: &'static str, why: io::Error },
}

/// How long a node that starts waits for its shards before it says that it runs all the same: a session of a node that has
/// died, and a replay.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

fn hint(why: &io::Error, setting: &str) -> String {
    match why.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                ". Another program is using it, perhaps another tapgate: stop that one, or choose another address with {setting}"
            )
        }
        io::ErrorKind::PermissionDenied => format!(". Ports below 1024 need a special permission; see {setting}"),
        io::ErrorKind::AddrNotAvailable => format!(". This machine does not have that address; see {setting}"),
        _ => String::new(),
    }
}

impl ServeError {
    /// What the process ends with: 3, see to the data folder; 4, see to the address; 5, see to the cluster's servers; else 1.
    /// (2 is a bad flag or setting.)
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Data { .. } | Self::Folder(_) => 3,
            Self::Cluster { .. } => 5,
            Self::Address { .. } | Self::Quic(QuicError::Bind { .. }) => 4,
            _ => 1,
        }
    }
}

/// A data folder that is open: its lock is held, and every shard serves.
pub struct Opened {
    /// The one door to the shards.
    pub node: Node,
    config: Config,
    secret: String,
    metrics: metrics::PrometheusHandle,
    /// From the lock to serving.
    took: Duration,
    #[cfg(feature = "cluster")]
    part: Option<stores::cluster::Part>,
    /// Whoever runs a server puts it here: without doors nobody asks.
    #[cfg(feature = "cluster")]
    peers: Option<peers::Door>,
}

/// Opens the data folder. Blocks until every shard has recovered.
///
/// # Errors
/// [`ServeError::Folder`], [`ServeError::Data`], [`ServeError::Cluster`], [`ServeError::File`].
pub fn open(config: &Config) -> Result<Opened, ServeError> {
    // Before the journal, which looks its figures up once.
    let metrics = metrics::install()
        .map_err(|why| ServeError::System { what: "the metrics", why: io::Error::other(why.to_string()) })?;
    let folder = config.data.clone();
    data_folder::prepare(&folder)?;
    let began = Instant::now();
    let started = stores::start(config)?;
    let took = began.elapsed();
    // Only now that the folder is locked: two first starts at once would make two secrets.
    let secret = match &config.qr_secret {
        Some(secret) => secret.0.clone(),
        None => {
            let path = folder.join("qr.secret");
            secret::kept(&path).map_err(|why| ServeError::File { path, why })?
        }
    };
    Ok(Opened {
        node: started.node,
        config: config.clone(),
        secret,
        metrics,
        took,
        #[cfg(feature = "cluster")]
        part: started.part,
        #[cfg(feature = "cluster")]
        peers: None,
    })
}

impl Opened {
    fn qr_secret(&self) -> Result<QrSecret, ServeError> {
        QrSecret::new(self.secret.as_bytes()).map_err(|_| ServeError::File {
            path: self.config.data.join("qr.secret"),
            why: io::Error::new(io::ErrorKind::InvalidData, "is shorter than 32 bytes"),
        })
    }

    /// What handlers can reach, without doors: for the control socket's routes when no server runs.
    ///
    /// # Errors
    /// [`ServeError::File`].
    pub fn state(&self) -> Result<AppState, ServeError> {
        self.state_with(Fingerprint([0; 32]), "")
    }

    fn state_with(&self, fingerprint: Fingerprint, quic_address: &str) -> Result<AppState, ServeError> {
        Ok(AppState {
            node: self.node.clone(),
            qr_secret: self.qr_secret()?,
            one_time: OneTime::new(self.secret.as_bytes()),
            // `Running::open` puts them here: without doors nobody asks.
            read_models: None,
            placement: None,
            quic_address: quic_address.into(),
            fingerprint,
            latency: Arc::new(LatencyTracker::new()),
            metrics: self.metrics.clone(),
            uploads: ndjson::permits(self.config.bulk_calls),
            reads: lists::permits(self.config.reads),
        })
    }
}

/// Runs the server until Ctrl-C or SIGTERM.
///
/// # Errors
/// [`ServeError`], before anything was promised to anybody.
pub fn run(mut config: Config) -> Result<(), ServeError> {
    crate::server::tls::install_provider();
    // Addresses first: a port that is taken is found before a long recovery, not after it.
    let http = TcpListener::bind(config.http)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|why| ServeError::Address { address: config.http, setting: "--http", why })?;
    let quic = UdpSocket::bind(config.quic).map_err(|why| ServeError::Address {
        address: config.quic,
        setting: "--quic",
        why,
    })?;
    // Other nodes are told where devices reach this one, and not that any port will do.
    config.quic = quic.local_addr().unwrap_or(config.quic);
    #[cfg(feature = "cluster")]
    let peers = peers::Door::take(&mut config)?;
    let opened = open(&config)?;
    #[cfg(feature = "cluster")]
    let opened = Opened { peers, ..opened };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("doors")
        .build()
        .map_err(|why| ServeError::System { what: "threads", why })?;
    runtime.block_on(async {
        let mut ends = Ends::new()?;
        let doors = Running::open(opened, http, quic).await?;
        let faults = tokio::spawn(watch_health(doors.node.clone(), doors.placement.clone()));
        ends.first().await;
        ends.second_ends_at_once();
        // A node that stops takes no commands any more, and that is as it should be.
        faults.abort();
        #[cfg(feature = "cluster")]
        doors.hand_over().await;
        doors.stop().await;
        Ok(())
    })
}

/// Opens the readers' door on a thread that hosts shards: a scan then reaches its shard without waking another thread,
/// which would cost more than the decision. The receiver hears when the door has closed.
async fn readers_door(
    socket: UdpSocket,
    node: Node,
    secret: QrSecret,
    config: QuicConfig,
    tls: &ServerTls,
) -> Result<(QuicServer, oneshot::Receiver<()>), ServeError> {
    let (opened, opening) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    let (tls, shards) = (tls.clone(), node.clone());
    // Opened there as well, since a socket belongs to the runtime it was opened in.
    node.spawn_on(0, async move {
        let door = match QuicServer::on_socket(socket, shards, secret, config, &tls) {
            Ok(door) => door,
            Err(error) => return drop(opened.send(Err(error))),
        };
        if opened.send(Ok(door.clone())).is_ok() {
            door.run().await;
        }
        // Nobody waits any more when the process is ending at once.
        let _ = ended.send(());
    });
    let gone = |_| ServeError::System { what: "thread for the readers' door", why: io::Error::other("it has ended") };
    Ok((opening.await.map_err(gone)??, end))
}

type Counting = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where requests to all nodes are added up, if they are, and what does it.
fn shared_counts(config: &Config) -> Result<(Option<Arc<dyn SharedCounts>>, Counting), ServeError> {
    #[cfg(feature = "cluster")]
    if let Some((cluster, redis)) = config.cluster.as_ref().and_then(|all| Some((all, all.redis.as_ref()?))) {
        let (counts, counting) = crate::cluster::shared_counts::start(&cluster.name, redis)
            .map_err(|why| ServeError::System { what: "the counts on Redis", why: io::Error::other(why) })?;
        return Ok((Some(counts), Box::pin(counting)));
    }
    let _ = config;
    Ok((None, Box::pin(async {})))
}

/// Everything that is open.
struct Running {
    node: Node,
    placement: Option<Arc<dyn Placement>>,
    #[cfg(feature = "cluster")]
    driver: Option<Driver>,
    #[cfg(feature = "cluster")]
    peers: Option<QuicPeers>,
    /// What starting the node took.
    took: Duration,
    config: Config,
    quic: QuicServer,
    live: LiveHub,
    lists: Arc<FollowedReadModels>,
    demo_watched: Option<Watching>,
    crowd: Option<demo::Running>,
    stop: watch::Sender<bool>,
    serving: Vec<JoinHandle<()>>,
    /// What has to be done now and then; it has no end of its own.
    upkeep: JoinHandle<()>,
}

impl Running {
    async fn open(opened: Opened, http: TcpListener, quic: UdpSocket) -> Result<Self, ServeError> {
        let config = opened.config.clone();
        let tls = match &config.tls {
            Some((certificate, key)) => ServerTls::from_files(certificate, key)?,
            None => ServerTls::kept_in(&config.data)?,
        };
        let tls = match &config.tls_next {
            Some(certificate) => tls.followed_by(certificate)?,
            None => tls,
        };
        let quic_at =
            quic.local_addr().map_err(|why| ServeError::Address { address: config.quic, setting: "--quic", why })?;
        let http_at =
            http.local_addr().map_err(|why| ServeError::Address { address: config.http, setting: "--http", why })?;
        let advertised = config.quic_advertised.clone().unwrap_or_else(|| advertised(quic_at));
        let mut state = opened.state_with(tls.fingerprint, &advertised)?;
        #[cfg(feature = "cluster")]
        let part = opened.part;
        let (node, took) = (opened.node, opened.took);
        // Before any shard is claimed: with the claim the others learn where to ask.
        #[cfg(feature = "cluster")]
        let peers = match (opened.peers, &part) {
            (Some(door), Some(part)) => door.open(&node, part, &state.qr_secret, tls.fingerprint).await?,
            _ => None,
        };
        #[cfg(feature = "cluster")]
        let driver = part.map(|part| {
            let session_ms = part.settings.map(|settings| settings.session_ms);
            Driver::start(node.clone(), part.claims, part.options, session_ms)
        });
        #[cfg(feature = "cluster")]
        let driver = driver.transpose().map_err(|why| ServeError::Cluster { why: why.into() })?;
        #[cfg(feature = "cluster")]
        {
            state.placement = driver.clone().map(|driver| Arc::new(driver) as _);
        }
        let placement = state.placement.clone();
        let lists = FollowedReadModels::follow(node.journal(), stores::read_models(&config))
            .map_err(|why| ServeError::System { what: "thread for the read models", why })?;
        let lists = Arc::new(lists);
        state.read_models = Some(Arc::clone(&lists) as _);

        let mut quic_config = QuicConfig { latency: Arc::clone(&state.latency), ..QuicConfig::at(quic_at) };
        quic_config.read_models = state.read_models.clone();
        quic_config.limits = quic::Limits {
            frames_per_s: config.device_scans_per_s,
            connections_max: config.device_connections,
            devices_per_address_max: config.devices_per_address,
            unproven_per_address_max: config.unproven_per_address,
            handshakes_per_s: config.handshakes_per_s,
            ..quic_config.limits
        };
        let (quic, quic_ended) = readers_door(quic, node.clone(), state.qr_secret.clone(), quic_config, &tls).await?;
        let (stop, stopping) = watch::channel(false);
        let mut serving = Vec::new();
        {
            // Whoever waits for this waits until the door has closed, or its thread is gone.
            serving.push(tokio::spawn(async move { drop(quic_ended.await) }));
        }
        let listener = tokio::net::TcpListener::from_std(http).map_err(|why| ServeError::Address {
            address: http_at,
            setting: "--http",
            why,
        })?;
        let (viewers, per_key) = (config.live_streams, config.live_streams_per_key);
        let live = LiveHub::with_seats(node.clone(), Arc::clone(&state.latency), viewers, per_key);
        let (shared, counting) = shared_counts(&config)?;
        let http_limits = http::Limits {
            shared,
            key_requests_per_s: NonZeroU32::new(config.http_requests_per_key_s),
            requests_per_s: NonZeroU32::new(config.http_requests_per_s),
            ..http::Limits::default()
        };
        let (app, beside) = http::app(state.clone(), live::router(live.clone()), http_limits);
        let publishers = (
            Arc::clone(&lists).publish_metrics(),
            metrics::node::publish_metrics(config.data.clone(), tls.certificate.to_vec()),
            metrics::festivals::publish_metrics(node.clone()),
        );
        let upkeep = tokio::spawn(async {
            tokio::join!(beside, counting, publishers.0, publishers.1, publishers.2);
        });
        serving.push(tokio::spawn(listen::http(listener, app, config.http_connections.clone(), stopping.clone())));
        let socket = control::path(&config.data);
        match control::bind(&config.data) {
            Ok(listener) => {
                let app = control::app(state.clone());
                #[cfg(feature = "cluster")]
                let app = match driver.as_ref().filter(|driver| !driver.is_alone()) {
                    Some(driver) => app.merge(placing::router(driver.clone())),
                    None => app,
                };
                serving.push(tokio::spawn(control::serve(listener, app, set(stopping))));
            }
            // Gates work without it; keys can be made while the server is stopped, or over the API.
            Err(error) => {
                warn!(socket = %socket.display(), %error, "there is no control socket: `tapgate key` cannot reach this server")
            }
        }

        let mut doors = Self {
            node,
            placement,
            #[cfg(feature = "cluster")]
            driver,
            #[cfg(feature = "cluster")]
            peers,
            took,
            config,
            quic,
            live,
            lists,
            upkeep,
            demo_watched: None,
            crowd: None,
            stop,
            serving,
        };
        doors.settles().await;
        let shown = doors.open_demo(&state, quic_at, tls.fingerprint).await;
        let watch_at = match shown {
            Ok(key) => key,
            Err(error) => {
                // What is open is closed again in order: the data folder must not look like after a crash.
                doors.stop().await;
                return Err(error);
            }
        };
        doors.announce(http_at, quic_at, &advertised, watch_at.as_deref(), &tls);
        doors.say_who_is_locked_out(&tls).await;
        Ok(doors)
    }

    /// A node that is one of several begins with no shard: it is given some, and for a while nobody may have them.
    async fn settles(&self) {
        let Some(placement) = &self.placement else { return };
        let began = Instant::now();
        while !placement.has_settled() {
            if began.elapsed() > SETTLE_WITHIN {
                let reason = placement.fault().unwrap_or_default();
                return warn!(reason, "this node has not got its shards yet; it goes on trying");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The other nodes take over what is here, as soon as they can, and the doors stay open until then.
    #[cfg(feature = "cluster")]
    async fn hand_over(&self) {
        let Some(driver) = &self.driver else { return };
        if !driver.is_alone() {
            match driver.leave().await {
                0 => info!("the other nodes have this node's shards"),
                left => {
                    warn!(
                        left,
                        "these shards are not taken over by anybody yet: they are down until some node has them"
                    )
                }
            }
        }
        driver.stop().await;
    }

    async fn open_demo(
        &mut self,
        state: &AppState,
        quic_at: SocketAddr,
        fingerprint: Fingerprint,
    ) -> Result<Option<String>, ServeError> {
        if !self.config.demo {
            return Ok(None);
        }
        let server = demo::readers::Server { at: from_here(quic_at), fingerprint };
        let (running, key) = demo::start(state, &self.config.data, server).await?;
        self.crowd = Some(running);
        // Watched from the beginning, so that the chart has something to show whenever somebody looks.
        match self.live.watch(demo::festival::id()).await {
            Ok(watching) => self.demo_watched = Some(watching),
            Err(rejection) => warn!(code = rejection.code(), "the demo's live figures could not be started"),
        }
        Ok(Some(key))
    }

    /// What to open, what to type, how to stop.
    #[expect(clippy::print_stdout, reason = "this is what the command is asked to print")]
    fn announce(&self, http: SocketAddr, quic: SocketAddr, advertised: &str, demo_key: Option<&str>, tls: &ServerTls) {
        let people = from_here(http);
        println!("Tapgate {} is running.\n", env!("CARGO_PKG_VERSION"));
        println!(
            "  data      {} ({} events replayed, ready in {} ms)",
            self.config.data.display(),
            self.node.recovered().events,
            self.took.as_millis()
        );
        println!("  readers   QUIC {quic} as {advertised}, key {}", tls.fingerprint);
        println!("  people    http://{people}/   API: http://{people}/api/docs");
        match demo_key {
            Some(key) => println!("\n  Watch the demo: http://{people}/live/{}#key={key}", demo::festival::SLUG),
            None => println!(
                "\n  Sign in with a key: tapgate key create --role ADMIN --data {}",
                self.config.data.display()
            ),
        }
        println!("\nCtrl-C stops it cleanly; a second Ctrl-C stops it at once.");
    }

    /// Whom the server's key keeps out is not seen by looking at who connects.
    async fn say_who_is_locked_out(&self, tls: &ServerTls) {
        let quic::Pinning { devices, locked_out, named, know_next } =
            match quic::pinning(&self.node, tls.fingerprint, tls.next).await {
                Ok(pinning) => pinning,
                Err(rejection) => {
                    return warn!(code = rejection.code(), "it could not be checked which devices pin another key");
                }
            };
        if locked_out > 0 {
            warn!(
                locked_out,
                devices,
                ?named,
                "these devices pin another key than this server's and must be enrolled again"
            );
        }
        if let Some(next) = tls.next {
            info!(know_next, devices, %next, "this many devices know the server's next key");
        }
    }

    /// Doors first, so that nothing new comes; then the node, which answers what it has taken and closes the journal.
    async fn stop(self) {
        info!("stopping: no new connections; Ctrl-C again stops at once");
        let within = Duration::from_secs(self.config.stop_within_s);
        if let Some(crowd) = self.crowd {
            crowd.stop().await;
        }
        drop(self.demo_watched);
        self.live.close();
        self.stop.send_replace(true);
        self.quic.stop().await;
        let ended = async {
            for task in self.serving {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(within, ended).await.is_err() {
            warn!(seconds = within.as_secs(), "requests still in progress were cut off");
        }
        self.upkeep.abort();
        // Followers before what they follow. What they have not read yet, they read at the next start.
        let lists = self.lists;
        let _ = tokio::task::spawn_blocking(move || lists.stop()).await;
        // On the node's own threads, so before it. The others have its shards by now, or it would not be stopping.
        #[cfg(feature = "cluster")]
        if let Some(peers) = self.peers {
            peers.stop().await;
        }
        info!("writing snapshots, closing the journal");
        self.node.stop().await;
        let _ = std::fs::remove_file(control::path(&self.config.data));
        info!("stopped");
    }
}

/// Until it is set, or nobody is left to set it.
async fn set(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// How a door that listens everywhere is reached from this machine.
fn from_here(mut at: SocketAddr) -> SocketAddr {
    if at.ip().is_unspecified() {
        at.set_ip(if at.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    at
}

/// How readers reach the QUIC door, unless it is set: by the machine's name where it listens everywhere.
pub(super) fn advertised(at: SocketAddr) -> String {
    if !at.ip().is_unspecified() {
        return at.to_string();
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{name}:{}", at.port())
}

/// Says loudly when the journal takes no writes any more, and goes on saying it: everything stays up, readers are
/// answered `unavailable`, `/readyz` says 503.
async fn watch_health(node: Node, placement: Option<Arc<dyn Placement>>) {
    const AGAIN: u32 = 30;
    let (mut unwell_s, mut waiting_s) = (0_u32, 0_u32);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let health = node.health();
        // Shards that are elsewhere, or on their way, are no fault; what keeps them from coming is.
        let fault = placement.as_ref().and_then(|placement| placement.fault());
        match &fault {
            Some(reason) if waiting_s.is_multiple_of(AGAIN) && waiting_s > 0 => {
                warn!(reason, "this node is not all it should be")
            }
            _ => {}
        }
        waiting_s = fault.map_or(0, |_| waiting_s.saturating_add(1));
        if health.ready {
            if unwell_s > 0 {
                info!("recording again after {unwell_s} s");
            }
            unwell_s = 0;
            continue;
        }
        if unwell_s.is_multiple_of(AGAIN) {
            let reason = health.reason.as_deref().unwrap_or("unknown");
            if health.partly_up {
                error!(
                    reason,
                    "PART OF THE NODE IS DOWN and answers `unavailable`; the rest carries on. See the log; if it does not come back by itself, restart"
                );
            } else {
                error!(
                    reason,
                    "NOTHING CAN BE RECORDED: devices are answered `unavailable`, nobody is let in. Check the disk, then restart"
                );
            }
        }
        unwell_s = unwell_s.saturating_add(1);
    }
}

/// Ctrl-C and SIGTERM.
struct Ends {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Ends {
    fn new() -> Result<Self, ServeError> {
        let listen = |kind| signal(kind).map_err(|why| ServeError::System { what: "signals", why });
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn first(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => {}, _ = self.terminate.recv() => {} }
    }

    /// Whoever presses Ctrl-C twice means now. What was acknowledged is on disk all the same.
    fn second_ends_at_once(mut self) {
        tokio::spawn(async move {
            self.first().await;
            warn!("stopped at once; everything that was acknowledged is on disk");
            std::process::exit(130);
        });
    }
}
