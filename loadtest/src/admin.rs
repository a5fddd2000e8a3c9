//! The operator's side over the real HTTP API: makes a festival, issues its tickets, offers readers their places,
//! reads the counters. One small blocking client, one connection a call.

pub mod bar;
pub mod replay;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use engine::model::credential;
use engine::model::credential::QrClaim;
use engine::model::ids::{FestivalId, ZoneNo};
use engine::model::status::ScanAck;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::link::{Offer, Target};

/// The most tickets in one call.
const ISSUE_MAX: usize = 100_000;
/// How long one call may take: 100,000 tickets take a few seconds.
const CALL_WITHIN: Duration = Duration::from_secs(120);
/// How often a call is made again when the server says that there are too many.
const TRIES_MAX: u32 = 600;

/// An operator with a key.
pub struct Admin {
    doors: Doors,
    /// Which of them is asked: the next one, once one has failed.
    at: AtomicUsize,
    key: String,
    /// Makes this operator's idempotency keys different from any other's.
    run: u64,
    calls: AtomicU64,
}

/// Where a server, or each node of a cluster, is reached.
#[derive(Clone, Debug)]
pub struct Doors {
    /// By people and programs, at least one.
    pub http: Arc<[SocketAddr]>,
    /// By devices; none: where the offers say.
    pub quic: Arc<[SocketAddr]>,
}

/// A festival that was made for a load test: one gate, into one perimeter that holds everybody.
#[derive(Clone, Debug)]
pub struct Festival {
    /// Its name in addresses.
    pub slug: String,
    pub id: FestivalId,
    /// The perimeter.
    pub zone: ZoneNo,
    gate: u16,
    /// Tickets that are good there.
    pub good: Vec<QrClaim>,
    /// Tickets for elsewhere.
    pub strangers: Vec<QrClaim>,
}

/// The perimeter's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Counts {
    /// How many are inside.
    pub occupancy: u64,
    /// Entries ever.
    pub admitted: u64,
    /// Exits ever.
    pub left: u64,
}

struct Answer {
    status: u16,
    retry_after: Option<u64>,
    body: Vec<u8>,
}

impl Admin {
    /// At this HTTP door, with this API key.
    pub fn new(http: SocketAddr, key: String) -> Self {
        Self::at(Doors { http: [http].into(), quic: [].into() }, key)
    }

    /// At any of these nodes.
    pub fn at(doors: Doors, key: String) -> Self {
        let mut run = [0; 8];
        // Without randomness runs on one server would collide, and be told so.
        let _ = aws_lc_rs::rand::fill(&mut run);
        Self { doors, at: AtomicUsize::new(0), key, run: u64::from_le_bytes(run), calls: AtomicU64::new(0) }
    }

    /// Somebody else with the same key: no attempt of theirs is one of ours.
    pub fn another(&self) -> Self {
        Self::at(self.doors.clone(), self.key.clone())
    }

    /// The same operator at any of these nodes.
    pub fn of_all(self, doors: Doors) -> Self {
        Self { doors, ..self }
    }

    fn door(&self) -> SocketAddr {
        self.doors.http[self.at.load(Ordering::Relaxed) % self.doors.http.len()]
    }

    /// From now on another node is asked, if there is one.
    fn next_door(&self) {
        self.at.fetch_add(1, Ordering::Relaxed);
    }

    /// The server takes calls, and all its shards serve.
    pub fn is_ready(&self) -> bool {
        self.once("GET", "/readyz", None, "", Duration::from_secs(1)).is_ok_and(|answer| answer.status == 200)
    }

