//! Which shards are here: they come and go while the node runs, and the others do not notice. Who may have which is not
//! decided here: whoever takes one up has fenced it, in the journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use engine::model::ids::ShardId;
use engine::shard::Shard;
use storage::journal::Position;
use tokio::sync::{oneshot, watch};

use super::{Node, Recovered, warn_if_ahead};
use crate::host::{Control, GiveUp, Link, Standing};
use crate::limits::{GIVE_UP_FINISH_MS, STOP_MS_MAX};
use crate::recover::{self, RecoverError, Recovering};

/// Why a shard was not taken up or given up.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// What is asked for does not fit: only what is not here is taken up, only what serves or is down is given up.
    #[error("shard {} is {standing}", shard.0)]
    Standing {
        shard: ShardId,
        /// How it stands.
        standing: Standing,
    },
    /// Its state cannot be had from snapshots and journal.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// Replaying it panicked; the log has more.
    #[error("replaying shard {} panicked; see the log", .0.0)]
    Panicked(ShardId),
    /// The node takes up nothing any more.
    #[error("the node is stopping")]
    Stopping,
}

/// A shard that is to be taken up, as far as it is ready: what has a shadow needs nothing more.
pub struct Prepared(ShardId, Option<(Shard, Position)>);

impl Node {
    /// How a shard stands here.
    ///
    /// # Panics
    /// If the journal has no such shard.
    pub fn standing(&self, shard: ShardId) -> Standing {
        self.0.links[usize::from(shard.0)].standing().clone()
    }

    /// Takes up a shard that is elsewhere: recovers it from its shadow, if there is one, or else from the newest snapshot, and
    /// the journal, beside the living shards, and serves it from then on. The journal has fenced it for this node, after
    /// [`Node::give_up`] if it was here before. Says what that took.
    ///
    /// # Errors
    /// [`PlacementError`]: it is here, or cannot be recovered, or was lost again meanwhile.
    pub async fn take_up(&self, shard: ShardId) -> Result<Recovered, PlacementError> {
        self.take_up_prepared(Prepared(shard, None)).await
    }

    /// Gets ready to take up a shard that another node still serves, so that only what that one writes in the meantime is
    /// left to replay once the journal has fenced it for this node.
    ///
    /// # Errors
    /// [`PlacementError`]: it is here, or cannot be recovered.
    pub async fn prepare(&self, shard: ShardId) -> Result<Prepared, PlacementError> {
        let standing = self.standing(shard);
        if standing != Standing::Elsewhere {
            return Err(PlacementError::Standing { shard, standing });
        }
        if self.0.shadows.has(shard) {
            return Ok(Prepared(shard, None));
        }
        let inner = Arc::clone(&self.0);
        let so_far =
            tokio::task::spawn_blocking(move || recover::so_far(&*inner.journal, &*inner.snapshots, shard)).await;
        Ok(Prepared(shard, Some(so_far.map_err(|_| PlacementError::Panicked(shard))??)))
    }

    /// As [`Node::take_up`], from what [`Node::prepare`] has got ready.
    ///
    /// # Errors
    /// As [`Node::take_up`].
    pub async fn take_up_prepared(&self, prepared: Prepared) -> Result<Recovered, PlacementError> {
        let Prepared(shard, so_far) = prepared;
        let (arriving, began) = (self.expect(shard)?, Instant::now());
        let inner = Arc::clone(&self.0);
        let recovering = tokio::task::spawn_blocking(move || {
            let (journal, snapshots) = (&*inner.journal, &*inner.snapshots);
            match inner.shadows.take(shard).or(so_far) {
                Some(so_far) => recover::from_shadow(journal, so_far),
                None => Recovering::from_snapshots(snapshots, &journal.end(), |id| id == shard)?
                    .run_to_the_end(journal, shard),
            }
        });
        let (state, events) = recovering.await.map_err(|_| PlacementError::Panicked(shard))??;
        arriving.arrive(state).await?;
        Ok(Recovered { events, took: began.elapsed() })
    }

    /// Changes each time the journal has lost a shard that was here.
    pub fn losses(&self) -> watch::Receiver<()> {
        self.0.losses.subscribe()
    }

    /// Of which shards that are elsewhere there is a shadow here, and to which position of the journal it has come.
    pub fn shadows(&self) -> Vec<(ShardId, Position)> {
        self.0.shadows.positions()
    }

    /// As [`Node::take_up`], with a state that somebody has kept up to the journal's end: of a shadow, or of the node that
    /// has given it up.
    ///
    /// # Errors
    /// [`PlacementError`]: it is here, or was lost again meanwhile.
    pub async fn take_up_state(&self, shard: Shard) -> Result<(), PlacementError> {
        self.expect(shard.id())?.arrive(shard).await
    }

    /// Gives up a shard: takes no more commands for it (they are [`Busy`], since it serves elsewhere in a moment), lets what
    /// was taken become durable and answered, and hands back its state, all of which is in the journal. Of a shard that is
    /// down or was lost there is none: its state may be ahead of the journal. The same if it does not come to rest within
    /// [`STOP_MS_MAX`]. In any case it is not here any more, and can be taken up again.
    ///
    /// # Errors
    /// [`PlacementError::Standing`]: it is not here, or on its way.
    ///
    /// [`Busy`]: engine::model::rejection::Rejection::Busy
    pub async fn give_up(&self, shard: ShardId) -> Result<Option<Shard>, PlacementError> {
        let link = &self.0.links[usize::from(shard.0)];
        let finish = Duration::from_millis(GIVE_UP_FINISH_MS);
        let state = given_up(link, finish).map_err(|standing| PlacementError::Standing { shard, standing })?;
        // Its thread ends with the node alone.
        state.await.map_err(|_| PlacementError::Stopping)
    }

    fn expect(&self, shard: ShardId) -> Result<Arriving, PlacementError> {
        let link = Arc::clone(&self.0.links[usize::from(shard.0)]);
        link.expect().map_err(|standing| PlacementError::Standing { shard, standing })?;
        let arriving = Arriving { node: self.clone(), link, has_come: false };
        if self.0.stopping.load(Ordering::Acquire) { Err(PlacementError::Stopping) } else { Ok(arriving) }
    }
}

/// A shard that is being taken up. If nothing comes of it, it is elsewhere again.
struct Arriving {
    node: Node,
    link: Arc<Link>,
    /// It is its actor's matter now, even if nobody waits for it any more.
    has_come: bool,
}

impl Arriving {
    async fn arrive(mut self, shard: Shard) -> Result<(), PlacementError> {
        let id = shard.id();
        warn_if_ahead(&shard, self.node.now());
        let (done, arrived) = oneshot::channel();
        self.link.notify(Control::TakeUp(Box::new(shard), done));
        self.has_come = true;
        match arrived.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(PlacementError::Standing { shard: id, standing: self.node.standing(id) }),
            Err(_) => Err(PlacementError::Stopping),
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.has_come {
            self.link.expects_no_more();
        }
    }
}

/// Lets a shard be given up: where its state comes.
pub(super) fn given_up(link: &Link, finish: Duration) -> Result<oneshot::Receiver<Option<Shard>>, Standing> {
    let (done, state) = oneshot::channel();
    let now = Instant::now();
    let rest_until = now + Duration::from_millis(STOP_MS_MAX);
    link.give_up(GiveUp { finish_until: now + finish, rest_until, done })?;
    Ok(state)
}
