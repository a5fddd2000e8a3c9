//! One connection to the server: hello, proof, welcome; then frames both ways. [`super::Reader`] and [`super::Terminal`] keep one alive; load
//! generators use it bare.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use engine::model::ids::{DeviceId, FestivalId, GateNo, VendorNo, ZoneNo};
use engine::model::money::Currency;
use engine::model::status::ScanAck;
use engine::model::time::Timestamp;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use tapgate_wire::{Enrol, FRAME_LEN_MAX, Fingerprint, Frame, Offer, WireError, close, decode, proof};

use super::addresses::{addresses_of, first_of};
use super::pinned::{fingerprint_of, pinned};
use super::{ClientError, DeviceKey, Identity};

/// How long a connection may take to be made, proof included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a quiet device shows that it is still there; the server waits 30 s.
pub const PING_EVERY: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// What the server may send unread: answers to 4,096 frames at 61 B are 244 KiB.
const WINDOW_BYTES: u32 = 256 * 1_024;

/// A connection of a device that has proven itself.
pub struct Link {
    /// QUIC's own handle.
    pub connection: Connection,
    /// Where frames go.
    pub send: SendStream,
    /// Where frames come from.
    pub frames: FrameReader,
    /// Which of the keys that the device trusts the server has.
    pub shown: Fingerprint,
    /// What the server said first.
    pub welcome: Welcomed,
}

/// A welcome that owns its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcomed {
    /// The server's clock.
    pub server_time: Timestamp,
    /// The lowest number for the device's next command.
    pub next_seq: u64,
    /// Whose festival.
    pub festival: FestivalId,
    /// Where the device stands.
    pub gate: GateNo,
    /// The zone that gate leads into.
    pub zone: ZoneNo,
    /// When answers leave.
    pub ack: ScanAck,
    /// How many commands may be unanswered.
    pub window: u16,
    /// The key that the server will have next, if it has said so.
    pub next_pin: Option<Fingerprint>,
    /// What the device is called.
    pub device_name: String,
    /// What the festival is called.
    pub festival_name: String,
    /// What the gate is called.
    pub gate_name: String,
    /// What the zone is called.
    pub zone_name: String,
    /// What a terminal is told in place of gate and zone, which mean nothing for it.
    pub terminal: Option<TerminalWelcomed>,
}

/// What a terminal may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalWelcomed {
    /// For whom it takes payments; a pure cash desk takes none.
    pub vendor: Option<VendorNo>,
    /// What the vendor is called.
    pub vendor_name: String,
    /// It tops up with cash.
    pub cashier: bool,
    /// Of all the festival's prices.
    pub currency: Currency,
}

/// A socket of one's own; connections can share it.
///
/// # Errors
/// [`ClientError::Net`].
pub fn endpoint(server: SocketAddr) -> Result<Endpoint, ClientError> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    Endpoint::client(any).map_err(|error| ClientError::Net(error.to_string()))
}

/// How a device speaks QUIC with the one server it trusts, by its present key or the one it will have next.
pub fn config(fingerprint: Fingerprint, next: Option<Fingerprint>) -> ClientConfig {
    let crypto = QuicClientConfig::try_from(pinned(fingerprint, next)).expect("TLS 1.3 has QUIC's first cipher");
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .keep_alive_interval(Some(PING_EVERY))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32).into()));
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    config
}

impl Link {
    /// Connects, says hello, proves itself, waits for the welcome. `endpoint`: share one among many, or none.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's reason, [`ClientError::Net`], [`ClientError::Timeout`].
    pub async fn open(endpoint: Option<&Endpoint>, identity: &Identity) -> Result<Self, ClientError> {
        Self::open_from(endpoint, identity, 0).await
    }

