//! What is said for a shard that has gone down: nobody waits for an answer that will never come.

use engine::command::OfficeAnswer;
use engine::model::rejection::Rejection;
use engine::view::View;

use super::{Release, Work};

/// Nothing of this was decided.
pub(super) fn undecided<R>(work: Work, to: R) -> Option<Release<R>> {
    let why = Rejection::Unavailable;
    Some(match work {
        Work::Device(commands) => {
            Release::NotAnswered { to, seqs: commands.iter().map(|command| command.seq).collect(), why }
        }
        Work::Terminal(commands) => {
            Release::NotAnswered { to, seqs: commands.iter().map(|command| command.seq).collect(), why }
        }
        Work::Office(_) => office(to, why),
        Work::Query(_) => Release::View { to, view: View::No(why) },
        // Other shards send again what was not acknowledged.
        Work::Deliver { .. } | Work::Delivered { .. } | Work::Tick => return None,
    })
}

/// This was to be said once its record was durable.
pub(super) fn of_unknown_fate<R>(release: Release<R>) -> Option<Release<R>> {
    let why = Rejection::InDoubt;
    Some(match release {
        Release::Device { to, replies } => {
            Release::NotAnswered { to, seqs: replies.iter().map(|reply| reply.seq).collect(), why }
        }
        Release::Terminal { to, replies } => {
            Release::NotAnswered { to, seqs: replies.iter().map(|reply| reply.seq).collect(), why }
        }
        Release::Confirmed { to, seqs } => Release::NotConfirmed { to, seqs },
        Release::Office { to, .. } => office(to, why),
        // It would show what may never become durable.
        Release::View { to, .. } => Release::View { to, view: View::No(Rejection::Unavailable) },
        Release::NotAnswered { .. } | Release::NotConfirmed { .. } => release,
        Release::Send { .. } | Release::Ack { .. } | Release::Notice(_) => return None,
    })
}

pub(super) fn office<R>(to: R, why: Rejection) -> Release<R> {
    Release::Office { to, answer: OfficeAnswer::Rejected(why), repeated: false }
}
