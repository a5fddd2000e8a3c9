//! Readers at the QUIC door: enrolment, scans, resuming, notices, over a real node.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{House, ask, open, open_with};
use engine::command::{AdminAction, AdminAnswer};
use engine::gates::command::{ByHand, Direction, FIRST_ENTRY, Verdict};
use engine::model::ids::{GateNo, ZoneNo};
use engine::model::rejection::Rejection;
use engine::model::status::{Policy, ScanAck, TicketStatus, ZoneState};
use engine::model::time::Timestamp;
use gateway::quic::{Limits, pinning};
use gateway::server::tls::ServerTls;
use tapgate_client::{ClientError, DeviceKey, Event, Identity, Link, Read, Reader, ReaderOptions, enrol, enrol_key};
use tapgate_wire::{Credential, Frame, Notice, Refusal, Scan};
use tokio::net::UdpSocket;
use tokio::sync::broadcast;

/// Nothing here takes so long; a test that hangs ends.
const AT_MOST: Duration = Duration::from_secs(20);

async fn event(events: &mut broadcast::Receiver<Event>, wanted: impl Fn(&Event) -> bool) -> Event {
    let heard = async {
        loop {
            let event = events.recv().await.expect("not lagging");
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(AT_MOST, heard).await.expect("the event comes")
}

/// Stands between a device and the server, and can lose everything that is sent.
struct Relay {
    addr: SocketAddr,
    loses: Arc<AtomicBool>,
}

impl Relay {
    async fn to(server: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        far.connect(server).await.unwrap();
        let (addr, loses) = (near.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let is_lost = Arc::clone(&loses);
        tokio::spawn(async move {
            let (mut out, mut back) = ([0; 65_536], [0; 65_536]);
            let mut device = None;
            loop {
                tokio::select! {
                    Ok((len, from)) = near.recv_from(&mut out) => {
                        device = Some(from);
                        if !is_lost.load(Ordering::Relaxed) {
                            let _ = far.send(&out[..len]).await;
                        }
                    }
                    Ok(len) = far.recv(&mut back) => {
                        if let Some(device) = device.filter(|_| !is_lost.load(Ordering::Relaxed)) {
                            let _ = near.send_to(&back[..len], device).await;
                        }
                    }
                }
            }
        });
        Self { addr, loses }
    }
}

/// QUIC itself would notice after 30 s, later than any test here waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_gone_is_noticed_while_something_is_unanswered() {
    let house = open().await;
    let relay = Relay::to(house.addr).await;
    let identity = Identity { server: relay.addr.to_string(), ..house.device().await };
    let reader = Reader::connect(identity, ReaderOptions::default()).await.unwrap();
    let mut events = reader.events();
    assert_eq!(reader.scan(house.read(0), Direction::Enter).await.unwrap().answer.verdict, Verdict::Admitted);
    relay.loses.store(true, Ordering::Relaxed);
    let scan = tokio::spawn({
        let (reader, read) = (reader.clone(), house.read(1));
        async move { reader.scan(read, Direction::Enter).await }
    });
    let lost = event(&mut events, |event| matches!(event, Event::Lost(_))).await;
    assert!(matches!(lost, Event::Lost(ClientError::Timeout)), "{lost:?}");
    relay.loses.store(false, Ordering::Relaxed);
    let answered = tokio::time::timeout(AT_MOST, scan).await.expect("is answered").unwrap().unwrap();
    assert_eq!(answered.answer.verdict, Verdict::Admitted);
    reader.close().await;
    house.close().await;
}

/// A name with an address where nobody is: `localhost` is ::1 as well as 127.0.0.1 on most machines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_found_at_whichever_of_its_addresses_answers() {
    let house = open().await;
    let server = format!("localhost:{}", house.addr.port());
    let identity = Identity { server, ..house.device().await };
    let reader = Reader::connect(identity, ReaderOptions::default()).await.expect("connects");
    assert_eq!(reader.scan(house.read(0), Direction::Enter).await.unwrap().answer.verdict, Verdict::Admitted);
    reader.close().await;
    house.close().await;
}

/// Two ways to the server stand for two nodes of a cluster. The one that the device uses falls silent in the middle of a scan
/// and stays so, and so does the other one later, when the first is there again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_knows_several_servers_goes_on_at_another() {
    let house = open().await;
    let ways = [Relay::to(house.addr).await, Relay::to(house.addr).await];
    let server = format!("{},{}", ways[0].addr, ways[1].addr);
    let reader = Reader::connect(Identity { server, ..house.device().await }, ReaderOptions::default()).await.unwrap();
    for (nth, dark) in [(0, 0), (1, 1), (2, 0)] {
        ways[1 - dark].loses.store(false, Ordering::Relaxed);
        ways[dark].loses.store(true, Ordering::Relaxed);
        let scan = tokio::time::timeout(AT_MOST, reader.scan(house.read(nth), Direction::Enter));
        let answered = scan.await.expect("is answered by the other one").unwrap();
        assert_eq!(answered.answer.verdict, Verdict::Admitted, "{nth}");
    }
    reader.close().await;
    house.close().await;
}

