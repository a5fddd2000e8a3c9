//! A server process of one's own: built if need be, in a fresh folder, on ports of this machine only; measured,
//! killed, started again.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::admin::Admin;
use crate::stage::Watched;

/// How long a start may take, recovery included.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a clean stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The `tapgate` program.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// This one, as it is; `None`: the one that TAPGATE_PROGRAM names, or else lies beside this executable. Nothing is built.
    ///
    /// # Errors
    /// There is none.
    pub fn as_it_is(named: Option<PathBuf>) -> anyhow::Result<Self> {
        let named = named.or_else(|| std::env::var_os("TAPGATE_PROGRAM").map(PathBuf::from));
        let program = named.map_or_else(beside, Ok)?;
        ensure!(program.exists(), "there is no {}: build it with cargo build -p gateway", program.display());
        Ok(Self(program))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The one that TAPGATE_PROGRAM names, as it is; else the one beside this executable. Where this is a checkout, cargo
    /// brings it up to date first: `cargo run -p loadtest` builds the load test alone, and a server of yesterday's source
    /// would be measured instead of today's.
    ///
    /// # Errors
    /// There is none, and none can be built.
    pub fn up_to_date() -> anyhow::Result<Self> {
        if let Some(named) = std::env::var_os("TAPGATE_PROGRAM") {
            return Ok(Self(named.into()));
        }
        let program = beside()?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        if root.join("gateway/Cargo.toml").exists() {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.current_dir(&root).args(["build", "--quiet", "-p", "gateway", "--bin", "tapgate"]);
            if !cfg!(debug_assertions) {
                cargo.arg("--release");
            }
            if let Some(target) = program.parent().and_then(Path::parent) {
                cargo.arg("--target-dir").arg(target);
            }
            match cargo.status() {
                Ok(status) => ensure!(status.success(), "cargo could not build the server: {status}"),
                Err(_) if program.exists() => {}
                Err(error) => bail!("there is no {} and no cargo to build it: {error}", program.display()),
            }
        }
        ensure!(program.exists(), "there is no {}: build it with cargo build -p gateway", program.display());
        Ok(Self(program))
    }
}

/// Where the server lies beside this program.
fn beside() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("where this program is")?;
    let beside = own.parent().context("a program lies in a folder")?;
    // Tests lie one folder deeper.
    let beside = if beside.ends_with("deps") { beside.parent().unwrap_or(beside) } else { beside };
    Ok(beside.join("tapgate"))
}

/// What goes to its log. Of a node also which shards come and go.
const LOG: &str = "warn,gateway::cluster=info,storage::journal::kafka=info";

/// What is raised. One device here does the work of a thousand, all of them from one address.
const LIMITS: &str = "device_scans_per_s = 0\nhttp_requests_per_s = 0\n";

/// A server that was started here. Dropping it ends it.
pub struct Server {
    program: Program,
    child: Option<Child>,
    folder: PathBuf,
    /// Its folder, if that goes when it does.
    _fresh: Option<TempDir>,
    http: SocketAddr,
    quic: SocketAddr,
    /// What stands before its command: in which network it runs.
    prefix: Vec<String>,
}

impl Server {
    /// Prepares a fresh folder under `under`, with settings for a load test: limits meant for one person at a reader, or
    /// one address on the net, are raised; whatever bounds memory stays.
    ///
    /// # Errors
    /// The folder cannot be made, or there are no ports.
    pub fn prepare(program: Program, under: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("loadtest-").tempdir_in(under)?;
        let path = folder.path().to_owned();
        let mut server = Self::in_folder(program, path, "")?;
        server._fresh = Some(folder);
        Ok(server)
    }

