//! Operators at work while the server is killed, each on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::anyhow;

use crate::admin::Admin;
use crate::admin::replay::{Attempt, Said};
use crate::drive::RunContext;

pub(super) struct Operator {
    /// With which it calls.
    pub(super) admin: Admin,
    /// The clock that it shares with the terminals.
    pub(super) context: Arc<RunContext>,
    /// Calls made again before they were answered.
    pub(super) asked_again: u64,
    stop: Arc<AtomicBool>,
}

impl Operator {
    /// Whether it has done enough.
    pub(super) fn is_to_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The final answer, and whether the call had to be made again for it.
    ///
    /// # Errors
    /// The server is away too long.
    pub(super) fn insist(&mut self, attempt: &Attempt) -> anyhow::Result<(Said, bool)> {
        let answered = self.admin.insist(attempt)?;
        self.asked_again += answered.tries;
        Ok((answered.said, answered.tries > 0))
    }
}

/// All that do the same.
pub(super) struct Operators<T> {
    threads: Vec<JoinHandle<(T, u64, anyhow::Result<()>)>>,
    stop: Arc<AtomicBool>,
}

impl<T: Send + 'static> Operators<T> {
    /// Lets each do its work until it is to stop.
    pub(super) fn start(
        admin: &Admin,
        context: &Arc<RunContext>,
        works: Vec<T>,
        run: fn(&mut T, &mut Operator) -> anyhow::Result<()>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = works.into_iter().map(|mut work| {
            let (admin, context, stop) = (admin.another(), Arc::clone(context), Arc::clone(&stop));
            let mut operator = Operator { admin, context, asked_again: 0, stop };
            std::thread::spawn(move || {
                let ran = run(&mut work, &mut operator);
                (work, operator.asked_again, ran)
            })
        });
        Self { threads: threads.collect(), stop }
    }

    /// Waits until each has its last answer. What they did, how often they asked again, and why any of them gave up.
    ///
    /// # Errors
    /// One of them panicked.
    pub(super) fn come_home(self) -> anyhow::Result<(Vec<T>, u64, Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut works, mut asked_again, mut gave_up) = (Vec::new(), 0, Vec::new());
        for thread in self.threads {
            let (work, replay, ran) = thread.join().map_err(|_| anyhow!("an operator's thread panicked"))?;
            works.push(work);
            asked_again += replay;
            gave_up.extend(ran.err().map(|error| format!("an operator gave up: {error:#}")));
        }
        Ok((works, asked_again, gave_up))
    }
}
