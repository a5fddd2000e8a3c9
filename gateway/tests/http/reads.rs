//! What follows the journal, as the API shows it. The read models here are a few rows in memory.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use engine::gates::command::{CONFLICT, Direction, FIRST_ENTRY, FirstUse, Verdict};
use engine::model::ids::{DeviceId, FestivalId, GateNo, TicketId, ZoneNo};
use engine::model::rejection::Rejection;
use engine::model::status::{Role, TicketStatus};
use engine::model::time::Timestamp;
use futures_util::{StreamExt, stream};
use gateway::http::kit::routes::Routes;
use gateway::http::{Limits, app};
use gateway::read_models::{Condition, ReadError, ReadModels, State};
use serde_json::{Value, json};
use storage::views::cashless::CashlessViews;
use storage::views::gates::{
    AccessEntry, AccessLog, CountPosition, CountRow, Counts, GateViews, LogPosition, Tally, TicketRow, Tickets,
};
use storage::views::{Page, ViewsError};

use crate::house::{House, fresh};

/// Seven scans of one ticket, five tickets, three minutes.
struct Few;

const AT: i64 = 1_815_760_000_000;

fn own() -> FestivalId {
    FestivalId::of_slug("own")
}
fn ticket(serial: u32) -> TicketId {
    TicketId::new(own(), engine::model::ids::CategoryNo(0), serial, 7)
}

impl ReadModels for Few {
    fn gates(&self) -> Result<Arc<dyn GateViews>, ReadError> {
        Ok(Arc::new(Self))
    }
    fn cashless(&self) -> Result<Arc<dyn CashlessViews>, ReadError> {
        Err(ReadError::Rebuilding)
    }

    fn suspect(&self) {}
    fn condition(&self) -> Condition {
        Condition { state: State::Following, lag_records: 7 }
    }
}

impl GateViews for Few {
    fn access_log(&self, of: AccessLog, page: Page<LogPosition>) -> Result<Vec<AccessEntry>, ViewsError> {
        let span = match of {
            AccessLog::Zone(festival, ZoneNo(0), span) if festival == own() => span,
            AccessLog::Device(device, span) if device == DeviceId::new(own(), 3) => span,
            AccessLog::Ticket(of, span) if of == ticket(0) => span,
            _ => return Ok(vec![]),
        };
        let first = FirstUse { at: Timestamp(AT), zone: ZoneNo(0), gate: GateNo(0) };
        let rows = (0..7).map(|order| AccessEntry {
            position: LogPosition { at: Timestamp(AT + 60_000 * (order as i64 / 2)), order },
            ticket: Some(ticket(0)),
            festival: own(),
            occupancy: 1,
            zone: ZoneNo(0),
            gate: GateNo(1),
            device: (order != 6).then_some(DeviceId::new(own(), 3)),
            direction: (order != 6).then_some(if order == 5 { Direction::Exit } else { Direction::Enter }),
            verdict: match order {
                0 => Verdict::Admitted,
                5 => Verdict::Exited,
                6 => Verdict::Undone,
                _ => Verdict::Rejected(Rejection::AlreadyUsed),
            },
            flags: match order {
                0 => FIRST_ENTRY,
                1 => CONFLICT,
                _ => 0,
            },
            first_use: (1..5).contains(&order).then_some(first),
            captured_at: Timestamp(AT - 90_000),
            taken_at: Timestamp(if order == 2 { AT - 60_000 } else { AT + 60_000 * (order as i64 / 2) }),
            instead_of: None,
        });
        Ok(rows
            .filter(|row| (span.from..span.until).contains(&row.position.at))
            .filter(|row| page.after.is_none_or(|after| row.position > after))
            .take(page.limit)
            .collect())
    }

    fn tickets(&self, of: Tickets, page: Page<TicketId>) -> Result<Vec<TicketRow>, ViewsError> {
        if of.status == Some(TicketStatus::Cancelled) {
            return Err(ViewsError::Damaged("/var/secret/path".into()));
        }
        let rows = (0..5).map(|serial| TicketRow {
            ticket: ticket(serial),
            status: TicketStatus::Sold,
            blocked: serial == 1,
            holder: (serial == 2).then_some(0xAB),
        });
        Ok(rows
            .filter(|row| of.holder.is_none_or(|holder| row.holder == Some(holder)))
            .filter(|row| page.after.is_none_or(|after| row.ticket > after))
            .take(page.limit)
            .collect())
    }