    /// Prepares one in a folder that is there and empty, and stays. `more`: its other settings.
    ///
    /// # Errors
    /// Nothing can be written there, or there are no ports.
    pub fn in_folder(program: Program, folder: PathBuf, more: &str) -> anyhow::Result<Self> {
        let (http, quic) = free_ports()?;
        let data = folder.join("data");
        fs::create_dir(&data)?;
        let settings = format!(
            "data = {data:?}\nhttp = \"{http}\"\nquic = \"{quic}\"\nquic_advertised = \"{quic}\"\nlog = \"{LOG}\"\n{LIMITS}{more}"
        );
        fs::write(folder.join("tapgate.toml"), settings)?;
        Ok(Self { program, child: None, folder, _fresh: None, http, quic, prefix: Vec::new() })
    }

    /// Behind this command, which runs what follows it in its own place, from its next start on.
    pub fn prefix(&mut self, prefix: Vec<String>) {
        self.prefix = prefix;
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Its process and its read models, while it runs.
    pub fn watched(&self) -> Option<Watched> {
        Some(Watched { pid: self.pid()?, views: Some(self.data().join("views")) })
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where it listens for people and programs.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where it listens for readers.
    pub fn quic(&self) -> SocketAddr {
        self.quic
    }

    /// Makes an operator's key, as an operator would.
    ///
    /// # Errors
    /// `tapgate key create` fails.
    pub fn admin(&self) -> anyhow::Result<Admin> {
        let made = Command::new(&self.program.0)
            .args(["key", "create", "--role", "ADMIN", "--name", "load test", "--data"])
            .arg(self.data())
            .output()?;
        let said = String::from_utf8_lossy(&made.stdout);
        let complaint = String::from_utf8_lossy(&made.stderr);
        let key = said.split_whitespace().find(|word| word.starts_with("tgk_"));
        let key = key.with_context(|| format!("`tapgate key create` made no key: {said}{complaint}"))?;
        Ok(Admin::new(self.http, key.to_owned()))
    }

    /// Starts it, without waiting for anything.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = match self.prefix.split_first() {
            None => Command::new(&self.program.0),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program.0);
                command
            }
        };
        command.arg("serve").arg("--config").arg(self.folder.join("tapgate.toml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Waits until all its shards serve; how long that took.
    ///
    /// # Errors
    /// It ended, with the end of what it said; or it takes too long.
    pub fn wait_ready(&mut self, admin: &Admin) -> anyhow::Result<Duration> {
        let began = Instant::now();
        while !admin.is_ready() {
            let child = self.child.as_mut().context("the server was not started")?;
            if let Some(status) = child.try_wait()? {
                self.child = None;
                bail!("the server ended with {status}:\n{}", self.last_words());
            }
            ensure!(began.elapsed() < READY_WITHIN, "the server is not ready:\n{}", self.last_words());
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(began.elapsed())
    }

    /// SIGKILL: it gets no chance to write anything down.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGSTOP: it does nothing more, and nobody is told.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on as if no time had passed.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        Ok(kill_process(pid.context("the server does not run")?, signal)?)
    }

    /// SIGTERM, and waits until it has closed its books.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if self.child.is_none() {
            return Ok(());
        }
        self.signal(Signal::TERM)?;
        let began = Instant::now();
        while began.elapsed() < STOP_WITHIN {
            let Some(child) = self.child.as_mut() else { return Ok(()) };
            if let Some(status) = child.try_wait()? {
                self.child = None;
                ensure!(status.success(), "the server ended with {status}:\n{}", self.last_words());
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill()?;
        bail!("the server did not stop within {} s:\n{}", STOP_WITHIN.as_secs(), self.last_words())
    }

    /// Everything it has said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2_000)..]).into_owned()
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to tell anybody.
        let _ = self.kill();
    }
}

/// Ports that were free a moment ago. They stay the same over restarts, so that readers find the server again.
fn free_ports() -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let quic = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    Ok((http, quic))
}

/// A folder on a disk: beside this program, since `/tmp` is memory on many machines.
///
/// # Errors
/// This program lies nowhere.
pub fn default_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("a program lies in a folder")?.to_owned())
}
