//! Operators at work while the server is killed, each on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::anyhow;

use crate::admin::Admin;
use crate::admin::replay::{Attempt, Said};
use crate::drive::RunContext;
use crate::simulated::Wait;

pub(super) struct Operator {
    /// With which it calls.
    pub(super) admin: Admin,
    /// The clock that it shares with the terminals.
    pub(super) context: Arc<RunContext>,
    /// Calls made again before they were answered.
    pub(super) asked_again: u64,
    /// How long each answer was waited for.
    pub(super) waits: Vec<Wait>,
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
        let due_ns = self.context.ns();
        let answered = self.admin.insist(attempt)?;
        self.asked_again += answered.tries;
        self.waits.push(Wait { due_ns, told_ns: self.context.ns() });
        Ok((answered.said, answered.tries > 0))
    }
}

/// What all of them brought home.
pub(super) struct Home<T> {
    /// What they did.
    pub(super) works: Vec<T>,
    /// How often they asked again.
    pub(super) asked_again: u64,
    /// How long they waited, each time.
    pub(super) waits: Vec<Wait>,
    /// Why any of them gave up.
    pub(super) gave_up: Vec<String>,
}

/// All that do the same.
pub(super) struct Operators<T> {
    threads: Vec<JoinHandle<(T, Operator, anyhow::Result<()>)>>,
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
            let mut operator = Operator { admin, context, asked_again: 0, waits: Vec::new(), stop };
            std::thread::spawn(move || {
                let ran = run(&mut work, &mut operator);
                (work, operator, ran)
            })
        });
        Self { threads: threads.collect(), stop }
    }

    /// Waits until each has its last answer.
    ///
    /// # Errors
    /// One of them panicked.
    pub(super) fn come_home(self) -> anyhow::Result<Home<T>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut home = Home { works: Vec::new(), asked_again: 0, waits: Vec::new(), gave_up: Vec::new() };
        for thread in self.threads {
            let (work, operator, ran) = thread.join().map_err(|_| anyhow!("an operator's thread panicked"))?;
            home.works.push(work);
            home.asked_again += operator.asked_again;
            home.waits.extend(operator.waits);
            home.gave_up.extend(ran.err().map(|error| format!("an operator gave up: {error:#}")));
        }
        Ok(home)
    }
}
