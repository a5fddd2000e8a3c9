//! One bulk call on its way, from the lines of its body to what became of each.
//!
//! Lines are taken in windows of [`ISSUE_MAX`]. A window's good lines are grouped by category and by paid or not, and
//! each group is one command to the engine, all or nothing; where it does not fit under the quota any more, it is
//! halved until what fits has been issued.
//!
//! Which command is a window's first, second, third follows from its lines and from the answers to those before. So
//! each command's idempotency key is made of the call's key, the number of the window, and the command's number in it;
//! its fingerprint is that of the window's lines. A call that broke off can be sent again: what was issued is answered
//! again, with the same ids, and the rest is issued now. Other lines under the same key meet another fingerprint at
//! the window's first command. For this to hold, a call ends at the first answer that the engine does not remember.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::body::Body;
use engine::command::ask::{IssueTickets, Issued};
use engine::command::{IdempotencyKey, issued};
use engine::gates::command::ISSUE_MAX;
use engine::model::ids::{CategoryNo, FestivalId, TicketId};
use engine::model::rejection::Rejection;
use sha2::{Digest, Sha256};

use crate::auth::Operator;
use crate::http::gates::issue::NewTicket;
use crate::http::kit::ndjson::{LINE_LEN_MAX, LINES_MAX, LineError, Lines};
use crate::http::kit::problem::Problem;
use crate::http::kit::request::{first, parse_json};
use crate::http::state::AppState;

/// A full queue is asked again after so long, so many times: 5 s, when readers' windows have long been let through.
const BUSY_WAIT: Duration = Duration::from_millis(100);
const BUSY_TRIES: u32 = 50;

/// What became of a line. An error is boxed: most lines have none.
pub(super) type Outcome = Result<TicketId, Box<LineError>>;

/// A good line that waits for its window to be full.
struct IssueRequest {
    category: CategoryNo,
    paid: bool,
    holder: Option<u128>,
}

/// A good line within its group: its place in the window, and whose ticket it is to be.
type Origin = (usize, Option<u128>);
/// A window's good lines of one category, paid or not.
type Group = Vec<Origin>;

/// One bulk call on its way.
pub(super) struct Call<'a> {
    state: &'a AppState,
    operator: &'a Operator,
    festival: FestivalId,
    key: IdempotencyKey,
    /// Method and path; the lines of a window go behind it.
    request: Sha256,
    windows: u32,
    window: Vec<(u32, Result<IssueRequest, Box<LineError>>)>,
    window_hash: Sha256,
    /// Categories that have no place left: they are not asked again during this call.
    sold_out: BTreeSet<CategoryNo>,
    /// How many commands this window has taken.
    commands: u32,
    /// Nothing is asked any more, and why.
    ended: Option<Rejection>,
    pub(super) asked: bool,
    pub(super) all_repeated: bool,
    pub(super) outcomes: Vec<(u32, Outcome)>,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        state: &'a AppState,
        operator: &'a Operator,
        festival: FestivalId,
        key: IdempotencyKey,
        request: Sha256,
    ) -> Self {
        Self {
            state,
            operator,
            festival,
            key,
            window_hash: request.clone(),
            request,
            windows: 0,
            window: Vec::new(),
            sold_out: BTreeSet::new(),
            commands: 0,
            ended: None,
            asked: false,
            all_repeated: true,
            outcomes: Vec::new(),
        }
    }

    /// Reads and issues to the end of the body.
    pub(super) async fn take(&mut self, body: &mut Body) -> Result<(), Problem> {
        let mut lines = Lines::new(body);
        while let Some((line, text)) = lines.next().await? {
            if line > LINES_MAX {
                self.end_of_window().await?;
                self.outcomes.push((line, Err(Box::new(lines.too_many()))));
                return Ok(());
            }
            self.window_hash.update(&text);
            self.window_hash.update(b"\n");
            let wanted = read_line(&text).map_err(|problem| Box::new(lines.explain(&problem)));
            self.window.push((line, wanted));
            if self.window.len() == ISSUE_MAX {
                self.end_of_window().await?;
            }
        }
        self.end_of_window().await
    }

    /// Issues what the window asks for, and writes down what became of each of its lines.
    async fn end_of_window(&mut self) -> Result<(), Problem> {
        let window = core::mem::take(&mut self.window);
        let hash = core::mem::replace(&mut self.window_hash, self.request.clone());
        self.commands = 0;
        let mut groups: BTreeMap<(CategoryNo, bool), Group> = BTreeMap::new();
        for (place, (_, wanted)) in window.iter().enumerate() {
            if let Ok(IssueRequest { category, paid, holder }) = wanted {
                groups.entry((*category, *paid)).or_default().push((place, *holder));
            }
        }
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(window.len());
        let unanswered = || Box::new(LineError::from(Rejection::Internal));
        outcomes
            .extend(window.iter().map(|(_, wanted)| Err(wanted.as_ref().err().cloned().unwrap_or_else(unanswered))));
        for ((category, paid), lines) in groups {
            self.issue_group(&hash, category, paid, &lines, &mut outcomes).await?;
        }
        self.outcomes.extend(window.into_iter().map(|(line, _)| line).zip(outcomes));
        self.windows += 1;
        Ok(())
    }

    async fn issue_group(
        &mut self,
        window: &Sha256,
        category: CategoryNo,
        paid: bool,
        lines: &[Origin],
        outcomes: &mut [Outcome],
    ) -> Result<(), Problem> {
        // The later part lies below: what comes first is issued first. Halving 1,024 lines down to the last that fits
        // takes at most 21 commands, once a call and category.
        let mut parts = vec![(0, lines.len())];
        while let Some((start, end)) = parts.pop() {
            let part = &lines[start..end];
            let sold_out = self.sold_out.contains(&category).then_some(Rejection::SoldOut);
            if let Some(rejection) = self.ended.or(sold_out) {
                refuse(part, rejection, outcomes);
                continue;
            }
            let key = self.next_key(window, category, paid, start, part.len());
            let holders = part.iter().map(|(_, holder)| *holder).collect();
            match self.ask(key, category, holders, paid).await? {
                Ok(Issued { festival, category, first_serial, count, seed }) => {
                    let tickets = issued(festival, category, first_serial, count, seed);
                    part.iter().zip(tickets).for_each(|((place, _), ticket)| outcomes[*place] = Ok(ticket));
                }
                Err(Rejection::SoldOut) if part.len() > 1 => {
                    let middle = start + part.len() / 2;
                    parts.push((middle, end));
                    parts.push((start, middle));
                }
                Err(rejection) => {
                    if rejection == Rejection::SoldOut {
                        self.sold_out.insert(category);
                    } else if is_about_the_call(rejection) {
                        // If nothing has been issued yet, the whole call is answered so.
                        if self.windows == 0 && outcomes.iter().all(Result::is_err) {
                            return Err(Problem::from(rejection));
                        }
                        self.ended = Some(rejection);
                    }
                    refuse(part, rejection, outcomes);
                }
            }
        }
        Ok(())
    }

    fn next_key(
        &mut self,
        window: &Sha256,
        category: CategoryNo,
        paid: bool,
        start: usize,
        len: usize,
    ) -> IdempotencyKey {
        let id = Sha256::new()
            .chain_update(b"tapgate.bulk.v1")
            .chain_update(self.key.id.to_be_bytes())
            .chain_update(self.windows.to_be_bytes())
            .chain_update(self.commands.to_be_bytes())
            .finalize();
        self.commands += 1;
        // Which lines these are follows from the window; said all the same, so that a slip here would be a conflict
        // rather than somebody else's tickets.
        let fingerprint = window
            .clone()
            .chain_update(category.0.to_be_bytes())
            .chain_update([u8::from(paid)])
            .chain_update((start as u32).to_be_bytes())
            .chain_update((len as u32).to_be_bytes())
            .finalize();
        IdempotencyKey {
            id: u128::from_be_bytes(first(&id)),
            fingerprint: u64::from_be_bytes(first(&fingerprint)),
            made_at: self.key.made_at,
        }
    }

    async fn ask(
        &mut self,
        key: IdempotencyKey,
        category: CategoryNo,
        holders: Vec<Option<u128>>,
        paid: bool,
    ) -> Result<Result<Issued, Rejection>, Problem> {
        let mut seed = [0; 8];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| Problem::from(Rejection::Internal))?;
        let seed = u64::from_be_bytes(seed);
        let mut tries = 0;
        loop {
            let issue = IssueTickets { festival: self.festival, category, holders: holders.clone(), paid, seed };
            let (answer, repeated) = self.state.node.ask_for(issue, self.operator.principal(), Some(key)).await;
            if answer == Err(Rejection::Busy) && tries < BUSY_TRIES {
                tries += 1;
                tokio::time::sleep(BUSY_WAIT).await;
                continue;
            }
            self.asked = true;
            self.all_repeated &= repeated;
            return Ok(answer);
        }
    }
}