    /// The same, beginning with another one of several servers at each `turn`. Devices are spread over all of them.
    pub(super) async fn open_from(
        endpoint: Option<&Endpoint>,
        identity: &Identity,
        turn: usize,
    ) -> Result<Self, ClientError> {
        let first = (identity.device.0 as usize).wrapping_add(turn);
        let opened = async {
            let (connection, mut send, mut frames) =
                open(endpoint, (&identity.server, first), (identity.fingerprint, identity.next)).await?;
            let shown = connection
                .peer_identity()
                .and_then(|chain| fingerprint_of(chain.downcast::<Vec<CertificateDer<'_>>>().ok()?.first()?))
                .unwrap_or(identity.fingerprint);
            let device = identity.device;
            write(&mut send, Frame::Hello(device)).await?;
            let nonce = frames
                .wait_for(|frame| match frame {
                    Frame::Challenge { nonce, .. } => Some(**nonce),
                    _ => None,
                })
                .await
                .map_err(|error| why_closed(&connection, error))?;
            let mut binding = [0; 32];
            connection
                .export_keying_material(&mut binding, proof::EXPORTER_LABEL, b"")
                .map_err(|_| ClientError::Net("TLS has no exporter".into()))?;
            let signature = identity.key.sign(&proof::message(&nonce, device, &binding))?;
            write(&mut send, Frame::Proof(&signature)).await?;
            let welcome = frames
                .wait_for(|frame| match frame {
                    Frame::Welcome(w) => Some(Welcomed {
                        server_time: w.server_time,
                        next_seq: w.next_seq,
                        festival: w.festival,
                        gate: w.gate,
                        zone: w.zone,
                        ack: w.ack,
                        window: w.window,
                        next_pin: w.next_pin,
                        device_name: w.device_name.to_owned(),
                        festival_name: w.festival_name.to_owned(),
                        gate_name: w.gate_name.to_owned(),
                        zone_name: w.zone_name.to_owned(),
                        terminal: None,
                    }),
                    Frame::TerminalWelcome(w) => Some(Welcomed {
                        server_time: w.server_time,
                        next_seq: w.next_seq,
                        festival: w.festival,
                        gate: GateNo(0),
                        zone: ZoneNo(0),
                        ack: ScanAck::Durable,
                        window: w.window,
                        next_pin: w.next_pin,
                        device_name: w.device_name.to_owned(),
                        festival_name: w.festival_name.to_owned(),
                        gate_name: String::new(),
                        zone_name: String::new(),
                        terminal: Some(TerminalWelcomed {
                            vendor: w.vendor,
                            vendor_name: w.vendor_name.to_owned(),
                            cashier: w.cashier,
                            currency: w.currency,
                        }),
                    }),
                    _ => None,
                })
                .await
                .map_err(|error| why_closed(&connection, error))?;
            Ok(Self { connection, send, frames, shown, welcome })
        };
        tokio::time::timeout(CONNECT_TIMEOUT, opened).await.unwrap_or(Err(ClientError::Timeout))
    }

    /// Says goodbye, and waits until the server has heard it and given every answer it still owed (those are read and
    /// dropped here).
    pub async fn close(mut self) {
        let goodbye = async {
            write(&mut self.send, Frame::Bye).await.ok()?;
            self.send.finish().ok()?;
            while self.frames.fill().await.ok()? {
                self.frames.take(|_| {}).ok()?;
            }
            Some(())
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), goodbye).await;
        self.connection.close(VarInt::from_u32(close::DONE), b"");
    }
}

/// Shows an offer's code and the key's public half; the device's id, if the code was good.
///
/// # Errors
/// As [`Link::open`].
pub(super) async fn enrol(
    endpoint: Option<&Endpoint>,
    offer: &Offer,
    key: &DeviceKey,
) -> Result<DeviceId, ClientError> {
    let public_key = key.public()?;
    let enrolled = async {
        let (connection, mut send, mut frames) =
            open(endpoint, (offer.server(), 0), (offer.fingerprint(), None)).await?;
        let code = offer.code().as_bytes();
        write(&mut send, Frame::Enrol(Enrol { festival: offer.festival(), public_key: &public_key, code })).await?;
        let device = frames
            .wait_for(|frame| match frame {
                Frame::Enrolled { device, .. } => Some(*device),
                _ => None,
            })
            .await
            .map_err(|error| why_closed(&connection, error))?;
        connection.close(VarInt::from_u32(close::DONE), b"");
        Ok(device)
    };
    tokio::time::timeout(CONNECT_TIMEOUT, enrolled).await.unwrap_or(Err(ClientError::Timeout))
}

async fn open(
    shared: Option<&Endpoint>,
    (servers, first): (&str, usize),
    (fingerprint, next): (Fingerprint, Option<Fingerprint>),
) -> Result<(Connection, SendStream, FrameReader), ClientError> {
    let net = |error: &dyn std::fmt::Display| ClientError::Net(error.to_string());
    // The first that shows the key we trust: whatever else answers at an address of that name is no server of ours.
    let attempt = |addr| async move {
        let own;
        let endpoint = match shared {
            Some(shared) => shared,
            None => {
                own = endpoint(addr)?;
                &own
            }
        };
        let connecting =
            endpoint.connect_with(config(fingerprint, next), addr, "tapgate").map_err(|error| net(&error))?;
        connecting.await.map_err(|error| net(&error))
    };
    let connection = first_of(addresses_of(servers, first).await?, attempt).await?;
    let (send, recv) = connection.open_bi().await.map_err(|error| net(&error))?;
    Ok((connection, send, FrameReader::new(recv)))
}

async fn write(send: &mut SendStream, frame: Frame<'_>) -> Result<(), ClientError> {
    // A write that fails has its reason in what the server said last; the next read finds it.
    let _ = send.write_all(&frame.to_bytes()).await;
    Ok(())
}

/// A stream that broke has its reason in how the connection was closed.
fn why_closed(connection: &Connection, error: ClientError) -> ClientError {
    match (error, connection.close_reason()) {
        (ClientError::Net(_), Some(ConnectionError::ApplicationClosed(closed))) => {
            ClientError::Closed(u64::from(closed.error_code) as u32)
        }
        (error, _) => error,
    }
}

/// Frames as they arrive.
pub struct FrameReader {
    recv: RecvStream,
    bytes: Vec<u8>,
}

impl FrameReader {
    fn new(recv: RecvStream) -> Self {
        Self { recv, bytes: Vec::new() }
    }