    /// Makes a festival that is under way, with so many good tickets and so many for elsewhere.
    ///
    /// # Errors
    /// The server refuses, in its own words.
    pub fn make_festival(&self, good: usize, strangers: usize, ack: ScanAck) -> anyhow::Result<Festival> {
        let slug = format!("load-{:016x}", self.run);
        let (from, until) = ("2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
        let policy = json!({ "entry": "reentry", "ack": ack.word() });
        let festival =
            json!({ "slug": slug, "name": "Load test", "startsAt": from, "endsAt": until, "policy": policy });
        self.post("/festivals", &festival)?;
        let at = |what: &str| format!("/festivals/{slug}/{what}");
        let mut zones = Vec::new();
        for (name, holds) in [("Main area", good), ("Elsewhere", strangers)] {
            let made = self.post(&at("zones"), &json!({ "name": name, "capacity": holds.max(1) }))?;
            zones.push(made["zone"].as_u64().context("a zone has a number")?);
        }
        let gate = self.post(&at("gates"), &json!({ "name": "North", "zone": zones[0] }))?;
        let mut categories = Vec::new();
        for (zone, name, quota) in [(zones[0], "Weekend", good), (zones[1], "Elsewhere", strangers)] {
            let price = json!({ "amount": "89.00", "currency": "EUR" });
            let made = self.post(
                &at("categories"),
                &json!({ "name": name, "kind": "STANDARD", "price": price, "quota": quota.max(1), "zones": [zone],
                    "validFrom": from, "validUntil": until }),
            )?;
            categories.push(made["category"].as_u64().context("a category has a number")?);
        }
        for status in ["PUBLISHED", "ONGOING"] {
            self.post(&at("status"), &json!({ "status": status }))?;
        }
        Ok(Festival {
            id: FestivalId::of_slug(&slug),
            zone: ZoneNo(u8::try_from(zones[0])?),
            gate: u16::try_from(gate["gate"].as_u64().context("a gate has a number")?)?,
            good: self.issue(&slug, categories[0], good)?,
            strangers: self.issue(&slug, categories[1], strangers)?,
            slug,
        })
    }

    fn issue(&self, slug: &str, category: u64, count: usize) -> anyhow::Result<Vec<QrClaim>> {
        #[derive(Deserialize)]
        struct Line {
            qr: Option<String>,
            error: Option<Value>,
        }
        let mut claims = Vec::with_capacity(count);
        while claims.len() < count {
            let line = format!("{}\n", json!({ "category": category, "paid": true }));
            let body = line.repeat((count - claims.len()).min(ISSUE_MAX));
            let path = format!("/api/v1/festivals/{slug}/tickets");
            let answer = self.call("POST", &path, Some("application/x-ndjson"), &body)?;
            for line in answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let Line { qr, error } = serde_json::from_slice(line).context("a line of issued tickets")?;
                let qr = qr.with_context(|| format!("no ticket was issued: {error:?}"))?;
                let claim = credential::parse(qr.as_bytes());
                claims.push(claim.map_err(|rejection| anyhow::anyhow!("the QR {qr} is {}", rejection.code()))?);
            }
        }
        Ok(claims)
    }

    /// A place for one more reader, and where to take it up.
    ///
    /// # Errors
    /// The server refuses, or shows itself elsewhere than on this machine.
    pub fn offer(&self, festival: &Festival, name: &str) -> anyhow::Result<(Offer, Target)> {
        let path = format!("/festivals/{}/devices/enrolment-codes", festival.slug);
        let made = self.post(&path, &json!({ "gate": festival.gate, "name": name }))?;
        self.read_offer(festival.id, &made)
    }

    fn read_offer(&self, festival: FestivalId, made: &Value) -> anyhow::Result<(Offer, Target)> {
        let text =
            |field: &str| made[field].as_str().map(str::to_owned).with_context(|| format!("an offer has a {field}"));
        let shown: tapgate_wire::Offer = text("offer")?.parse().context("the offer as readers read it")?;
        // What is advertised may be this machine's name as others know it; the load stays on the loopback all the same.
        let (_, port) = shown.server().rsplit_once(':').context("an offer has a port")?;
        let addresses = match &*self.doors.quic {
            [] => [SocketAddr::new(self.door().ip(), port.parse()?)].into(),
            _ => Arc::clone(&self.doors.quic),
        };
        let offer = Offer { festival, code: shown.code().to_owned() };
        Ok((offer, Target { addresses, fingerprint: shown.fingerprint() }))
    }

