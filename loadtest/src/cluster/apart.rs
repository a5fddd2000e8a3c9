//! A node in a network of its own, so that single ways out of it and into it can be cut.
//!
//! A network namespace has a loopback of its own. What the node finds there at the brokers' addresses, and what others find here
//! at the node's, are relays of ours: a socket belongs to the namespace in which it was opened, whoever uses it. A way that is
//! cut loses what is sent, and tells nobody.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How often a relay that hears nothing looks whether it is cut, or over.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Devices and nodes that one door has at a time: a run has some dozens.
const FLOWS_MAX: usize = 1_024;

/// A way between the node and the others, shared by the relays that are its parts.
#[derive(Clone, Default)]
pub(super) struct Way(Arc<AtomicBool>);

impl Way {
    pub(super) fn cut(&self, cut: bool) {
        self.0.store(cut, Ordering::Release);
    }
    fn is_cut(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// On which side of a relay whoever begins is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// The node.
    Inside,
    /// Somebody else.
    Outside,
}

/// The namespace. It goes with this.
pub(super) struct Apart {
    name: String,
    over: Arc<AtomicBool>,
}

impl Apart {
    /// Makes one.
    ///
    /// # Errors
    /// Only root may, and not on every machine.
    pub(super) fn make() -> anyhow::Result<Self> {
        let name = format!("tapgate-{}", std::process::id());
        ip(&["netns", "add", &name])?;
        let this = Self { name, over: Arc::default() };
        ip(&["-n", &this.name, "link", "set", "lo", "up"])?;
        Ok(this)
    }

    /// What stands before a command that is to run in it.
    pub(super) fn prefix(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).into()
    }

    /// Relays whatever is sent to this address, which both sides know, over connections.
    ///
    /// # Errors
    /// The address is taken.
    pub(super) fn streams(&self, at: SocketAddr, begins: Begins, way: &Way) -> anyhow::Result<()> {
        let listener = self.socket(begins == Begins::Inside, move || TcpListener::bind(at))?;
        let (over, way, name) = (Arc::clone(&self.over), way.clone(), self.name.clone());
        listener.set_nonblocking(true)?;
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let Ok((near, _)) = listener.accept() else {
                    thread::sleep(LOOK_EVERY);
                    continue;
                };
                let far = within(&name, begins == Begins::Outside, move || TcpStream::connect(at));
                // Nobody there: whoever has connected hears that it is over.
                let Ok(far) = far else { continue };
                let both =
                    near.set_nonblocking(false).and_then(|()| Ok(((near.try_clone()?, far.try_clone()?), (far, near))));
                let Ok((there, back)) = both else { continue };
                for (from, to) in [there, back] {
                    let (way, over) = (way.clone(), Arc::clone(&over));
                    thread::spawn(move || pour(from, to, &way, &over));
                }
            }
        });
        Ok(())
    }

    /// The same with datagrams: whoever sends has a socket of its own on the other side.
    ///
    /// # Errors
    /// The address is taken.
    pub(super) fn datagrams(&self, at: SocketAddr, begins: Begins, way: &Way) -> anyhow::Result<()> {
        let near = Arc::new(self.socket(begins == Begins::Inside, move || UdpSocket::bind(at))?);
        near.set_read_timeout(Some(LOOK_EVERY))?;
        let (over, way, name) = (Arc::clone(&self.over), way.clone(), self.name.clone());
        thread::spawn(move || {
            let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
            let mut bytes = vec![0; 65_536];
            while !over.load(Ordering::Relaxed) {
                let Ok((len, from)) = near.recv_from(&mut bytes) else { continue };
                if way.is_cut() {
                    continue;
                }
                if flows.len() >= FLOWS_MAX {
                    flows.clear();
                }
                if let Some(far) = flows.get(&from) {
                    let _ = far.send(&bytes[..len]);
                    continue;
                }
                let open = move || {
                    let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                    far.connect(at)?;
                    far.set_read_timeout(Some(LOOK_EVERY))?;
                    Ok(far)
                };
                let Ok(far) = within(&name, begins == Begins::Outside, open).map(Arc::new) else { continue };
                let _ = far.send(&bytes[..len]);
                flows.insert(from, Arc::clone(&far));
                let (near, way, over) = (Arc::clone(&near), way.clone(), Arc::clone(&over));
                thread::spawn(move || {
                    let mut bytes = vec![0; 65_536];
                    while !over.load(Ordering::Relaxed) {
                        let Ok(len) = far.recv(&mut bytes) else { continue };
                        if !way.is_cut() {
                            let _ = near.send_to(&bytes[..len], from);
                        }
                    }
                });
            }
        });
        Ok(())
    }

    fn socket<T: Send + 'static>(
        &self,
        inside: bool,
        open: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        within(&self.name, inside, open)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Nothing is left to tell anybody.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// Opens a socket, in the namespace if it is to be inside: on a thread of its own, which ends with it.
fn within<T: Send + 'static>(
    name: &str,
    inside: bool,
    open: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    if !inside {
        return Ok(open()?);
    }
    let path = format!("/run/netns/{name}");
    let opened = thread::spawn(move || {
        let space = File::open(&path).with_context(|| format!("there is no {path}"))?;
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
        anyhow::Ok(open()?)
    });
    opened.join().map_err(|_| anyhow!("a thread panicked in its namespace"))?
}

/// One direction of a connection, until it ends.
fn pour(mut from: TcpStream, mut to: TcpStream, way: &Way, over: &AtomicBool) {
    let mut bytes = vec![0; 65_536];
    let _ = from.set_read_timeout(Some(LOOK_EVERY));
    while !over.load(Ordering::Relaxed) {
        if way.is_cut() {
            thread::sleep(LOOK_EVERY);
            continue;
        }
        match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(len) => {
                // What was under way when it was cut waits, as it would in a network.
                while way.is_cut() && !over.load(Ordering::Relaxed) {
                    thread::sleep(LOOK_EVERY);
                }
                if to.write_all(&bytes[..len]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

fn ip(words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(words).output().context("there is no `ip` (iproute2)")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "ip {}: {complaint}a node is cut off by network namespaces, which needs root",
        words.join(" ")
    );
    Ok(())
}