    fn counts(&self, of: Counts, page: Page<CountPosition>) -> Result<Vec<CountRow>, ViewsError> {
        // The gate's readers have named another zone as well.
        let position = |minute: i64, zone| CountPosition {
            minute: Timestamp(AT + 60_000 * minute),
            gate: GateNo(1),
            zone: ZoneNo(zone),
        };
        let rows = (0..3).flat_map(|minute| {
            let mut here = Tally::default();
            (0..10).for_each(|_| here.add(Verdict::Admitted));
            (0..3).for_each(|_| here.add(Verdict::Exited));
            here.take_back(Direction::Exit);
            let mut elsewhere = Tally::default();
            (0..minute).for_each(|_| elsewhere.add(Verdict::Rejected(Rejection::WrongGate)));
            [(0, here), (3, elsewhere)].map(|(zone, tally)| CountRow { position: position(minute, zone), tally })
        });
        Ok(rows
            .filter(|row| (of.span.from..of.span.until).contains(&row.position.minute))
            .filter(|row| page.after.is_none_or(|after| row.position > after))
            .take(page.limit)
            .collect())
    }
}

/// All pages of a list, three rows each.
async fn all(house: &House, key: &str, path: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let sign = if path.contains('?') { '&' } else { '?' };
        let page = house.get(key, &format!("{path}{sign}limit=3{cursor}")).await.is(200, "").json();
        rows.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

#[tokio::test]
async fn why_was_she_refused() {
    let house = House::with(Some(Arc::new(Few))).await;
    house.festival("own", 10).await;
    let security = house.key(Role::Security, &["own"]).await;
    let history = all(&house, &security, &format!("/tickets/{}/history", ticket(0))).await;
    assert_eq!(history.len(), 7);
    assert_eq!(
        history[1],
        json!({
            "at": "2027-07-16T17:46:40Z", "capturedAt": "2027-07-16T17:45:10Z", "late": false,
            "countedAt": "2027-07-16T17:46:40Z", "ticketId": ticket(0).to_string(), "zone": 0, "gate": 1,
            "deviceId": DeviceId::new(own(), 3).to_string(), "direction": "ENTER", "outcome": "REJECTED",
            "code": "already_used", "say": "This ticket has been used already.",
            "firstEntry": false, "wasNotInside": false, "conflict": true,
            "byHand": false, "insteadOf": null,
            "firstUse": {"at": "2027-07-16T17:46:40Z", "zone": 0, "gate": 0},
        })
    );
    assert_eq!((&history[2]["late"], &history[2]["countedAt"]), (&json!(true), &json!("2027-07-16T17:45:40Z")));
    let outcomes: Vec<_> = history.iter().map(|entry| entry["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["ADMITTED", "REJECTED", "REJECTED", "REJECTED", "REJECTED", "EXITED", "UNDONE"]);
    assert_eq!((&history[0]["firstEntry"], &history[6]["deviceId"]), (&json!(true), &Value::Null));

    assert_eq!(all(&house, &security, "/festivals/own/access-log?zone=0").await, history);
    let by_device = format!("/festivals/own/access-log?device={}", DeviceId::new(own(), 3));
    assert_eq!(all(&house, &security, &by_device).await, history);
    let minute = "/festivals/own/access-log?zone=0&from=2027-07-16T17:47:40Z&to=2027-07-16T17:48:40Z";
    assert_eq!(all(&house, &security, minute).await, history[2..4]);
    for bad in
        ["", "?zone=0&device=x-1", "?zone=0&from=2027-07-16T17:47:40Z&to=2027-07-16T17:47:40Z", "?zone=0&from=now"]
    {
        house.get(&security, &format!("/festivals/own/access-log{bad}")).await.is(400, "invalid_query");
    }
    house.stop().await;
}

#[tokio::test]
async fn lists_by_page_and_what_a_rebuild_says() {
    let house = House::with(Some(Arc::new(Few))).await;
    house.festival("own", 10).await;
    let staff = house.key(Role::Staff, &["own"]).await;
    let tickets = all(&house, &staff, "/festivals/own/tickets").await;
    let ids: Vec<_> = tickets.iter().map(|ticket| ticket["ticketId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..5).map(|serial| ticket(serial).to_string()).collect::<Vec<_>>(), "each once, in order");
    let holder = "00000000-0000-0000-0000-0000000000ab";
    let hers = all(&house, &staff, &format!("/festivals/own/tickets?holder={holder}&status=SOLD&category=0")).await;
    assert_eq!((hers.len(), &hers[0]["holder"]), (1, &json!(holder)));
    let counts = all(&house, &staff, "/festivals/own/counts?from=2027-07-16T17:47:00Z").await;
    assert_eq!(counts.len(), 2);
    assert_eq!(
        counts[0],
        json!({"minute": "2027-07-16T17:47:40Z", "gate": 1, "admitted": 10, "exited": 2, "undone": 1, "rejected": 1})
    );
    house.get(&staff, "/festivals/own/tickets?status=sold").await.is(400, "invalid_query");
    house.get(&staff, "/festivals/own/tickets?holder=me").await.is(400, "invalid_query");
    let failed = house.get(&staff, "/festivals/own/tickets?status=CANCELLED").await;
    assert!(!failed.is(503, "read_models_unavailable").text.contains("secret"), "what is on disk is nobody's business");
    house.stop().await;

    let house = House::with(Some(Arc::new(Anew))).await;
    let admin = house.festival("own", 10).await;
    let rebuilding = house.get(&admin, "/festivals/own/tickets").await;
    assert!(rebuilding.is(503, "read_models_unavailable").headers.contains_key("retry-after"));
    house.stop().await;
}

/// Read models that are being rebuilt.
struct Anew;

impl ReadModels for Anew {
    fn gates(&self) -> Result<Arc<dyn GateViews>, ReadError> {
        Err(ReadError::Rebuilding)
    }
    fn cashless(&self) -> Result<Arc<dyn CashlessViews>, ReadError> {
        Err(ReadError::Rebuilding)
    }
    fn suspect(&self) {}
    fn condition(&self) -> Condition {
        Condition { state: State::Rebuilding, lag_records: 1 }
    }
}

/// Read models on a disk that has gone to sleep: they answer once they are let go.
#[derive(Clone)]
struct Asleep(Arc<Mutex<Receiver<()>>>);

impl GateViews for Asleep {
    fn access_log(&self, _: AccessLog, _: Page<LogPosition>) -> Result<Vec<AccessEntry>, ViewsError> {
        Ok(vec![])
    }
    fn tickets(&self, _: Tickets, _: Page<TicketId>) -> Result<Vec<TicketRow>, ViewsError> {
        Ok(vec![])
    }
    fn counts(&self, _: Counts, _: Page<CountPosition>) -> Result<Vec<CountRow>, ViewsError> {
        let _ = self.0.lock().unwrap().recv();
        Ok(vec![])
    }
}

impl ReadModels for Asleep {
    fn gates(&self) -> Result<Arc<dyn GateViews>, ReadError> {
        Ok(Arc::new(self.clone()))
    }
    fn cashless(&self) -> Result<Arc<dyn CashlessViews>, ReadError> {
        Err(ReadError::Rebuilding)
    }
    fn suspect(&self) {}
    fn condition(&self) -> Condition {
        Condition { state: State::Following, lag_records: 0 }
    }
}

/// Whoever asks is told in time that there is no answer yet; what may take long, may.
#[tokio::test]
async fn an_answer_that_takes_too_long_is_not_waited_for() {
    let (let_go, wait) = channel();
    let mut house = House::with(Some(Arc::new(Asleep(Arc::new(Mutex::new(wait)))))).await;
    let admin = house.festival("own", 10).await;
    let answer_within = Duration::from_millis(100);
    let limits = Limits { requests_per_s: None, answer_within, ..Limits::default() };
    (house.router, _) = app(house.state.clone(), Routes::new(), limits);
    let began = Instant::now();
    let late = house.get(&admin, "/festivals/own/counts");
    let late = tokio::time::timeout(answer_within * 100, late).await.expect("an answer");
    assert_eq!(late.is(503, "timeout").headers["retry-after"], "5");
    assert!(began.elapsed() >= answer_within, "not before its time");
    house.get(&admin, "/festivals/own/tickets").await.is(200, "");

    let lines = ["{\"category\":0,\"paid\":true}\n"; 3].map(|line| Ok::<_, Infallible>(Bytes::from(line)));
    let slowly = stream::iter(lines).then(move |line| async move {
        tokio::time::sleep(answer_within).await;
        line
    });
    let issued = house.bulk(&admin, "own", &fresh(), Body::from_stream(Box::pin(slowly))).await;
    assert_eq!(issued.is(200, "").headers["tapgate-issued"], "3", "a bulk call takes its time");
    drop(let_go);
    house.stop().await;
}
