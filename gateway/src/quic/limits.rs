//! What a connection may take: every bound of the QUIC door, with its sum, and who has taken how much.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quinn::{IdleTimeout, TransportConfig, VarInt};
use tokio::sync::Notify;

/// The bounds of one QUIC door.
///
/// What they add up to: an unproven connection takes about 50 KiB (TLS, QUIC, [`Self::unproven_window_bytes`] of its
/// bytes), so 1,024 of them 50 MiB. An idle device takes about 37 KiB (QUIC and TLS state, the session, no buffers: what a
/// server grew by with 10,000 of them), so 10,000 of them 360 MiB. A device that sends as fast as it can
/// and reads nothing takes 64 KiB in, 64 KiB out and 512 KiB of answers; it is dropped after [`Self::write_timeout`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections in all, proven or not (default 20,480).
    pub connections_max: usize,
    /// Connections that have not proven themselves yet, in all (default 1,024).
    pub unproven_max: usize,
    /// The same from one address (default 256: a gate's whole network behind one router coming back at once). An IPv6
    /// address counts as its /64. Beyond it the one that has been silent for longest gives way to the newcomer: devices
    /// prove themselves within some round trips, whoever only holds a place does not.
    pub unproven_per_address_max: usize,
    /// Proven devices from one address (default 12,288: a whole festival may be behind one).
    pub devices_per_address_max: usize,
    /// Handshakes a second from one address, once the burst is used up (default 1,000: at 0.3 ms each for TLS and the
    /// proof, a third of a core).
    pub handshakes_per_s: u32,
    /// Handshakes at once from one address (default 4,096).
    pub handshakes_burst: u32,
    /// How often one code, one key, one device's id, or one address's strangers may fail at once (default 10) before they
    /// are told to wait.
    pub failures_burst: u32,
    /// How long it takes to be forgiven one failure (default 6 s).
    pub failure_refill: Duration,
    /// Codes, keys, ids and addresses whose failures are remembered (default 16,384, of about 100 B: 1.6 MiB).
    pub failures_max: usize,
    /// Addresses remembered (default 16,384, of about 100 B: 1.6 MiB).
    pub addresses_max: usize,
    /// From the first packet to the proof (default 5 s).
    pub hello_timeout: Duration,
    /// How long a write may wait for a peer that takes nothing (default 10 s).
    pub write_timeout: Duration,
    /// Without a packet for so long, a connection is gone (default 30 s; devices ping every 10 s).
    pub idle_timeout: Duration,
    /// Frames of one connection whose answers are not written yet (default 4,096, as far as `seq` may be above
    /// `floor`). Beyond it nothing is read, and QUIC holds the peer back. One read may go beyond it, by at most
    /// 32 packets of 48 scans or 66 questions for a balance.
    pub in_flight_max: usize,
    /// Bytes waiting to be written to one device (default 512 KiB: answers to 4,096 + 1,536 frames at 56 B, their
    /// confirmations at 16 B, and room for notices; a terminal's are at most 4,096 + 2,112 at 61 B). Beyond it the device
    /// is too slow.
    pub out_bytes_max: usize,
    /// Bytes in flight from a peer that has not proven itself (default 16 KiB).
    pub unproven_window_bytes: u32,
    /// Bytes in flight from a device, and to it (default 64 KiB: 840 packed scans; at a round trip of 50 ms that is 17,000
    /// scans a second from a device that may send 2,000). What lies in here waits behind the door, where nobody can
    /// refuse it: with 256 KiB a refusal under overload took half as long again.
    pub window_bytes: u32,
    /// Frames a second from one device, once the burst is used up (default 2,000: a person scans one); 0 for no limit.
    pub frames_per_s: u32,
    /// Frames at once from one device (default 12,000: the whole of a reader's own queue after an hour without net).
    pub frames_burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 20_480,
            unproven_max: 1_024,
            unproven_per_address_max: 256,
            devices_per_address_max: 12_288,
            handshakes_per_s: 1_000,
            handshakes_burst: 4_096,
            failures_burst: 10,
            failure_refill: Duration::from_secs(6),
            failures_max: 16_384,
            addresses_max: 16_384,
            hello_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            in_flight_max: 4_096,
            out_bytes_max: 512 * 1_024,
            unproven_window_bytes: 16 * 1_024,
            window_bytes: 64 * 1_024,
            frames_per_s: 2_000,
            frames_burst: 12_000,
        }
    }
}

impl Limits {
    /// One stream, no datagrams, small windows. MTU and congestion control are quinn's defaults, GSO is on.
    pub(super) fn transport(&self) -> TransportConfig {
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(VarInt::from_u32(self.window_bytes))
            .receive_window(VarInt::from_u32(self.unproven_window_bytes.min(self.window_bytes)))
            .send_window(u64::from(self.window_bytes))
            .max_idle_timeout(Some(IdleTimeout::try_from(self.idle_timeout).unwrap_or(VarInt::MAX.into())));
        transport
    }
}

