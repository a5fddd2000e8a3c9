//! One QUIC connection of a simulated reader: raw frames over quinn, as the wire has them. Kept apart from the
//! device's own library so that the load generator costs little and hides nothing.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bytes::Bytes;
use engine::model::ids::{DeviceId, FestivalId};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime, TransportConfig, VarInt,
};
use tapgate_client::{first_of, pinned};
use tapgate_wire::{Enrol, Fingerprint, Frame, close, decode, proof};

/// How long connecting and proving may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Idle readers show so often that they are still there.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Where there is another node to go to, they look so often whether theirs is still there ([`crate::drive`]).
const LOOK_EVERY: Duration = Duration::from_millis(750);
/// Without a packet for so long the connection is gone.
const IDLE_MS: u32 = 30_000;
/// What may be under way each way, in bytes: 4,096 answers of 56 bytes are 224 KiB, as many packed scans 312 KiB.
const WINDOW_BYTES: u32 = 512 * 1_024;
/// What the kernel may hold of arrived packets, as at the server's own socket.
const SOCKET_BUFFER_BYTES: usize = 4 * 1_024 * 1_024;
/// Packets taken in one read.
const CHUNKS: usize = 32;

/// Where the QUIC door is, and what it has to show.
#[derive(Clone, Debug)]
pub struct Target {
    /// On this machine: the load test reaches no other. One for each node, of which any will do.
    pub addresses: Arc<[SocketAddr]>,
    /// Of its certificate.
    pub fingerprint: Fingerprint,
}

impl Target {
    /// All addresses, this one first and the others in turn.
    fn from(&self, first: usize) -> Vec<SocketAddr> {
        let mut turned = self.addresses.to_vec();
        let len = turned.len().max(1);
        turned.rotate_left(first % len);
        turned
    }
}

/// Who a reader is.
pub struct Identity {
    pub device: DeviceId,
    key: Ed25519KeyPair,
}

/// A reader's place at a festival that an operator has offered.
#[derive(Clone, Debug)]
pub struct Offer {
    pub festival: FestivalId,
    /// The one-time code.
    pub code: String,
}

/// A connection.
pub struct Link {
    connection: Connection,
    /// Frames go in here.
    pub send: SendStream,
    /// And come out here.
    pub incoming: Incoming,
}

/// A socket of one's own for many connections, on the loopback.
///
/// # Errors
/// There is none to be had.
pub fn endpoint(target: &Target) -> anyhow::Result<Endpoint> {
    let crypto =
        QuicClientConfig::try_from(pinned(target.fingerprint, None)).context("TLS 1.3 has QUIC's first cipher")?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = transport();
    if target.addresses.len() > 1 {
        transport.keep_alive_interval(Some(LOOK_EVERY));
    }
    config.transport_config(Arc::new(transport));
    ensure!(target.addresses.iter().all(SocketAddr::is_ipv4), "the load test speaks IPv4 to this machine");
    let mut endpoint = Endpoint::new(EndpointConfig::default(), None, socket()?, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

/// A socket on the loopback, with as much room as the server's own.
///
/// # Errors
/// There is none to be had.
pub fn socket() -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    // The kernel gives what it may; with less there are only fewer packets in flight.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES);
    Ok(socket)
}

/// How both ends of a load test's connection are set up; the echo uses the same.
pub fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .keep_alive_interval(Some(PING_EVERY))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_MS).into()));
    transport
}

impl Link {
    /// Connects, and is nobody yet. Of several addresses, `first` says with which to begin.
    ///
    /// # Errors
    /// The server is not there, or not the one with that certificate.
    pub async fn open(endpoint: &Endpoint, target: &Target, first: usize) -> anyhow::Result<Self> {
        first_of(target.from(first), |address| Self::open_at(endpoint, address)).await
    }

    /// Connects and proves itself, wherever that succeeds first: a node that answers and lets nobody in is passed over.
    ///
    /// # Errors
    /// None of them lets it in.
    pub async fn open_as(
        endpoint: &Endpoint,
        target: &Target,
        first: usize,
        identity: &Identity,
    ) -> anyhow::Result<Self> {
        let attempt = |address| async move {
            let mut link = Self::open_at(endpoint, address).await?;
            link.hello(identity).await?;
            anyhow::Ok(link)
        };
        first_of(target.from(first), attempt).await
    }

