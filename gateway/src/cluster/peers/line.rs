//! The way to another node: dialled again whenever it is lost, and what waits for answers from there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actors::peers::codec::{Request, Response};
use actors::pipeline::Work;
use actors::{Answers, Node, Parcel, Replies as _};
use bytes::Bytes;
use engine::model::ids::NodeNo;
use quinn::{Connection, RecvStream, SendStream};
use storage::journal::Member;

use super::queue::{NotAdded, Pieces, Queue};
use super::{
    AGAIN_MAX, AGAIN_MIN, CONNECT_WITHIN, Complaints, Heard, Hello, READ_BYTES, REQUESTS_BYTES_MAX, SILENCE, Shared,
    URGENT_BYTES_MAX, close, tls,
};

/// To one node.
pub(super) struct Line {
    to: NodeNo,
    /// Somebody dials.
    begun: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// For the connection that is there, or that is tried for the first time: what waits for that would otherwise be turned
    /// away for the few milliseconds that it takes. `None`: it is lost.
    queue: Option<Arc<Queue>>,
    up: bool,
    /// Why there is no connection.
    trouble: Option<String>,
    /// The number of the last request.
    last: u64,
    /// Who waits, by the number of the request. What is let in at the door is bounded by its shard, so this is too.
    open: HashMap<u64, Arc<Answers>>,
}

