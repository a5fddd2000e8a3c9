//! Who asked: where an answer goes.

use std::sync::{Arc, Mutex, PoisonError};

use engine::command::AdminAnswer;
use engine::view::View;
use tokio::sync::oneshot;

use crate::peers::Replies;
use crate::reply::{Answered, Inbox, TerminalInbox};

/// Who asked.
#[derive(Clone)]
pub(crate) enum ReplyTo {
    /// A reader's session.
    Inbox(Arc<dyn Inbox>),
    /// A terminal's session.
    Terminal(Arc<dyn TerminalInbox>),
    /// Somebody in the office, who waits.
    Admin(ReplySender<(AdminAnswer, bool)>),
    /// Somebody with a question, who waits.
    Query(ReplySender<View>),
    /// Another node, for any of these; whether for a terminal.
    Peer(Arc<dyn Replies>, bool),
    /// The host itself.
    Nobody,
}

impl ReplyTo {
    /// Tells them. What is no answer to what they have asked is nobody's.
    pub(crate) fn tell(self, answered: Answered) {
        match (self, answered) {
            (Self::Inbox(inbox), Answered::Device(replies)) => inbox.answered(&replies),
            (Self::Inbox(inbox), Answered::Confirmed(seqs)) => inbox.confirmed(&seqs),
            (Self::Inbox(inbox), Answered::TurnedAway(seqs, busy)) => inbox.turned_away(&seqs, busy),
            (Self::Inbox(inbox), Answered::NotConfirmed(seqs, busy)) => inbox.not_confirmed(&seqs, busy),
            (Self::Terminal(inbox), Answered::Terminal(replies)) => inbox.answered(&replies),
            (Self::Terminal(inbox), Answered::TurnedAway(seqs, busy)) => inbox.turned_away(&seqs, busy),
            (Self::Admin(once), Answered::Admin(answer, repeated)) => once.send((answer, repeated)),
            (Self::Query(once), Answered::View(view)) => once.send(view),
            (Self::Peer(replies, _), answered) => replies.answered(answered),
            _ => {}
        }
    }

    /// Whether what they ask counts as a terminal's.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_) | Self::Peer(_, true))
    }
}

/// Where one answer goes, once.
pub(crate) struct ReplySender<T>(Arc<Mutex<Option<oneshot::Sender<T>>>>);

impl<T> Clone for ReplySender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> ReplySender<T> {
    /// The place, and where to wait for it.
    pub(crate) fn new() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }
    fn send(&self, answer: T) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever asked may have gone away meanwhile.
        let _ = sender.map(|sender| sender.send(answer));
    }
}