    /// Waits for more bytes: true, or false at the stream's end. Can be dropped at any time without losing anything.
    ///
    /// # Errors
    /// [`ClientError::Net`].
    pub async fn fill(&mut self) -> Result<bool, ClientError> {
        let mut chunks: [bytes::Bytes; 32] = Default::default();
        match self.recv.read_chunks(&mut chunks).await {
            Ok(Some(arrived)) => {
                chunks[..arrived].iter().for_each(|chunk| self.bytes.extend_from_slice(chunk));
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(ClientError::Net(error.to_string())),
        }
    }

    /// Hands over every whole frame that has arrived.
    ///
    /// # Errors
    /// [`ClientError::Server`]: these bytes are no frame.
    pub fn take(&mut self, mut each: impl FnMut(&Frame<'_>)) -> Result<(), ClientError> {
        let mut at = 0;
        while let Some((frame, len)) = decode(&self.bytes[at..]).map_err(ClientError::Server)? {
            each(&frame);
            at += len;
        }
        self.bytes.drain(..at);
        debug_assert!(self.bytes.len() < FRAME_LEN_MAX);
        Ok(())
    }

    /// The first frame that `want` takes; a Refuse is an error, others before it have no place.
    async fn wait_for<T>(&mut self, want: impl Fn(&Frame<'_>) -> Option<T>) -> Result<T, ClientError> {
        loop {
            if let Some((frame, len)) = decode(&self.bytes).map_err(ClientError::Server)? {
                if let Frame::Refuse { refusal, retry_after_ms, .. } = frame {
                    return Err(ClientError::Refused { refusal, retry_after_ms });
                }
                let wanted = want(&frame).ok_or(ClientError::Server(WireError::Kind(self.bytes[2])))?;
                self.bytes.drain(..len);
                return Ok(wanted);
            }
            if !self.fill().await? {
                return Err(ClientError::Net("the server ended the stream".into()));
            }
        }
    }
}