/// What the kernel may hold for the door until it is read, in bytes: about 2,000 full packets. With the 208 KiB that
/// Linux gives by itself, one step of 4,096 scans (2 ms) was long enough to lose every twelfth packet at full load, and a
/// lost packet costs its device a round of waiting.
pub const SOCKET_BUFFER_BYTES: usize = 4 * 1_024 * 1_024;

/// Asks for [`SOCKET_BUFFER_BYTES`] on the way in. The kernel gives what `net.core.rmem_max` allows; with less, packets
/// are lost under load and sent again, so that is worth a word.
pub fn make_roomy(socket: &UdpSocket) {
    let set = rustix::net::sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER_BYTES);
    // The kernel doubles what it grants, for its own books.
    let granted = rustix::net::sockopt::socket_recv_buffer_size(socket).map_or(0, |bytes| bytes / 2);
    if set.is_err() || granted < SOCKET_BUFFER_BYTES {
        tracing::warn!(
            granted,
            wanted = SOCKET_BUFFER_BYTES,
            "a small UDP buffer: raise net.core.rmem_max for busy gates"
        );
    }
}

/// Lets through `burst` at once and `per_s` a second after that.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    tokens: f64,
    refilled: Instant,
}

impl TokenBucket {
    pub(super) fn full(burst: u32, now: Instant) -> Self {
        Self { tokens: f64::from(burst), refilled: now }
    }
    pub(super) fn refill(&mut self, per_s: f64, burst: u32, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + passed * per_s).min(f64::from(burst));
        self.refilled = now;
    }
    pub(super) fn take(&mut self) -> bool {
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }
    /// Of what one token is missing.
    pub(super) fn missing(&self) -> f64 {
        (1.0 - self.tokens).max(0.0)
    }
    pub(super) fn is_at_least(&self, tokens: f64) -> bool {
        self.tokens >= tokens
    }
}

/// Who has how many connections.
pub(super) struct AddressBook {
    limits: Limits,
    state: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    connections: usize,
    unproven: usize,
    /// How many have come.
    arrivals: u64,
    addresses: HashMap<IpAddr, Address>,
}

struct Address {
    /// Those that have not proven themselves, in the order in which they came, and how they hear that they have to go.
    unproven: BTreeMap<u64, Arc<Notify>>,
    devices: usize,
    handshakes: TokenBucket,
}

/// What to do with somebody who knocks.
pub(super) enum ConnectionAttempt {
    /// Come in.
    Welcome(ConnectionPermit),
    /// Show first that you are where you say (QUIC's Retry).
    ProveAddress,
    /// Not now.
    Refused,
}

/// A place taken, given back when this is dropped.
pub(super) struct ConnectionPermit {
    book: Arc<AddressBook>,
    /// From where; an IPv6 address is its /64.
    pub(super) address: IpAddr,
    number: u64,
    displaced: Arc<Notify>,
    proven: bool,
}

