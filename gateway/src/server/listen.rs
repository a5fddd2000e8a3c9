//! Accepts HTTP connections and carries them: bounds how many there are and what a slow or silent peer can hold, and
//! ends in good order.
//!
//! Who comes when all places are taken, be it in all or of an address, is not sent away unheard, since it may be somebody
//! who evacuates a zone: they come in by a narrow way, for one request whose head has to be there at once, and get an answer
//! if it protects people ([`crate::http::kit::limits::PROTECTED`]); anything else is told to come again.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt as _;

use crate::http::kit::limits::{ClientAddress, Narrow, counted_as};
use crate::server::proxies::TrustedProxies;

/// How many connections there may be, and who is believed about where they come from.
#[derive(Clone, Debug)]
pub struct Connections {
    /// At once (default 2,048 × 32 KiB of buffer = 64 MiB).
    pub max: usize,
    /// Of one address (default 256: a stand with a screen for each gate has a few dozen). Trusted proxies may have as many
    /// as there are.
    pub per_address_max: usize,
    /// Proxies whose word is taken for where a request comes from.
    pub proxies: TrustedProxies,
}

impl Default for Connections {
    fn default() -> Self {
        Self { max: 2_048, per_address_max: 256, proxies: TrustedProxies::default() }
    }
}

/// Beyond [`Connections::max`], on the narrow way: 256 × 32 KiB = 8 MiB. Whoever comes after them waits in the system's
/// queue.
const NARROW_MAX: usize = 256;
/// Of one address, on the narrow way.
const NARROW_PER_ADDRESS_MAX: usize = 64;
/// How long the head of a request may take on the narrow way: 64 places that are only held are free again 32 times a second.
const NARROW_HEAD_WITHIN: Duration = Duration::from_secs(2);
/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 32 * 1_024;
/// How long the head of a request may take, and how long a connection may stay idle between two.
const HEAD_WITHIN: Duration = Duration::from_secs(20);
/// What was sent and is not taken within this long ends the connection: a viewer that has gone to sleep.
const TAKEN_WITHIN_MS: u32 = 30_000;

/// Serves `app` to whoever connects, until `stop` is set and the last answer under way has left.
pub async fn http(listener: TcpListener, app: Router, connections: Connections, stop: watch::Receiver<bool>) {
    let shared = Shared {
        app,
        places: Way::new(connections.max, connections.per_address_max),
        narrow: Way::new(NARROW_MAX, NARROW_PER_ADDRESS_MAX),
        proxies: connections.proxies.into(),
        stop: stop.clone(),
    };
    let mut stopping = stop;
    loop {
        let accepted = async {
            // While even the narrow way is full, nobody is taken out of the system's queue.
            if shared.places.seats.available_permits() == 0 {
                drop(shared.narrow.seats.acquire().await);
            }
            listener.accept().await
        };
        let accepted = tokio::select! {
            () = set(&mut stopping) => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => shared.take_in(stream, peer),
            // Out of descriptors, or the peer has gone already: no reason to end, nor to spin.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener); // from here on, whoever comes is refused at once
    shared.places.all_gone().await;
    shared.narrow.all_gone().await;
}

/// What every connection needs.
struct Shared {
    app: Router,
    places: Way,
    narrow: Way,
    proxies: Arc<TrustedProxies>,
    stop: watch::Receiver<bool>,
}

/// So many places, of which an address may have so many.
struct Way {
    max: usize,
    per_address_max: usize,
    seats: Arc<Semaphore>,
    addresses: Addresses,
}

impl Way {
    fn new(max: usize, per_address_max: usize) -> Self {
        Self { max, per_address_max, seats: Arc::new(Semaphore::new(max)), addresses: Addresses::default() }
    }

    /// A place for somebody from here; `shared`: a proxy, behind which are many.
    fn enter(&self, address: IpAddr, shared: bool) -> Option<Place> {
        let of_address = if shared { self.max } else { self.per_address_max };
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        Some(Place { _counted: self.addresses.count(address, of_address)?, _seat: seat })
    }

    async fn all_gone(&self) {
        let _all = self.seats.acquire_many(self.max as u32).await;
    }
}

/// Given back when this is dropped.
struct Place {
    _counted: Counted,
    _seat: OwnedSemaphorePermit,
}

impl Shared {
    fn take_in(&self, stream: TcpStream, peer: SocketAddr) {
        let shared = self.proxies.trusts(peer.ip());
        let (place, narrow) = match self.places.enter(peer.ip(), shared) {
            Some(place) => (place, false),
            None => match self.narrow.enter(peer.ip(), shared) {
                Some(place) => (place, true),
                None => return,
            },
        };
        let carried = carry(stream, peer, narrow, self.app.clone(), Arc::clone(&self.proxies), self.stop.clone());
        tokio::spawn(async move {
            carried.await;
            drop(place);
        });
    }
}

/// Until it is set, or nobody is left to set it.
async fn set(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection: as many requests as the peer likes, one after the other; on the narrow way, one.
async fn carry(
    stream: TcpStream,
    peer: SocketAddr,
    narrow: bool,
    app: Router,
    proxies: Arc<TrustedProxies>,
    mut stop: watch::Receiver<bool>,
) {
    // Where the system knows neither, the connection works all the same.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, TAKEN_WITHIN_MS);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let client = proxies.client(peer.ip(), request.headers());
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(peer));
        extensions.insert(ClientAddress(client));
        if narrow {
            extensions.insert(Narrow);
        }
        app.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(if narrow { NARROW_HEAD_WITHIN } else { HEAD_WITHIN })
        .keep_alive(!narrow)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = set(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection broke off");
    }
}

/// How many connections each address has. As many entries as there are connections at most.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of an address, counted until it is dropped.
struct Counted(Addresses, IpAddr);

impl Addresses {
    fn count(&self, address: IpAddr, max: usize) -> Option<Counted> {
        let address = counted_as(address);
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.get(&address).is_some_and(|connections| *connections >= max) {
            return None;
        }
        *addresses.entry(address).or_default() += 1;
        Some(Counted(self.clone(), address))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut addresses = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = addresses.get_mut(&self.1) {
            *connections -= 1;
            if *connections == 0 {
                addresses.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_leaves_nothing_behind() {
        let addresses = Addresses::default();
        let one = IpAddr::from([192, 0, 2, 7]);
        let mut held: Vec<_> = (0..3).map(|_| addresses.count(one, 3).unwrap()).collect();
        assert!(addresses.count(one, 3).is_none());
        assert!(addresses.count("::ffff:192.0.2.7".parse().unwrap(), 3).is_none(), "the same peer");
        assert!(addresses.count(IpAddr::from([192, 0, 2, 8]), 3).is_some(), "the others are not hurt");
        held.pop();
        held.push(addresses.count(one, 3).unwrap());
        drop(held);
        assert!(addresses.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn answers_under_way_leave_before_the_door_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let (begun, mut begins) = tokio::sync::mpsc::channel(1);
        let (go_on, held) = watch::channel(false);
        let app = Router::new().route(
            "/",
            axum::routing::get(async move || {
                begun.send(()).await.unwrap();
                set(&mut held.clone()).await;
                "so it is"
            }),
        );
        let serving = tokio::spawn(http(listener, app, Connections::default(), stopping));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(TcpStream::connect(address).await.unwrap()))
                .await
                .unwrap();
        tokio::spawn(connection);
        let answer = tokio::spawn(sender.send_request(Request::get("/").body(Body::empty()).unwrap()));
        begins.recv().await.unwrap();
        stop.send_replace(true);
        go_on.send_replace(true);
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
        serving.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "nobody is let in any more");
    }
}
