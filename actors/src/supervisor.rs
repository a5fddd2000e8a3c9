//! Supervision, by ractor: rebuilds a shard that a panic has spoilt while the others go on, and writes snapshots in the
//! background. A role that fails is started again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::model::ids::ShardId;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use storage::journal::{Cursor, Journal};
use storage::snapshots::Snapshots;

use crate::host::{Control, Link};
use crate::limits::{SNAPSHOT_AFTER_EVENTS, SNAPSHOT_EVERY_S};
use crate::recover::{self, RecoverError, Recovering};

/// What the supervisor and its roles work on.
#[derive(Clone)]
pub(crate) struct SupervisorContext {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) snapshots: Arc<dyn Snapshots>,
    pub(crate) links: Arc<[Arc<Link>]>,
}

/// The root of supervision.
pub(crate) struct Supervisor;

/// What the supervisor is asked.
pub(crate) enum SupervisorMessage {
    /// Rebuild this shard from snapshot and journal, for that hosting of it.
    Rebuild(ShardId, u64),
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorContext;
    type Arguments = SupervisorContext;

    async fn pre_start(
        &self,
        me: ActorRef<SupervisorMessage>,
        context: SupervisorContext,
    ) -> Result<SupervisorContext, ActorProcessingErr> {
        start_snapshotter(&me, &context).await?;
        Ok(context)
    }

    async fn handle(
        &self,
        _: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        context: &mut SupervisorContext,
    ) -> Result<(), ActorProcessingErr> {
        let SupervisorMessage::Rebuild(id, hosting) = message;
        let at_work = context.clone();
        // On a thread of its own: reading the journal blocks, and another shard may need us meanwhile.
        tokio::task::spawn_blocking(move || {
            // A replay that panics is an answer too: somebody waits for this.
            let message =
                match catch_unwind(AssertUnwindSafe(|| recover::one(&*at_work.journal, &*at_work.snapshots, id))) {
                    Ok(Ok(shard)) => Control::Rebuilt(hosting, Box::new(shard)),
                    Ok(Err(error)) => {
                        tracing::error!(shard = id.0, %error, "a shard cannot be rebuilt; it stays down");
                        Control::NotRebuilt(hosting)
                    }
                    Err(_) => {
                        tracing::error!(shard = id.0, "rebuilding a shard panicked; it stays down");
                        Control::NotRebuilt(hosting)
                    }
                };
            at_work.links[usize::from(id.0)].notify(message);
        });
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        context: &mut SupervisorContext,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, why) = event {
            tracing::error!(%why, "an actor failed and is started again");
            tokio::time::sleep(Duration::from_secs(1)).await;
            start_snapshotter(&me, context).await?;
        }
        Ok(())
    }
}

async fn start_snapshotter(
    supervisor: &ActorRef<SupervisorMessage>,
    context: &SupervisorContext,
) -> Result<(), ActorProcessingErr> {
    let (snapshotter, _) =
        Actor::spawn_linked(None, Snapshotter, context.clone(), supervisor.get_cell()).await.map_err(Box::new)?;
    let every = Duration::from_secs(SNAPSHOT_EVERY_S);
    ractor::time::send_interval(every, snapshotter.get_cell(), || Look);
    Ok(())
}

/// Writes snapshots from the last ones and the journal, beside the shards: those never stop for it.
struct Snapshotter;

/// See whether the journal has grown enough.
struct Look;

struct Progress {
    context: SupervisorContext,
    /// Where the journal ended when the last snapshots were written.
    done: Cursor,
}

impl Actor for Snapshotter {
    type Msg = Look;
    type State = Progress;
    type Arguments = SupervisorContext;

    async fn pre_start(&self, _: ActorRef<Look>, context: SupervisorContext) -> Result<Progress, ActorProcessingErr> {
        let done = context.journal.end();
        Ok(Progress { context, done })
    }

    async fn handle(&self, _: ActorRef<Look>, _: Look, state: &mut Progress) -> Result<(), ActorProcessingErr> {
        let end = state.context.journal.end();
        if end == state.done {
            return Ok(());
        }
        let context = state.context.clone();
        let saved = tokio::task::spawn_blocking(move || snapshot_all(&context)).await??;
        if saved {
            state.done = end;
        }
        Ok(())
    }
}

/// Recovers every shard that is here beside the living ones and keeps what comes of it, if that is worth it.
fn snapshot_all(context: &SupervisorContext) -> Result<bool, RecoverError> {
    let end = context.journal.end();
    let here = |id: ShardId| context.links[usize::from(id.0)].serving.load(Ordering::Acquire);
    let mut recovering = Recovering::from_snapshots(&*context.snapshots, &end, here)?;
    let mut reader = recovering.reader(&end, |from| context.journal.reader(from))?;
    // In pieces, with pauses: this is nobody's hurry, and the shards need the cores.
    while !recovering.replay(&mut *reader, 20_000)? {
        std::thread::sleep(Duration::from_millis(20));
    }
    if recovering.events < SNAPSHOT_AFTER_EVENTS {
        return Ok(false);
    }
    for id in (0..context.journal.shards()).map(ShardId) {
        if let Some((shard, position)) = recovering.shard(id).filter(|(shard, _)| shard.seq() > 0) {
            recover::save(&*context.snapshots, shard, position)?;
        }
    }
    tracing::info!(events = recovering.events, "snapshots written");
    Ok(true)
}