impl AddressBook {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// `validated`: the peer has shown that it receives packets at this address.
    pub(super) fn knock(self: &Arc<Self>, address: IpAddr, validated: bool, now: Instant) -> ConnectionAttempt {
        let limits = &self.limits;
        let address = counted_as(address);
        let mut guard = self.lock();
        let book = &mut *guard;
        // An eighth of the places may be taken by senders that may not even exist.
        if !validated && book.unproven >= limits.unproven_max / 8 {
            return ConnectionAttempt::ProveAddress;
        }
        if book.connections >= limits.connections_max {
            return ConnectionAttempt::Refused;
        }
        if book.addresses.len() >= limits.addresses_max && !book.addresses.contains_key(&address) {
            book.forget_the_blameless(limits, now);
            if book.addresses.len() >= limits.addresses_max {
                return ConnectionAttempt::Refused;
            }
        }
        let entry = book.addresses.entry(address).or_insert_with(|| Address {
            unproven: BTreeMap::new(),
            devices: 0,
            handshakes: TokenBucket::full(limits.handshakes_burst, now),
        });
        entry.refill(limits, now);
        if entry.devices >= limits.devices_per_address_max || !entry.handshakes.take() {
            return ConnectionAttempt::Refused;
        }
        // Who has come from the same address and only holds a place makes room: nobody else pays for them.
        if entry.unproven.len() >= limits.unproven_per_address_max || book.unproven >= limits.unproven_max {
            let Some((_, displaced)) = entry.unproven.pop_first() else { return ConnectionAttempt::Refused };
            displaced.notify_one();
            book.unproven -= 1;
        }
        let (number, displaced) = (book.arrivals, Arc::new(Notify::new()));
        entry.unproven.insert(number, Arc::clone(&displaced));
        book.arrivals += 1;
        book.unproven += 1;
        book.connections += 1;
        ConnectionAttempt::Welcome(ConnectionPermit {
            book: Arc::clone(self),
            address,
            number,
            displaced,
            proven: false,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn forget_the_blameless(&mut self, limits: &Limits, now: Instant) {
        self.addresses.retain(|_, address| {
            address.refill(limits, now);
            address.unproven.len() + address.devices > 0
                || !address.handshakes.is_at_least(f64::from(limits.handshakes_burst))
        });
    }
}

impl Address {
    fn refill(&mut self, limits: &Limits, now: Instant) {
        self.handshakes.refill(f64::from(limits.handshakes_per_s), limits.handshakes_burst, now);
    }
}

impl ConnectionPermit {
    /// Waits until this place, not yet proven, was given to somebody who came later.
    pub(super) async fn displaced(&self) {
        self.displaced.notified().await;
    }

    /// The device has proven itself. False if there are too many from its address.
    pub(super) fn prove(&mut self) -> bool {
        let mut guard = self.book.lock();
        let book = &mut *guard;
        let Some(address) = book.addresses.get_mut(&self.address) else { return false };
        if self.proven || address.devices >= self.book.limits.devices_per_address_max {
            return self.proven;
        }
        // One that was asked to go and proves itself in the same moment may stay.
        if address.unproven.remove(&self.number).is_some() {
            book.unproven -= 1;
        }
        address.devices += 1;
        self.proven = true;
        true
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut guard = self.book.lock();
        let book = &mut *guard;
        book.connections -= 1;
        if let Some(address) = book.addresses.get_mut(&self.address) {
            if self.proven {
                address.devices -= 1;
            } else if address.unproven.remove(&self.number).is_some() {
                book.unproven -= 1;
            }
        }
    }
}

/// One customer of an IPv6 network has a whole /64; a mapped IPv4 address is that IPv4 address.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Limits {
        Limits {
            connections_max: 10,
            unproven_max: 8,
            unproven_per_address_max: 2,
            devices_per_address_max: 3,
            handshakes_per_s: 1,
            handshakes_burst: 20,
            failures_burst: 2,
            addresses_max: 3,
            ..Limits::default()
        }
    }

    fn come_in(book: &Arc<AddressBook>, host: u8, now: Instant) -> Option<ConnectionPermit> {
        match book.knock(IpAddr::from([192, 0, 2, host]), true, now) {
            ConnectionAttempt::Welcome(permit) => Some(permit),
            ConnectionAttempt::ProveAddress | ConnectionAttempt::Refused => None,
        }
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let book = AddressBook::new(small());
        let now = Instant::now();
        let mut first = come_in(&book, 1, now).unwrap();
        let _second = come_in(&book, 1, now).unwrap();
        assert!(first.prove() && first.prove());
        let mut third = come_in(&book, 1, now).expect("a proven one makes room");
        assert!(third.prove());
        let mut fourth = come_in(&book, 1, now).unwrap();
        assert!(fourth.prove());
        assert!(come_in(&book, 1, now).is_none(), "three devices and no more");
        assert!(come_in(&book, 2, now).is_some(), "another address is not hurt");
        drop((first, third, fourth));
        let book_now = book.lock();
        assert_eq!((book_now.connections, book_now.unproven), (1, 1));
    }

    #[tokio::test]
    async fn whoever_only_holds_a_place_gives_way_to_who_comes_after() {
        let book = AddressBook::new(small());
        let now = Instant::now();
        let silent = [1, 1, 2].map(|host| come_in(&book, host, now).unwrap());
        let newcomer = come_in(&book, 1, now).expect("the third of an address that may have two");
        silent[0].displaced().await;
        for stays in [&silent[1], &silent[2], &newcomer] {
            assert!(tokio::time::timeout(Duration::ZERO, stays.displaced()).await.is_err());
        }
        assert_eq!(book.lock().unproven, 3);
        drop((silent, newcomer));
        let book_now = book.lock();
        assert_eq!((book_now.connections, book_now.unproven), (0, 0));
    }

    #[test]
    fn the_book_is_bounded() {
        let book = AddressBook::new(small());
        let now = Instant::now();
        let [one, two, three] = [1, 2, 3].map(|host| come_in(&book, host, now));
        assert!(one.is_some() && two.is_some() && three.is_some());
        assert!(come_in(&book, 4, now).is_none(), "no page left");
        drop(two);
        assert!(come_in(&book, 4, now).is_none(), "its handshakes are not forgotten yet");
        assert!(come_in(&book, 4, now + Duration::from_secs(3)).is_some());
    }

    #[test]
    fn strangers_are_asked_to_prove_their_address_before_the_house_is_full() {
        let book = AddressBook::new(small());
        let now = Instant::now();
        let _first = come_in(&book, 1, now).unwrap();
        assert!(matches!(book.knock(IpAddr::from([192, 0, 2, 9]), false, now), ConnectionAttempt::ProveAddress));
    }

    #[test]
    fn a_network_counts_once() {
        let v6 = |text: &str| counted_as(text.parse().unwrap());
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::ffff:2"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db8:0:1::1"));
        assert_eq!(v6("::ffff:192.0.2.1"), IpAddr::from([192, 0, 2, 1]));
    }
}
