//! Threads that give way: what they do can wait, and whoever decides and writes cannot.

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// From here on the calling thread runs where nobody else wants to (`SCHED_IDLE`). A nice value is not enough: the
/// scheduler lets a thread that runs finish its slice, 3 ms on the machines measured, however long the shards' thread has
/// been waiting beside it; an idle one is put aside at once. With every core busy it gets next to nothing, and catches up
/// afterwards.
pub(crate) fn give_way() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // Everything works without it as well, only less evenly.
    if let Err(why) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
        tracing::debug!(?why, "a background thread does not give way");
    }
}