/// Revoked by mistake, while a scan was on its way that never arrived. (What was never sent when the server said no is told
/// its caller, and leaves the queue.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_is_readmitted_as_itself_with_its_queue() {
    let house = open().await;
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::to(house.addr).await;
    let identity = Identity { server: relay.addr.to_string(), ..house.device().await };
    let device = identity.device;
    let options = || ReaderOptions::with_queue(&folder.path().join("queue"));
    let reader = Reader::connect(identity.clone(), options()).await.unwrap();
    let mut events = reader.events();
    assert_eq!(reader.scan(house.read(0), Direction::Enter).await.unwrap().answer.verdict, Verdict::Admitted);
    relay.loses.store(true, Ordering::Relaxed);
    let scan = tokio::spawn({
        let (reader, read) = (reader.clone(), house.read(1));
        async move { reader.scan(read, Direction::Enter).await }
    });
    event(&mut events, |event| matches!(event, Event::Lost(_))).await;
    house.revoke(device).await;
    relay.loses.store(false, Ordering::Relaxed);
    let refused = tokio::time::timeout(AT_MOST, scan).await.expect("is told").unwrap().unwrap_err();
    reader.close().await;
    assert_eq!(house.status(1).await, TicketStatus::Sold, "{refused}");
    let readmit = ByHand::ReadmitDevice { device, reason: "it was under the bench".into() };
    assert_eq!(ask(&house.node, AdminAction::ByHand(readmit)).await, AdminAnswer::Done);
    let reader = Reader::connect(identity, options()).await.expect("its key proves it");
    // What was in the queue goes first, and this is answered behind it.
    assert_eq!(reader.scan(house.read(2), Direction::Enter).await.unwrap().answer.verdict, Verdict::Admitted);
    assert_eq!(house.status(1).await, TicketStatus::Used);
    reader.close().await;
    house.close().await;
}

