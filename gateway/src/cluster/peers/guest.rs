//! The way from another node, which has dialled: what it asks goes to the shards here, and what they answer back to it.

use std::sync::Arc;

use actors::limits::STEP_MAX;
use actors::peers::codec::{Malformed, Request, Response};
use actors::pipeline::Work;
use actors::{Answered, Node, Replies};
use bytes::Bytes;
use engine::model::ids::NodeNo;
use quinn::{Connection, Incoming, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use tokio::sync::broadcast::error::RecvError;

use super::queue::{NotAdded, Pieces, Queue};
use super::{
    ANSWERS_BYTES_MAX, ANSWERS_PAUSE_BYTES, CONNECT_WITHIN, Heard, Hello, READ_BYTES, SILENCE, Shared, close, tls,
};

/// Lets a node in that belongs here, and serves it until it is gone.
pub(super) async fn serve(shared: Arc<Shared>, node: Node, incoming: Incoming) {
    let from = incoming.remote_address();
    let refused = |why: &str| shared.refuse(from, why);
    let welcomed = async {
        let connection = incoming.await.map_err(|why| tls::explain(&why, None))?;
        match welcome(&shared, &connection).await {
            Ok((who, sending, receiving)) => Ok((connection, who, sending, receiving)),
            Err(why) => {
                connection.close(close::REFUSED, why.as_bytes());
                Err(why)
            }
        }
    };
    let (connection, who, sending, receiving) = match tokio::time::timeout(CONNECT_WITHIN, welcomed).await {
        Ok(Ok(welcomed)) => welcomed,
        Ok(Err(why)) => return refused(&why),
        Err(_) => return refused("it does not greet"),
    };
    if let Some(older) = shared.guests().insert(who, connection.clone()) {
        older.close(close::REPLACED, b"a newer connection of the same node has taken its place");
    }
    let why = talk(&connection, sending, receiving, &node).await;
    {
        let mut guests = shared.guests();
        if guests.get(&who).is_some_and(|newest| newest.stable_id() == connection.stable_id()) {
            guests.remove(&who);
        }
    }
    tracing::info!(node = who.0, %from, "another node is gone: {why}");
}

/// Whether it is who it says, and belongs here.
async fn welcome(shared: &Shared, connection: &Connection) -> Result<(NodeNo, SendStream, RecvStream), String> {
    let (mut sending, mut receiving) = connection.accept_bi().await.map_err(|why| tls::explain(&why, None))?;
    let theirs = Hello::read(&mut receiving).await?;
    let identity = connection.peer_identity().and_then(|it| it.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = identity.as_ref().and_then(|chain| chain.first()).ok_or("it has shown no certificate")?;
    tls::is_for(certificate, theirs.node)
        .map_err(|why| format!("it says that it is node {}, and its certificate does not: {why}", theirs.node.0))?;
    if let Some(why) = shared.hello.differs_from(&theirs) {
        return Err(why);
    }
    sending.write_all(&shared.hello.encode()).await.map_err(|why| why.to_string())?;
    Ok((theirs.node, sending, receiving))
}

/// Takes requests in and gives answers out, until that is over: why.
async fn talk(connection: &Connection, mut sending: SendStream, mut receiving: RecvStream, node: &Node) -> String {
    let (queue, heard) = (Arc::<Queue>::default(), Heard::now());
    let nobody: Arc<dyn Replies> = Arc::new(Nobody);
    let take = |request| {
        match request {
            Request::Work { shard, work, id } if work.weight() <= STEP_MAX => {
                node.accept(shard, work, Arc::new(Asker { id, queue: Arc::clone(&queue) }));
            }
            Request::Message { shard, work: work @ (Work::Deliver { .. } | Work::Delivered { .. }) } => {
                node.accept(shard, work, Arc::clone(&nobody));
            }
            Request::Ping => drop(queue.add(&Response::Pong, ANSWERS_BYTES_MAX)),
            // No shard decides so much at once, and no device sends it.
            Request::Work { work, .. } | Request::Message { work, .. } => {
                return Err(Malformed::Content { bytes: work.weight() });
            }
        }
        Ok(())
    };
    let writing = async {
        while let Some(batch) = queue.take().await {
            if sending.write_chunk(Bytes::from(batch)).await.is_err() {
                return None;
            }
        }
        Some("it does not read its answers".to_owned())
    };
    let reading = async {
        let (mut bytes, mut pieces) = (vec![0; READ_BYTES], Pieces::default());
        loop {
            queue.shorter_than(ANSWERS_PAUSE_BYTES).await;
            let Ok(Some(count)) = receiving.read(&mut bytes).await else { return None };
            heard.again();
            if let Err(why) = pieces.take(&bytes[..count], take) {
                return Some(format!("it has sent {why}"));
            }
            if count == READ_BYTES {
                tokio::task::yield_now().await;
            }
        }
    };
    let notifying = async {
        let mut notices = node.own_notices();
        loop {
            match notices.recv().await {
                Ok(notice) => drop(queue.add(&Response::Notice(notice), ANSWERS_BYTES_MAX)),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "notices for another node's devices were lost")
                }
                Err(RecvError::Closed) => return,
            }
        }
    };
    let why = tokio::select! {
        why = writing => why,
        why = reading => why,
        () = notifying => Some("this node has stopped".into()),
        () = heard.until_silent(|| {}) => Some(format!("it has said nothing for {} s", SILENCE.as_secs())),
    };
    // What is still decided here finds nobody.
    queue.close();
    let why = why.unwrap_or_else(|| match connection.close_reason() {
        Some(reason) => tls::explain(&reason, None),
        None => "it has ended the stream".into(),
    });
    connection.close(close::ENDED, why.as_bytes());
    why
}

/// Whoever waits for the answers to one request.
struct Asker {
    id: u64,
    queue: Arc<Queue>,
}

impl Replies for Asker {
    fn answered(&self, answered: Answered) {
        let response = Response::Answered { id: self.id, answered };
        match self.queue.add(&response, ANSWERS_BYTES_MAX) {
            Ok(()) | Err(NotAdded::Closed) => {}
            // Dropping one alone would leave somebody waiting for it.
            Err(NotAdded::Full) => self.queue.close(),
            Err(NotAdded::TooLong(why)) => {
                tracing::error!("an answer for another node is refused instead: {why}");
                let _ = self.queue.add(&response.shortened(), ANSWERS_BYTES_MAX);
            }
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        // Full: then the connection ends, and with it all that waits.
        if self.queue.add(&Response::Closed { id: self.id }, ANSWERS_BYTES_MAX) == Err(NotAdded::Full) {
            self.queue.close();
        }
    }
}

/// Messages between shards are not answered here.
struct Nobody;

impl Replies for Nobody {
    fn answered(&self, _: Answered) {}
}
