//! What is said for a shard that has gone down: nobody waits for an answer that will never come.

use engine::command::AdminAnswer;
use engine::model::rejection::Rejection;
use engine::view::View;

use super::{Effect, Work};

/// Nothing of this was decided.
pub(super) fn undecided<R>(work: Work, to: R) -> Option<Effect<R>> {
    let why = Rejection::Unavailable;
    Some(match work {
        Work::Device(commands) => {
            Effect::NotAnswered { to, seqs: commands.iter().map(|command| command.seq).collect(), why }
        }
        Work::Terminal(commands) => {
            Effect::NotAnswered { to, seqs: commands.iter().map(|command| command.seq).collect(), why }
        }
        Work::Admin(_) => admin(to, why),
        Work::Query(_) => Effect::View { to, view: View::No(why) },
        // Other shards send again what was not acknowledged.
        Work::Deliver { .. } | Work::Delivered { .. } | Work::Tick => return None,
    })
}

/// This was to be said once its record was durable.
pub(super) fn of_unknown_fate<R>(release: Effect<R>) -> Option<Effect<R>> {
    let why = Rejection::InDoubt;
    Some(match release {
        Effect::Device { to, replies } => {
            Effect::NotAnswered { to, seqs: replies.iter().map(|reply| reply.seq).collect(), why }
        }
        Effect::Terminal { to, replies } => {
            Effect::NotAnswered { to, seqs: replies.iter().map(|reply| reply.seq).collect(), why }
        }
        Effect::Confirmed { to, seqs } => Effect::NotConfirmed { to, seqs },
        Effect::Admin { to, .. } => admin(to, why),
        // It would show what may never become durable.
        Effect::View { to, .. } => Effect::View { to, view: View::No(Rejection::Unavailable) },
        Effect::NotAnswered { .. } | Effect::NotConfirmed { .. } => release,
        Effect::Send { .. } | Effect::Ack { .. } | Effect::Notice(_) => return None,
    })
}

pub(super) fn admin<R>(to: R, why: Rejection) -> Effect<R> {
    Effect::Admin { to, answer: AdminAnswer::Rejected(why), repeated: false }
}