/// The server gets another key. One device has heard of it, and keeps what it is in a file; one has heard of it and forgets
/// that when it is switched off; one was away all the time; one never came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_told_before_it_comes_and_who_missed_that_is_named() {
    let mut house = open().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.json");
    let kept = enrol(&house.offer().await, &path).await.unwrap();
    let (told, away, _never) = (house.device().await, house.device().await, house.device().await);
    for identity in [kept, told.clone(), away.clone()] {
        Reader::connect(identity, ReaderOptions::default()).await.unwrap().close().await;
    }
    let old = house.tls.fingerprint;
    let next = gateway::server::tls::prepare_next(house.data.path()).unwrap();
    house.tls = ServerTls::kept_in(house.data.path()).unwrap();
    house.reopen().await;
    for identity in [Identity::load(&path).unwrap(), told.clone()] {
        let reader = Reader::connect(identity, ReaderOptions::default()).await.unwrap();
        assert_eq!(reader.connected().await.unwrap().next_pin, Some(next));
        reader.close().await;
    }
    let pinning = async |house: &House, want: (usize, usize, usize)| {
        // What devices say is recorded without making them wait.
        let counted = async {
            loop {
                let of = pinning(&house.node, house.tls.fingerprint, house.tls.next).await.unwrap();
                if (of.devices, of.locked_out, of.know_next) == want {
                    return of;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(AT_MOST, counted).await.expect("is counted")
    };
    pinning(&house, (4, 0, 1)).await;

    assert_eq!(gateway::server::tls::switch(house.data.path()).unwrap(), next);
    house.tls = ServerTls::kept_in(house.data.path()).unwrap();
    house.reopen().await;
    // Two that have connected to the old key and kept no other; the one that never came is nobody's guess.
    let locked_out = pinning(&house, (4, 2, 0)).await;
    assert_eq!(locked_out.named, [format!("Reader ({})", told.device), format!("Reader ({})", away.device)]);
    for identity in [told, away.clone()] {
        assert!(matches!(Link::open(None, &identity).await, Err(ClientError::Net(_))), "another key is another server");
    }
    let identity = Identity::load(&path).unwrap();
    assert_eq!((identity.fingerprint, identity.next), (old, Some(next)));
    let reader = Reader::connect(identity, ReaderOptions::default()).await.expect("it has been told");
    assert_eq!(reader.scan(house.read(0), Direction::Enter).await.unwrap().answer.verdict, Verdict::Admitted);
    reader.close().await;
    let identity = Identity::load(&path).unwrap();
    assert_eq!((identity.fingerprint, identity.next), (next, None), "the old key is good no longer");
    // Whoever is revoked is missed by nobody.
    house.revoke(away.device).await;
    pinning(&house, (3, 1, 0)).await;
    house.close().await;
}

async fn reader(house: &House) -> Reader {
    Reader::connect(house.device().await, ReaderOptions::default()).await.expect("connects")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_night_at_the_gate() {
    use Direction::{Enter, Exit};
    use Rejection::{AlreadyUsed, InvalidQr, TamperedQr, UnknownTag};
    let house = open().await;
    let reader = reader(&house).await;
    let welcome = reader.connected().await.unwrap();
    assert_eq!(
        (welcome.festival_name.as_str(), welcome.gate_name.as_str(), welcome.zone_name.as_str()),
        ("Night", "North", "Field")
    );
    let forged = String::from_utf8(house.qr(house.tickets[1])).unwrap().replace("\"version\":1", "\"version\":2");
    let mut undone = None;
    for (what, read, direction, verdict, occupancy) in [
        ("first", house.read(0), Enter, Verdict::Admitted, 1),
        ("the same again", house.read(0), Enter, Verdict::Rejected(AlreadyUsed), 1),
        ("out", house.read(0), Exit, Verdict::Exited, 0),
        ("an advert", Read::Qr(b"https://example.org".to_vec()), Enter, Verdict::Rejected(InvalidQr), 0),
        ("513 bytes", Read::Qr(vec![b'x'; 513]), Enter, Verdict::Rejected(InvalidQr), 0),
        ("5,000 bytes", Read::Qr(vec![b'x'; 5_000]), Enter, Verdict::Rejected(InvalidQr), 0),
        ("not UTF-8", Read::Qr(vec![0xFF, 0xFE, 0x00]), Enter, Verdict::Rejected(InvalidQr), 0),
        ("forged", Read::Qr(forged.into_bytes()), Enter, Verdict::Rejected(TamperedQr), 0),
        (
            "a wristband",
            Read::Tag(engine::model::ids::TagUid::new(&[1, 2, 3, 4]).unwrap()),
            Enter,
            Verdict::Rejected(UnknownTag),
            0,
        ),
        ("another", house.read(1), Enter, Verdict::Admitted, 1),
    ] {
        let answered = reader.scan(read, direction).await.expect(what);
        assert_eq!(answered.answer.verdict, verdict, "{what}");
        if matches!(verdict, Verdict::Admitted | Verdict::Exited) {
            assert_eq!(answered.answer.occupancy, occupancy, "{what}");
        }
        assert!(answered.durable, "{what}");
        match what {
            "first" => assert_eq!(answered.answer.flags, FIRST_ENTRY),
            "the same again" => {
                let first = answered.answer.first_use.expect("says when and where");
                assert_eq!((first.gate, first.zone), (GateNo(0), ZoneNo(0)));
            }
            "another" => undone = Some(answered),
            _ => {}
        }
    }
    let undone = undone.unwrap();
    let undo = reader.undo(undone.seq, undone.answer.ticket.unwrap()).await.unwrap();
    assert_eq!(undo.answer.verdict, Verdict::Undone);
    assert_eq!(house.status(1).await, TicketStatus::Sold);
    let latency = house.server.latency().last(15);
    assert_eq!(latency.count, 11, "each answer was measured");
    assert!(latency.p50_us <= latency.p99_us && latency.p99_us <= latency.max_us);
    reader.close().await;
    assert!(matches!(reader.scan(house.read(2), Enter).await, Err(ClientError::Gone)));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_crowd_streams_and_everybody_is_answered_once() {
    let house = open().await;
    let reader = reader(&house).await;
    let mut stream = reader.stream(64);
    let (mut pushed, mut admitted, mut seen) = (0, 0, vec![0; house.tickets.len()]);
    while admitted < house.tickets.len() {
        while pushed < house.tickets.len() && stream.has_room() {
            assert_eq!(stream.push(house.read(pushed), Direction::Enter).await.unwrap(), pushed as u64);
            pushed += 1;
        }
        let (token, answered) = stream.next().await;
        let answer = answered.unwrap().answer;
        assert_eq!((answer.verdict, answer.ticket), (Verdict::Admitted, Some(house.tickets[token as usize])));
        seen[token as usize] += 1;
        admitted += 1;
    }
    assert!(seen.iter().all(|&times| times == 1));
    house.close().await;
}

fn frame<'a>(seq: u64, floor: u64, qr: &'a [u8]) -> Frame<'a> {
    Frame::Scan(Scan {
        seq,
        floor,
        captured_at: Timestamp(0),
        zone: ZoneNo(0),
        direction: Direction::Enter,
        shown: None,
        resent: false,
        credential: Credential::of_qr(qr),
    })
}

async fn verdicts(link: &mut Link, count: usize) -> Vec<(u64, Verdict)> {
    let mut got = Vec::new();
    let read = async {
        loop {
            link.frames
                .take(|frame| {
                    if let Frame::Answer { seq, answer, .. } = frame {
                        got.push((*seq, answer.verdict));
                    }
                })
                .unwrap();
            if got.len() >= count || !link.frames.fill().await.unwrap() {
                return;
            }
        }
    };
    tokio::time::timeout(AT_MOST, read).await.expect("answers come");
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_number_gets_the_same_answer_and_devices_do_not_share_numbers() {
    let house = open().await;
    let (a, b) = (house.device().await, house.device().await);
    let qr = house.qr(house.tickets[0]);
    let mut link = Link::open(None, &a).await.unwrap();
    link.send.write_all(&frame(7, 7, &qr).to_bytes()).await.unwrap();
    assert_eq!(verdicts(&mut link, 1).await, [(7, Verdict::Admitted)]);
    link.connection.close(0_u32.into(), b"");

    // The answer was lost, for all the device knows.
    let mut link = Link::open(None, &a).await.unwrap();
    assert_eq!(link.welcome.next_seq, 8);
    let mut frames = frame(7, 7, &qr).to_bytes();
    frame(8, 7, &qr).encode(&mut frames);
    // Other content under a number that was used.
    frame(7, 7, &house.qr(house.tickets[1])).encode(&mut frames);
    frame(10 + 4_096, 9, &qr).encode(&mut frames);
    frame(3, 3, &qr).encode(&mut frames);
    link.send.write_all(&frames).await.unwrap();
    let rejected = Verdict::Rejected;
    assert_eq!(
        verdicts(&mut link, 5).await,
        [
            (7, Verdict::Admitted),
            (8, rejected(Rejection::AlreadyUsed)),
            (7, rejected(Rejection::IdempotencyConflict)),
            (10 + 4_096, rejected(Rejection::WindowFull)),
            (3, rejected(Rejection::StaleSeq)),
        ]
    );

    // Another device under the same number: its own command, decided by itself.
    let mut other = Link::open(None, &b).await.unwrap();
    other.send.write_all(&frame(7, 7, &qr).to_bytes()).await.unwrap();
    assert_eq!(verdicts(&mut other, 1).await, [(7, rejected(Rejection::AlreadyUsed))]);
    other.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_told_what_they_did_not_ask() {
    let house = open().await;
    let (staying, leaving) = (reader(&house).await, reader(&house).await);
    let (mut events, mut last_events) = (staying.events(), leaving.events());
    house.zone(ZoneState::Evacuating).await;
    let evacuated =
        |event: &Event| matches!(event, Event::Notice(Notice::Zone { zone: ZoneNo(0), state: ZoneState::Evacuating }));
    event(&mut events, evacuated).await;
    assert_eq!(
        staying.scan(house.read(0), Direction::Enter).await.unwrap().answer.verdict,
        Verdict::Rejected(Rejection::ZoneClosed)
    );
    // Whoever comes later hears it with the welcome.
    let identity = house.device().await;
    let late = Reader::start(identity, ReaderOptions::default()).unwrap();
    let mut late_events = late.events();
    event(&mut late_events, evacuated).await;

    house.revoke(leaving.device()).await;
    event(&mut last_events, |event| matches!(event, Event::Notice(Notice::DeviceRevoked))).await;
    let ended = event(&mut last_events, |event| matches!(event, Event::Ended(_))).await;
    let Event::Ended(ClientError::Refused { refusal, .. }) = ended else { panic!("{ended:?}") };
    assert_eq!(refusal, Refusal::Rejected(Rejection::DeviceRevoked));
    assert!(leaving.scan(house.read(0), Direction::Enter).await.is_err());
    assert!(staying.scan(house.read(0), Direction::Exit).await.is_ok(), "the others go on");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_does_not_come_back() {
    let house = open().await;
    let identity = house.device().await;
    house.revoke(identity.device).await;
    let refused = Link::open(None, &identity).await.err().unwrap();
    let ClientError::Refused { refusal, .. } = refused else { panic!("{refused}") };
    assert_eq!(refusal, Refusal::Rejected(Rejection::DeviceRevoked));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_connection_of_a_device_is_the_one() {
    let house = open().await;
    let identity = house.device().await;
    let older = Reader::connect(identity.clone(), ReaderOptions::default()).await.unwrap();
    let mut events = older.events();
    let newer = Reader::connect(identity, ReaderOptions::default()).await.unwrap();
    let ended = event(&mut events, |event| matches!(event, Event::Ended(_))).await;
    let Event::Ended(ClientError::Refused { refusal, .. }) = ended else { panic!("{ended:?}") };
    assert_eq!(refusal, Refusal::Replaced);
    assert_eq!(newer.scan(house.read(0), Direction::Enter).await.unwrap().answer.verdict, Verdict::Admitted);
    assert_eq!(house.server.devices(), 1);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolment_code_is_good_once_and_its_answer_can_be_asked_for_again() {
    let house = open().await;
    let folder = tempfile::tempdir().unwrap();
    let (offer, path) = (house.offer().await, folder.path().join("identity.json"));
    let identity = enrol(&offer, &path).await.unwrap();
    assert_eq!(Identity::load(&path).unwrap().device, identity.device);
    // The answer was lost: the same key with the same code.
    let again = enrol_key(None, &offer, identity.key.clone()).await.unwrap();
    assert_eq!(again.device, identity.device);
    // Somebody who has seen the code.
    let other = enrol_key(None, &offer, DeviceKey::generate().unwrap()).await.err().unwrap();
    let ClientError::Refused { refusal, .. } = other else { panic!("{other}") };
    assert_eq!(refusal, Refusal::Rejected(Rejection::UnknownCode));
    assert!(Link::open(None, &identity).await.is_ok());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_made_without_a_server_are_answered_after_a_restart_of_the_device() {
    let house = open().await;
    let folder = tempfile::tempdir().unwrap();
    let options = ReaderOptions::with_queue(&folder.path().join("queue"));
    let identity = house.device().await;
    let reader = Reader::connect(identity.clone(), options.clone()).await.unwrap();
    let first = reader.scan(house.read(0), Direction::Enter).await.unwrap();
    reader.close().await;

    // No server there.
    let nowhere = Identity { server: "127.0.0.1:9".into(), ..identity.clone() };
    let offline = Reader::start(nowhere, options.clone()).unwrap();
    for index in 1..4 {
        let waiting = offline.scan(house.read(index), Direction::Enter);
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err(), "nobody answers");
    }
    offline.close().await;
    assert_eq!(house.status(3).await, TicketStatus::Sold);

    // The device is switched on again, in reach.
    let reader = Reader::connect(identity, options).await.unwrap();
    let next = reader.scan(house.read(3), Direction::Enter).await.unwrap();
    assert!(next.seq > first.seq + 3, "no number twice");
    assert_eq!(next.answer.verdict, Verdict::Rejected(Rejection::AlreadyUsed), "the queue came first");
    for index in 1..4 {
        assert_eq!(house.status(index).await, TicketStatus::Used);
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decided_answers_come_first_and_are_confirmed_later() {
    let policy = Policy { ack: ScanAck::Decided, ..Policy::default() };
    let house = open_with(Limits::default(), policy).await;
    let reader = reader(&house).await;
    assert_eq!(reader.connected().await.unwrap().ack, ScanAck::Decided);
    let mut events = reader.events();
    for index in 0..20 {
        let answered = reader.scan(house.read(index), Direction::Enter).await.unwrap();
        assert_eq!(answered.answer.verdict, Verdict::Admitted);
        if !answered.durable {
            event(&mut events, |event| matches!(event, Event::Confirmed(seq) if *seq == answered.seq)).await;
        }
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_sends_too_much_is_slowed_and_loses_nothing() {
    let limits = Limits { frames_per_s: 200, frames_burst: 20, ..Limits::default() };
    let house = open_with(limits, Policy::default()).await;
    let reader = reader(&house).await;
    let mut events = reader.events();
    let mut stream = reader.stream(60);
    for index in 0..60 {
        stream.push(house.read(index), Direction::Enter).await.unwrap();
    }
    for _ in 0..60 {
        let (_, answered) = tokio::time::timeout(AT_MOST, stream.next()).await.unwrap();
        assert_eq!(answered.unwrap().answer.verdict, Verdict::Admitted);
    }
    event(&mut events, |event| matches!(event, Event::Notice(Notice::SlowDown { .. }))).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_says_when_to_come_again() {
    let house = open().await;
    let reader = reader(&house).await;
    let mut events = reader.events();
    reader.scan(house.read(0), Direction::Enter).await.unwrap();
    house.server.stop().await;
    event(&mut events, |event| matches!(event, Event::Notice(Notice::Closing { .. }))).await;
    let lost = event(&mut events, |event| matches!(event, Event::Lost(_))).await;
    let Event::Lost(ClientError::Refused { refusal, retry_after_ms }) = lost else { panic!("{lost:?}") };
    assert_eq!(refusal, Refusal::ShuttingDown);
    assert!(retry_after_ms > 0);
    assert_eq!(house.server.devices(), 0);
    house.close().await;
}

#[test]
fn the_door_runs_on_a_thread_that_hosts_shards() {
    // One thread for everything: nothing in the door may block it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let house = open().await;
        let reader = reader(&house).await;
        assert_eq!(reader.scan(house.read(0), Direction::Enter).await.unwrap().answer.verdict, Verdict::Admitted);
        house.close().await;
    });
}