    async fn open_at(endpoint: &Endpoint, address: SocketAddr) -> anyhow::Result<Self> {
        let connecting = endpoint.connect(address, "tapgate")?;
        let opened = async {
            let connection = connecting.await?;
            let (send, recv) = connection.open_bi().await?;
            anyhow::Ok(Self { connection, send, incoming: Incoming { recv, bytes: Vec::new() } })
        };
        tokio::time::timeout(CONNECT_WITHIN, opened).await.context("connecting took too long")?
    }

    /// Makes a key, and shows it with an offer's code.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn enrol(&mut self, offer: &Offer) -> anyhow::Result<Identity> {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| anyhow!("the system gives no randomness"))?;
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| anyhow!("no key from a seed"))?;
        let public_key = key.public_key().as_ref().try_into().context("Ed25519 keys have 32 bytes")?;
        let enrol = Enrol { festival: offer.festival, public_key, code: offer.code.as_bytes() };
        self.send_frame(Frame::Enrol(enrol)).await?;
        let device = self.wait_for(|frame| match frame {
            Frame::Enrolled { device, .. } => Some(*device),
            _ => None,
        });
        Ok(Identity { device: device.await.context("enrolling")?, key })
    }

    /// Says hello and proves it; the number of the next scan.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn hello(&mut self, identity: &Identity) -> anyhow::Result<u64> {
        self.send_frame(Frame::Hello(identity.device)).await?;
        let challenge = self.wait_for(|frame| match frame {
            Frame::Challenge { nonce, .. } => Some(**nonce),
            _ => None,
        });
        let nonce = challenge.await.context("saying hello")?;
        let mut binding = [0; 32];
        let exported = self.connection.export_keying_material(&mut binding, proof::EXPORTER_LABEL, b"");
        exported.map_err(|_| anyhow!("TLS exports nothing"))?;
        let signature = identity.key.sign(&proof::message(&nonce, identity.device, &binding));
        let signature = signature.as_ref().try_into().context("signatures have 64 bytes")?;
        self.send_frame(Frame::Proof(signature)).await?;
        let welcome = self.wait_for(|frame| match frame {
            Frame::Welcome(welcome) => Some(welcome.next_seq),
            Frame::TerminalWelcome(welcome) => Some(welcome.next_seq),
            _ => None,
        });
        welcome.await.context("proving")
    }

    async fn send_frame(&mut self, frame: Frame<'_>) -> anyhow::Result<()> {
        // Where it fails, the server's last words say why: the next read finds them.
        let _ = self.send.write_all(&frame.to_bytes()).await;
        Ok(())
    }

    async fn wait_for<T>(&mut self, want: impl Fn(&Frame<'_>) -> Option<T>) -> anyhow::Result<T> {
        let waited = async {
            loop {
                if let Some((frame, len)) = decode(&self.incoming.bytes)? {
                    if let Frame::Refuse { text, refusal, .. } = frame {
                        bail!("refused: {refusal}: {text}");
                    }
                    let wanted = want(&frame).with_context(|| format!("the server said {frame:?}"))?;
                    self.incoming.bytes.drain(..len);
                    return Ok(wanted);
                }
                self.incoming.fill().await?;
            }
        };
        tokio::time::timeout(CONNECT_WITHIN, waited).await.context("the server said nothing")?
    }

    /// How many packets have come, whatever was in them.
    pub fn packets(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    /// Says goodbye.
    pub fn close(&self) {
        self.connection.close(VarInt::from_u32(close::DONE), b"");
    }
}

/// What arrives on a link.
pub struct Incoming {
    recv: RecvStream,
    bytes: Vec<u8>,
}

impl Incoming {
    /// Waits for more bytes. May be dropped at any time without losing any.
    ///
    /// # Errors
    /// The connection, or the stream, is over.
    pub async fn fill(&mut self) -> anyhow::Result<()> {
        let mut chunks: [Bytes; CHUNKS] = Default::default();
        let arrived = self.recv.read_chunks(&mut chunks).await?.context("the server ended the stream")?;
        chunks[..arrived].iter().for_each(|chunk| self.bytes.extend_from_slice(chunk));
        Ok(())
    }

    /// Hands over each whole frame that has arrived.
    ///
    /// # Errors
    /// Bytes that are no frame, or what `each` says.
    pub fn take<E>(&mut self, mut each: impl FnMut(&Frame<'_>) -> Result<(), E>) -> anyhow::Result<()>
    where
        anyhow::Error: From<E>,
    {
        let mut at = 0;
        while let Some((frame, len)) = decode(&self.bytes[at..])? {
            each(&frame)?;
            at += len;
        }
        self.bytes.drain(..at);
        Ok(())
    }
}
