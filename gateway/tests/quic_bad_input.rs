//! Whatever somebody sends to the QUIC door: each has its named answer, and nobody else is hurt.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{House, open, open_with};
use engine::gates::command::{Direction, Verdict};
use engine::model::ids::{DeviceId, ZoneNo};
use engine::model::rejection::Rejection;
use engine::model::status::Policy;
use engine::model::time::Timestamp;
use gateway::quic::Limits;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tapgate_client::{ClientError, DeviceKey, Identity, Link, Reader, ReaderOptions, config, endpoint, enrol_key};
use tapgate_wire::{Credential, Fingerprint, Frame, Offer, Refusal, Scan, close, decode, proof};

/// Nothing here takes so long; a test that hangs ends.
const AT_MOST: Duration = Duration::from_secs(20);

/// A stream with no manners.
struct Raw {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
}

impl Raw {
    async fn open(house: &House) -> Self {
        let connection = knock(house).await.expect("connects");
        let (send, recv) = connection.open_bi().await.unwrap();
        Self { connection, send, recv }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.unwrap();
    }

    /// The next frame's bytes.
    async fn frame(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        self.recv.read_exact(&mut bytes).await.unwrap();
        bytes.resize(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])), 0);
        self.recv.read_exact(&mut bytes[4..]).await.unwrap();
        bytes
    }

    async fn challenge(&mut self, device: DeviceId) -> [u8; 32] {
        self.send(&Frame::Hello(device).to_bytes()).await;
        let bytes = self.frame().await;
        match decode(&bytes).unwrap() {
            Some((Frame::Challenge { nonce, .. }, _)) => *nonce,
            other => panic!("{other:?}"),
        }
    }

    fn binding(&self) -> proof::Binding {
        let mut binding = [0; 32];
        self.connection.export_keying_material(&mut binding, proof::EXPORTER_LABEL, b"").unwrap();
        binding
    }

    /// How the server ends it: its last frame, and the code with which it closes.
    async fn ending(mut self) -> (Option<Refusal>, u32) {
        let ending = async {
            let mut bytes = Vec::new();
            let mut chunk = [0; 1_024];
            while let Ok(Some(len)) = self.recv.read(&mut chunk).await {
                bytes.extend_from_slice(&chunk[..len]);
            }
            let mut refusal = None;
            let mut rest = &bytes[..];
            while let Ok(Some((frame, len))) = decode(rest) {
                if let Frame::Refuse { refusal: said, .. } = frame {
                    refusal = Some(said);
                }
                rest = &rest[len..];
            }
            (refusal, code(&self.connection.closed().await))
        };
        tokio::time::timeout(AT_MOST, ending).await.expect("the server ends it")
    }
}

async fn knock(house: &House) -> Result<Connection, ConnectionError> {
    let connecting =
        endpoint(house.addr).unwrap().connect_with(config(house.tls.fingerprint, None), house.addr, "tapgate");
    connecting.unwrap().await
}

fn code(error: &ConnectionError) -> u32 {
    match error {
        ConnectionError::ApplicationClosed(closed) => u64::from(closed.error_code) as u32,
        other => panic!("not closed by the server: {other}"),
    }
}

fn scan(seq: u64, qr: &[u8]) -> Vec<u8> {
    Frame::Scan(Scan {
        seq,
        floor: seq,
        captured_at: Timestamp(0),
        zone: ZoneNo(0),
        direction: Direction::Enter,
        shown: None,
        resent: false,
        credential: Credential::of_qr(qr),
    })
    .to_bytes()
}