fn refuse(lines: &[Origin], rejection: Rejection, outcomes: &mut [Outcome]) {
    lines.iter().for_each(|(place, _)| outcomes[*place] = Err(Box::new(rejection.into())));
}

/// Rejections that no other line would escape, or that the engine does not remember: the call ends with them.
fn is_about_the_call(rejection: Rejection) -> bool {
    use Rejection::*;
    matches!(
        rejection,
        UnknownFestival
            | IdempotencyConflict
            | IdempotencyKeyExpired
            | InvalidTransition
            | LimitReached
            | Busy
            | Unavailable
            | InDoubt
            | Internal
    )
}

fn read_line(text: &[u8]) -> Result<IssueRequest, Problem> {
    if text.len() > LINE_LEN_MAX {
        return Err(Problem::field("", format!("a line has at most {LINE_LEN_MAX} bytes")));
    }
    let NewTicket { category, holder, paid } = parse_json(text)?;
    let holder = match holder.as_deref().map(uuid::Uuid::try_parse) {
        None => None,
        Some(Ok(holder)) => Some(holder.as_u128()),
        Some(Err(_)) => return Err(Problem::field("/holder", "must be a UUID")),
    };
    Ok(IssueRequest { category: CategoryNo(category), paid, holder })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let read = |line: &str| read_line(line.as_bytes()).map(|w| (w.category.0, w.paid, w.holder.is_some()));
        assert_eq!(read(r#"{"category":1,"paid":true}"#).unwrap(), (1, true, false));
        let holder = r#"{"category":1,"holder":"0192f0c1-2345-7abc-8def-0123456789ab","paid":false}"#;
        assert_eq!(read(holder).unwrap(), (1, false, true));
        assert_eq!(read(r#"{"category":1,"holder":null,"paid":false}"#).unwrap(), (1, false, false));
        for (bad, code) in [
            (r#"{"category":1}"#, "validation"),
            (r#"{"category":65536,"paid":true}"#, "validation"),
            (r#"{"category":1,"paid":true,"admin":true}"#, "validation"),
            (r#"{"category":1,"holder":"me","paid":true}"#, "validation"),
            (r#"{"category":1,"paid":true"#, "invalid_json"),
            (&format!(r#"{{"category":1,"paid":true{}}}"#, " ".repeat(LINE_LEN_MAX)), "validation"),
        ] {
            assert_eq!(read(bad).unwrap_err().code(), code, "{bad}");
        }
    }
}
