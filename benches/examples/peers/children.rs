//! Processes started here: each with its children in a group of its own, stopped by its id when this program ends,
//! however that is.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long a clean stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A process that ends with this value.
pub(crate) struct Running {
    child: Child,
    stop_with: Signal,
}

impl Running {
    /// Starts it, with what it says in a file. `stop_with` is the signal for a clean stop.
    pub(crate) fn start(mut command: Command, log: &Path, stop_with: Signal) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Self::spawn(command, stop_with)
    }

    /// Starts it as its command says.
    pub(crate) fn spawn(mut command: Command, stop_with: Signal) -> anyhow::Result<Self> {
        // A Ctrl-C at the terminal reaches this program alone, which then stops one after the other.
        let child = command.process_group(0).spawn().with_context(|| format!("{:?}", command.get_program()))?;
        Ok(Self { child, stop_with })
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The process, to wait for.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        if !self.ended() {
            let _ = kill_process(pid, self.stop_with);
            let began = Instant::now();
            while !self.ended() && began.elapsed() < STOP_WITHIN {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // Whatever it may have left behind, and itself if it would not stop. The group has its leader's number, which
        // nobody else gets for as long as a member lives; without members there is nothing to find.
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = self.child.wait();
    }
}