impl Line {
    pub(super) fn new(to: NodeNo) -> Self {
        let state = State { queue: Some(Arc::default()), up: false, trouble: None, last: 0, open: HashMap::new() };
        Self { to, begun: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// Whether nobody has dialled so far: then it is for the caller to do.
    pub(super) fn begins(&self) -> bool {
        !self.begun.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_up(&self) -> bool {
        self.state().up
    }

    /// Whether it takes nothing but what protects people.
    #[cfg(test)]
    pub(super) fn is_full(&self) -> bool {
        self.state().queue.as_ref().is_some_and(|queue| queue.bytes() >= REQUESTS_BYTES_MAX)
    }

    /// Why there is no connection, once it was tried.
    pub(super) fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    pub(super) fn send(&self, parcel: Box<Parcel>) -> Result<(), Box<Parcel>> {
        let mut state = self.state();
        let Some(queue) = &state.queue else { return Err(parcel) };
        let Parcel { shard, work, answers } = *parcel;
        let room = match &work {
            Work::Admin(command) if command.action.protects_people() => URGENT_BYTES_MAX,
            _ => REQUESTS_BYTES_MAX,
        };
        let id = state.last + 1;
        let (request, is_answered) = match work {
            work @ (Work::Deliver { .. } | Work::Delivered { .. }) => (Request::Message { shard, work }, false),
            work => (Request::Work { id, shard, work }, true),
        };
        if let Err(why) = queue.add(&request, room) {
            if let NotAdded::TooLong(why) = why {
                tracing::error!(
                    to = self.to.0,
                    shard = shard.0,
                    "what was to be sent to another node is not sent: {why}"
                );
            }
            let (Request::Work { work, .. } | Request::Message { work, .. }) = request else {
                unreachable!("made above")
            };
            return Err(Box::new(Parcel { shard, work, answers }));
        }
        state.last = id;
        if is_answered {
            state.open.insert(id, Arc::new(answers));
        }
        Ok(())
    }

    /// Stays connected as long as the node has a shard.
    pub(super) async fn keep(self: Arc<Self>, shared: Arc<Shared>, node: Node) {
        let (mut again, mut complaints) = (AGAIN_MIN, Complaints::default());
        while let Some(member) = shared.member(self.to) {
            let why = match tokio::time::timeout(CONNECT_WITHIN, self.connect(&shared, &member)).await {
                Ok(Ok((connection, sending, receiving))) => {
                    let queue = self.goes_up();
                    tracing::info!(node = self.to.0, at = %connection.remote_address(), "connected to another node");
                    again = AGAIN_MIN;
                    self.talk(&connection, sending, receiving, &queue, &node).await
                }
                Ok(Err(why)) => why,
                Err(_) => "it does not answer".into(),
            };
            complaints.say(format_args!("node {} at {}", self.to.0, member.peers), &why);
            self.goes_down(Some(why));
            if shared.stopping.load(Ordering::Acquire) {
                break;
            }
            tokio::time::sleep(again).await;
            again = (again * 2).min(AGAIN_MAX);
        }
        self.goes_down(None);
        shared.lines().remove(&self.to);
    }

    async fn connect(&self, shared: &Shared, member: &Member) -> Result<(Connection, SendStream, RecvStream), String> {
        let found = tokio::net::lookup_host(&member.peers).await;
        let found = found.map_err(|why| format!("its address cannot be looked up: {why}"))?;
        let here = shared.endpoint.local_addr().map_err(|why| why.to_string())?;
        let is_reachable = |at: &std::net::SocketAddr| at.is_ipv4() == here.is_ipv4() || here.is_ipv6();
        let at = found.into_iter().find(is_reachable).ok_or("it has no address that can be reached from `peers`")?;
        let connecting = shared.endpoint.connect_with(shared.client.clone(), at, &tls::name_of(self.to));
        let connecting = connecting.map_err(|why| why.to_string())?;
        let connection = connecting.await.map_err(|why| tls::explain(&why, Some(self.to)))?;
        let greeted = async {
            let (mut sending, mut receiving) = connection.open_bi().await.map_err(|why| why.to_string())?;
            sending.write_all(&shared.hello.encode()).await.map_err(|why| why.to_string())?;
            let theirs = Hello::read(&mut receiving).await?;
            match shared.hello.differs_from(&theirs) {
                Some(why) => Err(why),
                None => Ok((sending, receiving)),
            }
        };
        match greeted.await {
            Ok((sending, receiving)) => Ok((connection, sending, receiving)),
            // What the other one has said when it hung up says more.
            Err(why) => match connection.close_reason() {
                Some(reason) => Err(tls::explain(&reason, Some(self.to))),
                None => {
                    connection.close(close::REFUSED, why.as_bytes());
                    Err(why)
                }
            },
        }
    }

    /// Carries requests there and answers back, until that is over: why.
    async fn talk(
        &self,
        connection: &Connection,
        mut sending: SendStream,
        mut receiving: RecvStream,
        queue: &Queue,
        node: &Node,
    ) -> String {
        let heard = Heard::now();
        let writing = async {
            while let Some(batch) = queue.take().await {
                if sending.write_chunk(Bytes::from(batch)).await.is_err() {
                    return;
                }
            }
        };
        let reading = async {
            let (mut bytes, mut pieces) = (vec![0; READ_BYTES], Pieces::default());
            while let Ok(Some(count)) = receiving.read(&mut bytes).await {
                heard.again();
                let taken = pieces.take(&bytes[..count], |response| {
                    self.hear(response, node);
                    Ok(())
                });
                if let Err(why) = taken {
                    return Some(format!("it has sent {why}"));
                }
                if count == READ_BYTES {
                    tokio::task::yield_now().await;
                }
            }
            None
        };
        let pinging = heard.until_silent(|| drop(queue.add(&Request::Ping, usize::MAX)));
        let why = tokio::select! {
            () = writing => None,
            why = reading => why,
            () = pinging => {
                let why = format!("it has said nothing for {} s", SILENCE.as_secs());
                connection.close(close::SILENT, why.as_bytes());
                Some(why)
            }
        };
        let why = why.unwrap_or_else(|| match connection.close_reason() {
            Some(reason) => tls::explain(&reason, Some(self.to)),
            None => "it has ended the stream".into(),
        });
        connection.close(close::ENDED, why.as_bytes());
        why
    }

    fn hear(&self, response: Response, node: &Node) {
        match response {
            Response::Answered { id, answered } => {
                // Whoever hears it may have the next thing to send at once, so nothing is locked meanwhile.
                let answers = self.state().open.get(&id).cloned();
                if let Some(answers) = answers {
                    answers.answered(answered);
                }
            }
            Response::Closed { id } => {
                let answers = self.state().open.remove(&id);
                drop(answers);
            }
            Response::Notice(notice) => node.notify(notice),
            Response::Pong => {}
        }
    }

    fn goes_up(&self) -> Arc<Queue> {
        let mut state = self.state();
        (state.up, state.trouble) = (true, None);
        Arc::clone(state.queue.get_or_insert_default())
    }

    /// Nothing more can be sent, and nobody knows what became of what is not answered.
    fn goes_down(&self, why: Option<String>) {
        let open = {
            let mut state = self.state();
            if let Some(queue) = state.queue.take() {
                queue.close();
            }
            (state.up, state.trouble) = (false, why);
            core::mem::take(&mut state.open)
        };
        drop(open);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