/// The door still works.
async fn all_is_well(house: &House, index: usize) {
    let reader = Reader::connect(house.device().await, ReaderOptions::default()).await.unwrap();
    let answered = reader.scan(house.read(index), Direction::Enter).await.unwrap();
    assert_eq!(answered.answer.verdict, Verdict::Admitted);
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_welcome() {
    let house = open().await;
    let device = house.device().await.device;
    let mut other_version = Frame::Hello(device).to_bytes();
    other_version[4] = 9;
    let oversized = [0x01, 0x04, 0x01, 0x00, 0, 0];
    let no_kind = [0x04, 0x00, 0x7F, 0x00];
    let hello = Frame::Hello(device).to_bytes();
    let welcome_like = Frame::Enrolled { device, server_time: Timestamp(0) }.to_bytes();
    for (what, bytes, refusal) in [
        ("another version", other_version.as_slice(), Refusal::BadVersion),
        ("a frame too long", &oversized, Refusal::Malformed),
        ("a frame of no kind", &no_kind, Refusal::Malformed),
        ("cut in mid-frame", &hello[..9], Refusal::Malformed),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", Refusal::Malformed),
        ("a scan before hello", &scan(1, b"x"), Refusal::OutOfPlace),
        ("a proof before hello", &Frame::Proof(&[0; 64]).to_bytes(), Refusal::OutOfPlace),
        ("a server's frame", &welcome_like, Refusal::OutOfPlace),
        ("two hellos", &[hello.clone(), hello.clone()].concat(), Refusal::OutOfPlace),
        ("a scan instead of the proof", &[hello.clone(), scan(1, b"x")].concat(), Refusal::OutOfPlace),
    ] {
        let mut raw = Raw::open(&house).await;
        raw.send(bytes).await;
        raw.send.finish().unwrap();
        assert_eq!(raw.ending().await, (Some(refusal), refusal.close_code()), "{what}");
    }
    let mut reset = Raw::open(&house).await;
    reset.send(&hello[..9]).await;
    reset.send.reset(VarInt::from_u32(0)).unwrap();
    assert_eq!(reset.ending().await.1, close::MALFORMED, "reset in mid-frame");
    all_is_well(&house, 0).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_welcome() {
    let house = open().await;
    let hello = Frame::Hello(DeviceId(1)).to_bytes();
    let cut = scan(2, b"x");
    for (index, (what, bytes, refusal)) in [
        ("a frame too long", &[0x01, 0x04, 0x10, 0x00][..], Refusal::Malformed),
        ("a frame of no kind", &[0x04, 0x00, 0x7F, 0x00], Refusal::Malformed),
        ("cut in mid-frame", &cut[..cut.len() - 1], Refusal::Malformed),
        ("a second hello", &hello, Refusal::OutOfPlace),
        ("a server's frame", &Frame::Confirmed(&[tapgate_wire::SeqRange::new(1, 1)]).to_bytes(), Refusal::OutOfPlace),
    ]
    .into_iter()
    .enumerate()
    {
        let Link { connection, mut send, mut frames, .. } = Link::open(None, &house.device().await).await.unwrap();
        // What was whole before the fault is a scan like any other.
        send.write_all(&[&scan(1, &house.qr(house.tickets[index])), bytes].concat()).await.unwrap();
        send.finish().unwrap();
        let mut refused = None;
        while frames.fill().await.unwrap_or(false) {
            frames
                .take(|frame| {
                    if let Frame::Refuse { refusal, .. } = frame {
                        refused = Some(*refusal);
                    }
                })
                .unwrap();
        }
        assert_eq!(refused, Some(refusal), "{what}");
        assert_eq!(code(&connection.closed().await), refusal.close_code(), "{what}");
    }
    let Link { connection, mut send, .. } = Link::open(None, &house.device().await).await.unwrap();
    send.write_all(&cut[..7]).await.unwrap();
    send.reset(VarInt::from_u32(0)).unwrap();
    assert_eq!(code(&connection.closed().await), close::MALFORMED, "reset in mid-frame");
    all_is_well(&house, 100).await;
    house.close().await;
}

/// A scan with something in it that cannot be is answered, and the next one on the same connection is decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_content_of_a_frame_ends_a_readers_connection() {
    use Rejection::{InvalidQr, InvalidValue, UnknownTicket, UnknownZone};
    let house = open().await;
    let Link { mut send, mut frames, .. } = Link::open(None, &house.device().await).await.unwrap();
    let sound = scan(0, &house.qr(house.tickets[0]));
    let changed = |at: usize, value: u8| {
        let mut bytes = sound.clone();
        bytes[at] = value;
        bytes
    };
    // The version in the ticket's UUID: somebody else's numbers in our layout.
    let foreign = changed(26 + 9, 0x40);
    let undo = |ticket: u128| {
        let mut bytes = vec![38, 0, 0x11, 0];
        bytes.resize(22, 0);
        bytes.extend(ticket.to_le_bytes());
        bytes
    };
    let mut short = sound[..20].to_vec();
    short[0] = 20;
    let mut longest = sound[..26].to_vec();
    longest[25] = 2;
    longest.resize(1_024, b'x');
    longest[..2].copy_from_slice(&1_024_u16.to_le_bytes());
    let cases = [
        ("a packed QR with an id that is not ours", foreign, InvalidQr),
        ("no kind of credential", changed(25, 0), InvalidQr),
        ("a credential of tomorrow", changed(25, 200), InvalidQr),
        ("a wristband of 52 bytes", changed(25, 3), InvalidQr),
        ("a raw QR that was not cut", longest, InvalidQr),
        ("a zone beyond all zones", changed(22, 64), UnknownZone),
        ("neither in nor out", changed(23, 2), InvalidValue),
        ("a verdict that nobody can have shown", changed(24, 199), InvalidValue),
        ("a flag nobody knows", changed(3, 0x80), InvalidValue),
        ("a floor below nothing", changed(13, 0xFF), InvalidValue),
        ("a scan that is cut short", short, InvalidValue),
        ("an undo of somebody else's ticket", undo(7), UnknownTicket),
    ];
    for (seq, (what, mut bytes, rejection)) in (1..).zip(cases) {
        bytes[4..12].copy_from_slice(&u64::to_le_bytes(seq));
        let mut next = scan(100 + seq, &house.qr(house.tickets[seq as usize]));
        next[12] = 99 + seq as u8; // The floor stays at 1: the numbers from there on may come again.
        let mut heard = std::collections::BTreeMap::new();
        // Twice: what comes again gets the same answer.
        for bytes in [[bytes.clone(), next].concat(), bytes] {
            send.write_all(&bytes).await.unwrap();
        }
        let mut answers = 0;
        while answers < 3 {
            assert!(frames.fill().await.unwrap(), "{what}: the connection stands");
            let each = |frame: &Frame<'_>| match *frame {
                Frame::Answer { seq, answer, durable } => {
                    assert!(durable);
                    answers += 1;
                    let before = heard.insert(seq, answer.verdict);
                    assert!(before.is_none_or(|before| before == answer.verdict), "{what}");
                }
                other => panic!("{what}: {other:?}"),
            };
            frames.take(each).unwrap();
        }
        assert_eq!(heard[&seq], Verdict::Rejected(rejection), "{what}");
        assert_eq!(heard[&(100 + seq)], Verdict::Admitted, "after {what}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_that_prove_nothing() {
    let house = open().await;
    let identity = house.device().await;
    let device = identity.device;

    // Somebody has recorded a whole good handshake.
    let mut recorded = Raw::open(&house).await;
    let nonce = recorded.challenge(device).await;
    let signature = identity.key.sign(&proof::message(&nonce, device, &recorded.binding())).unwrap();
    recorded.send(&Frame::Proof(&signature).to_bytes()).await;
    assert!(matches!(decode(&recorded.frame().await), Ok(Some((Frame::Welcome(_), _)))), "the recorded one was good");

    let bad = (Some(Refusal::BadProof), close::AUTH_FAILED);
    let mut replayed = Raw::open(&house).await;
    let fresh = replayed.challenge(device).await;
    assert_ne!(fresh, nonce);
    replayed.send(&Frame::Proof(&signature).to_bytes()).await;
    assert_eq!(replayed.ending().await, bad, "a replayed hello and proof");

    let mut forged = Raw::open(&house).await;
    let nonce = forged.challenge(device).await;
    let other = DeviceKey::generate().unwrap();
    let signature = other.sign(&proof::message(&nonce, device, &forged.binding())).unwrap();
    forged.send(&Frame::Proof(&signature).to_bytes()).await;
    assert_eq!(forged.ending().await, bad, "another key");

    // A server in between hands the real server's nonce to the device, and the device's proof to the real server.
    let (mut relayed, middle) = (Raw::open(&house).await, Raw::open(&house).await);
    let nonce = relayed.challenge(device).await;
    let signature = identity.key.sign(&proof::message(&nonce, device, &middle.binding())).unwrap();
    relayed.send(&Frame::Proof(&signature).to_bytes()).await;
    assert_eq!(relayed.ending().await, bad, "a relayed proof");

    // A device that is enrolled cannot speak for another.
    let mut other_device = Raw::open(&house).await;
    let victim = house.device().await.device;
    let nonce = other_device.challenge(victim).await;
    let signature = identity.key.sign(&proof::message(&nonce, victim, &other_device.binding())).unwrap();
    other_device.send(&Frame::Proof(&signature).to_bytes()).await;
    assert_eq!(other_device.ending().await, bad, "another device's name");

    for unknown in [DeviceId::new(house.festival, 4_000), DeviceId(u64::MAX)] {
        let stranger = Identity { device: unknown, ..identity.clone() };
        let refused = Link::open(None, &stranger).await.err().unwrap();
        let ClientError::Refused { refusal, .. } = refused else { panic!("{refused}") };
        assert_eq!(refusal, Refusal::Rejected(Rejection::UnknownDevice));
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_and_another_certificate() {
    let house = open().await;
    let mut crypto = tapgate_client::pinned(house.tls.fingerprint, None);
    crypto.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint(house.addr).unwrap().connect_with(config, house.addr, "tapgate").unwrap();
    match connecting.await.unwrap_err() {
        // TLS's own no_application_protocol: alert 120.
        ConnectionError::ConnectionClosed(closed) => assert_eq!(u64::from(closed.error_code), 0x100 + 120),
        other => panic!("{other}"),
    }

    let offer = house.offer().await;
    let elsewhere = Offer::new(offer.server(), Fingerprint([1; 32]), offer.festival(), offer.code()).unwrap();
    let refused = enrol_key(None, &elsewhere, DeviceKey::generate().unwrap()).await.err().unwrap();
    assert!(matches!(refused, ClientError::Net(_)), "a device shows its code to nobody else: {refused}");
    assert!(enrol_key(None, &offer, DeviceKey::generate().unwrap()).await.is_ok(), "the code is still good");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_silent_and_the_slow_are_dropped() {
    let limits = Limits {
        hello_timeout: Duration::from_millis(300),
        write_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let house = open_with(limits, Policy::default()).await;

    let silent = knock(&house).await.unwrap();
    assert_eq!(code(&silent.closed().await), close::TOO_SLOW, "opens no stream");
    let mut half = Raw::open(&house).await;
    half.send(&Frame::Hello(DeviceId(1)).to_bytes()[..5]).await;
    assert_eq!(half.ending().await, (Some(Refusal::TooSlow), close::TOO_SLOW), "half a hello");
    let mut unproven = Raw::open(&house).await;
    unproven.challenge(DeviceId(1)).await;
    assert_eq!(unproven.ending().await, (Some(Refusal::TooSlow), close::TOO_SLOW), "no proof");

    // Scans without end, and never a look at the answers: 256 KiB of them fill what QUIC holds for the device.
    let Link { connection, mut send, frames, .. } = Link::open(None, &house.device().await).await.unwrap();
    let flood = async {
        for seq in 1.. {
            if send.write_all(&scan(seq, b"an advert")).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(AT_MOST, flood).await.expect("ends");
    assert_eq!(code(&connection.closed().await), close::TOO_SLOW, "reads nothing");
    drop(frames);
    all_is_well(&house, 0).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_allowed() {
    let limits = Limits { unproven_per_address_max: 2, devices_per_address_max: 2, ..Limits::default() };
    let house = open_with(limits, Policy::default()).await;
    let identities = [house.device().await, house.device().await, house.device().await];
    let links = (Link::open(None, &identities[0]).await.unwrap(), Link::open(None, &identities[1]).await.unwrap());
    let refused = Link::open(None, &identities[2]).await.err().unwrap();
    assert!(matches!(refused, ClientError::Net(_)), "a third device from one address: {refused}");
    links.0.close().await;
    let third = tokio::time::timeout(AT_MOST, async {
        loop {
            if let Ok(link) = Link::open(None, &identities[2]).await {
                return link;
            }
        }
    });
    let third = third.await.expect("one that goes makes room");
    third.close().await;
    links.1.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_that_are_only_held_are_given_to_who_comes_after() {
    let limits = Limits { unproven_per_address_max: 2, hello_timeout: Duration::from_secs(60), ..Limits::default() };
    let house = open_with(limits, Policy::default()).await;
    let identity = house.device().await;
    let silent = (knock(&house).await.unwrap(), knock(&house).await.unwrap());
    let link = Link::open(None, &identity).await.expect("a device behind the same address");
    assert_eq!(code(&silent.0.closed().await), close::LIMITS, "the one that has been silent for longest");
    assert!(silent.1.close_reason().is_none(), "and no other");
    link.close().await;
    house.close().await;
}

/// What the server says to a wrong code, or to an id that nobody has: its code, and whether it says when to come again.
fn refusal_of(refused: ClientError) -> (&'static str, bool) {
    match refused {
        ClientError::Refused { refusal: Refusal::Rejected(rejection), retry_after_ms } => {
            (rejection.code(), retry_after_ms > 0)
        }
        ClientError::Refused { refusal: Refusal::TooMany, retry_after_ms } => ("too_many", retry_after_ms > 0),
        ClientError::Refused { refusal: Refusal::BadProof, retry_after_ms } => ("bad_proof", retry_after_ms > 0),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_others_are_nobody_elses() {
    let limits = Limits { failures_burst: 3, failure_refill: Duration::from_secs(3_600), ..Limits::default() };
    let house = open_with(limits, Policy::default()).await;
    let identity = house.device().await;
    let offer = house.offer().await;
    let guess = |code: &str| Offer::new(offer.server(), offer.fingerprint(), offer.festival(), code).unwrap();
    let enrol = async |code: &str, key: &DeviceKey| enrol_key(None, &guess(code), key.clone()).await;

    // Guessing: each code and each key is a new one, so it is the address that is told to wait.
    let mut answers = Vec::new();
    for n in 0..5 {
        let key = DeviceKey::generate().unwrap();
        answers.push(refusal_of(enrol(&format!("GUESS-{n}"), &key).await.err().unwrap()));
    }
    let (unknown, wait) = (("unknown_code", false), ("too_many", true));
    assert_eq!(answers, [unknown, unknown, unknown, wait, wait]);
    let stranger = Identity { device: DeviceId::new(house.festival, 4_000), ..identity.clone() };
    assert_eq!(
        refusal_of(Link::open(None, &stranger).await.err().unwrap()),
        wait,
        "nor is an id that nobody has looked at"
    );

    // Behind the same address: who is enrolled comes and goes, and a good code is good.
    for _ in 0..3 {
        Link::open(None, &identity).await.expect("a right proof always gets in").close().await;
    }
    let fresh = enrol_key(None, &offer, DeviceKey::generate().unwrap()).await.expect("so does a right code");
    Link::open(None, &fresh).await.expect("as a device from now on").close().await;
    let taken = DeviceKey::generate().unwrap();
    assert_eq!(refusal_of(enrol(offer.code(), &taken).await.err().unwrap()), wait, "a code that another key has used");

    // In a device's name, with another key: the device itself is not hurt.
    let impostor = Identity { key: DeviceKey::generate().unwrap(), ..identity.clone() };
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(refusal_of(Link::open(None, &impostor).await.err().unwrap()));
    }
    let bad = ("bad_proof", false);
    assert_eq!(answers, [bad, bad, bad, wait]);
    Link::open(None, &identity).await.expect("a right proof always gets in").close().await;
    all_is_well(&house, 0).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_in_mid_stream() {
    let house = open().await;
    let identity = house.device().await;
    let Link { connection, mut send, mut frames, .. } = Link::open(None, &identity).await.unwrap();
    let (device, qr) = (identity.device, house.qr(house.tickets[0]));
    let streaming = tokio::spawn(async move {
        for seq in 1.. {
            if send.write_all(&scan(seq, &qr)).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    let (mut answers, mut last_word) = (0, None);
    let mut revoked = false;
    while frames.fill().await.unwrap_or(false) {
        frames
            .take(|frame| match frame {
                Frame::Answer { .. } => answers += 1,
                Frame::Refuse { refusal, .. } => last_word = Some(*refusal),
                _ => {}
            })
            .unwrap();
        if answers > 0 && !revoked {
            revoked = true;
            house.revoke(device).await;
        }
    }
    assert_eq!(last_word, Some(Refusal::Rejected(Rejection::DeviceRevoked)));
    assert_eq!(code(&connection.closed().await), close::REVOKED);
    streaming.await.unwrap();
    assert!(Link::open(None, &identity).await.is_err());
    all_is_well(&house, 1).await;
    house.close().await;
}