    /// The perimeter's counters now, and the conflicts that are listed for a supervisor.
    ///
    /// # Errors
    /// The server refuses.
    pub fn counts(&self, festival: &Festival) -> anyhow::Result<(Counts, u64)> {
        let body = self.call("GET", &format!("/api/v1/festivals/{}/live", festival.slug), None, "")?;
        let live: Value = serde_json::from_slice(&body)?;
        let zones = live["zones"].as_array().context("live counts have zones")?;
        let ours = zones.iter().find(|zone| zone["zone"] == festival.zone.0).context("live counts have our zone")?;
        Ok((Counts::deserialize(ours)?, live["conflicts"].as_u64().context("live counts have conflicts")?))
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send("POST", path, body)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.call(method, &format!("/api/v1{path}"), Some("application/json"), &body.to_string())?;
        if answer.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&answer)?) }
    }

    fn call(&self, method: &str, path: &str, media: Option<&str>, body: &str) -> anyhow::Result<Vec<u8>> {
        // One key, whatever becomes of the tries: what was done is not done again.
        let key = self.fresh_key();
        for _ in 0..TRIES_MAX {
            let answer = self
                .once_as(&key, method, path, media, body, CALL_WITHIN)
                .with_context(|| format!("{method} {path}"))?;
            match answer.status {
                200..=299 => return Ok(answer.body),
                429 | 503 => std::thread::sleep(Duration::from_secs(answer.retry_after.unwrap_or(1).clamp(1, 10))),
                status => bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&answer.body)),
            }
        }
        bail!("{method} {path}: the server has no time for this address")
    }

    fn once(
        &self,
        method: &str,
        path: &str,
        media: Option<&str>,
        body: &str,
        within: Duration,
    ) -> anyhow::Result<Answer> {
        self.once_as(&self.fresh_key(), method, path, media, body, within)
    }

    /// A key that no attempt of anybody has had.
    fn fresh_key(&self) -> String {
        format!("{:016x}-{}", self.run, self.calls.fetch_add(1, Ordering::Relaxed))
    }

    fn once_as(
        &self,
        key: &str,
        method: &str,
        path: &str,
        media: Option<&str>,
        body: &str,
        within: Duration,
    ) -> anyhow::Result<Answer> {
        let door = self.door();
        let mut stream = TcpStream::connect_timeout(&door, within.min(Duration::from_secs(5)))?;
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        let media = media.map(|media| format!("Content-Type: {media}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Idempotency-Key: {key}\r\n{media}Content-Length: {}\r\n\r\n",
            door,
            self.key,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        parse(&answer)
    }
}

/// Takes an HTTP/1.1 answer apart that ended with its connection.
fn parse(answer: &[u8]) -> anyhow::Result<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("an answer has a head")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let body = &answer[end + 4..];
    let status = head.split(' ').nth(1).context("an answer has a status")?.parse()?;
    let header = |name: &str| {
        let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let retry_after = header("retry-after").and_then(|seconds| seconds.parse().ok());
    let chunked = header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let body = if chunked {
        join_chunks(body)?
    } else {
        if let Some(length) = header("content-length") {
            ensure!(length.parse() == Ok(body.len()), "an answer was cut off");
        }
        body.to_vec()
    };
    Ok(Answer { status, retry_after, body })
}

fn join_chunks(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(rest.len());
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").context("an answer was cut off")?;
        let size = std::str::from_utf8(&rest[..end])?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        let from = end + 2;
        body.extend_from_slice(rest.get(from..from + size).context("an answer was cut off")?);
        rest = rest.get(from + size + 2..).context("an answer was cut off")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let plain = parse(b"HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\ncontent-length: 2\r\n\r\nno").unwrap();
        assert_eq!((plain.status, plain.retry_after, &plain.body[..]), (429, Some(3), &b"no"[..]));
        let chunked =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n");
        assert_eq!(chunked.unwrap().body, b"abc0123456789");
        for cut in ["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "HTTP/1.1 200 OK\r\n", ""] {
            assert!(parse(cut.as_bytes()).is_err(), "{cut:?}");
        }
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab").is_err());
    }
}
