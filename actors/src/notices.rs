//! What connected devices are told unasked, from the shards here and from those on other nodes.

use engine::view::Notice;
use tokio::sync::broadcast;

use crate::limits::NOTICES_MAX;

/// To whoever listens; clones share the listeners.
#[derive(Clone)]
pub(crate) struct Notices {
    /// For this node's devices.
    all: broadcast::Sender<Notice>,
    /// For other nodes, which tell theirs. What came from another node goes to none: it has told them itself.
    own: broadcast::Sender<Notice>,
}

impl Notices {
    pub(crate) fn new() -> Self {
        Self { all: broadcast::channel(NOTICES_MAX).0, own: broadcast::channel(NOTICES_MAX).0 }
    }

    /// A shard here says so. Nobody may be connected.
    pub(crate) fn say(&self, notice: Notice) {
        let _ = self.own.send(notice);
        let _ = self.all.send(notice);
    }

    /// Another node's shard does.
    pub(crate) fn pass_on(&self, notice: Notice) {
        let _ = self.all.send(notice);
    }

    pub(crate) fn all(&self) -> broadcast::Receiver<Notice> {
        self.all.subscribe()
    }

    pub(crate) fn own(&self) -> broadcast::Receiver<Notice> {
        self.own.subscribe()
    }
}
