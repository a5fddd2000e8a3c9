//! Accepts HTTP connections and carries them: bounds how many there are and what a slow or silent peer can hold, and
//! ends in good order.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

/// Connections at once; whoever comes after them waits in the system's queue. 2,048 × 32 KiB of buffer = 64 MiB.
const CONNECTIONS_MAX: usize = 2_048;
/// Of one address: a stand with a screen for each gate has a few dozen.
const PER_ADDRESS_MAX: u32 = 256;
/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 32 * 1_024;
/// How long the head of a request may take, and how long a connection may stay idle between two.
const HEAD_WITHIN: Duration = Duration::from_secs(20);
/// What was sent and is not taken within this long ends the connection: a viewer that has gone to sleep.
const TAKEN_WITHIN_MS: u32 = 30_000;

/// Serves `app` to whoever connects, until `stop` is set and the last answer under way has left.
pub async fn http(listener: TcpListener, app: Router, stop: watch::Receiver<bool>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let addresses = Addresses::default();
    let mut stopping = stop.clone();
    loop {
        let accepted = async {
            let seat = Arc::clone(&seats).acquire_owned().await;
            (seat, listener.accept().await)
        };
        let (Ok(seat), accepted) = (tokio::select! {
            () = set(&mut stopping) => break,
            accepted = accepted => accepted,
        }) else {
            break;
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(counted) = addresses.count(peer.ip()) else { continue };
                let (app, stop) = (app.clone(), stop.clone());
                tokio::spawn(async move {
                    carry(stream, peer, app, stop).await;
                    drop((seat, counted));
                });
            }
            // Out of descriptors, or the peer has gone already: no reason to end, nor to spin.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener); // from here on, whoever comes is refused at once
    let _all_gone = seats.acquire_many(CONNECTIONS_MAX as u32).await;
}

/// Until it is set, or nobody is left to set it.
async fn set(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection: as many requests as the peer likes, one after the other.
async fn carry(stream: TcpStream, peer: SocketAddr, app: Router, mut stop: watch::Receiver<bool>) {
    // Where the system knows neither, the connection works all the same.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, TAKEN_WITHIN_MS);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        app.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
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
struct Addresses(Arc<Mutex<HashMap<IpAddr, u32>>>);

/// One connection of an address, counted until it is dropped.
struct Counted(Addresses, IpAddr);

impl Addresses {
    fn count(&self, address: IpAddr) -> Option<Counted> {
        // An IPv6 peer is its /64: that is what one customer gets, and could walk through.
        let address = match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            v4 => v4,
        };
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = addresses.entry(address).or_default();
        if *connections >= PER_ADDRESS_MAX {
            return None;
        }
        *connections += 1;
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
        let mut held: Vec<_> = (0..PER_ADDRESS_MAX).map(|_| addresses.count(one).unwrap()).collect();
        assert!(addresses.count(one).is_none());
        assert!(addresses.count("::ffff:192.0.2.7".parse().unwrap()).is_none(), "the same peer");
        assert!(addresses.count(IpAddr::from([192, 0, 2, 8])).is_some(), "the others are not hurt");
        held.pop();
        held.push(addresses.count(one).unwrap());
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
        let serving = tokio::spawn(http(listener, app, stopping));
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
