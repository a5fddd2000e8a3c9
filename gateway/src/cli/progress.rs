//! How far a long command has come: a bar on a terminal, a line every few seconds where there is none. On standard error,
//! so that the answer itself can be piped.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How many records of a journal are done.
pub(super) struct Progress {
    shown: Shown,
    /// `None`: nobody knows how many there are.
    total: Option<u64>,
}

enum Shown {
    Bar(ProgressBar),
    Lines { to: Box<dyn Write>, began: Instant, last: Instant },
}

impl Progress {
    /// Of so many records, on standard error.
    pub(super) fn new(total: Option<u64>) -> Self {
        if !io::stderr().is_terminal() {
            return Self::lines(total, Box::new(io::stderr()), Instant::now());
        }
        let style = |template| ProgressStyle::with_template(template).expect("the template is well formed");
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{bar:40} {percent:>3} %  {human_pos} of {human_len} records  {per_sec}  {eta} to go",
            )),
            None => ProgressBar::new_spinner().with_style(style("{spinner} {human_pos} records  {per_sec}")),
        };
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { shown: Shown::Bar(bar), total }
    }

    fn lines(total: Option<u64>, to: Box<dyn Write>, began: Instant) -> Self {
        Self { shown: Shown::Lines { to, began, last: began }, total }
    }

    /// So many are done. Costs a look at the clock: not to be called for every record.
    pub(super) fn at(&mut self, done: u64) {
        self.at_time(done, Instant::now());
    }

    fn at_time(&mut self, done: u64, now: Instant) {
        match &mut self.shown {
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Lines { to, began, last } if now.duration_since(*last) >= LINE_EVERY => {
                *last = now;
                let took = now.duration_since(*began).as_secs_f64();
                // A command goes on though nobody can be told how far it is.
                let _ = match self.total {
                    Some(total) => {
                        let (percent, left) = ((done * 100 / total.max(1)).min(100), total.saturating_sub(done));
                        let to_go = left as f64 * took / done.max(1) as f64;
                        writeln!(to, "{percent:>3} %  {done} of {total} records  {took:.0} s, about {to_go:.0} s to go")
                    }
                    None => writeln!(to, "{done} records  {took:.0} s"),
                };
            }
            Shown::Lines { .. } => {}
        }
    }

    /// The bar goes; lines stay.
    pub(super) fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one thread").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn without_a_terminal_a_line_now_and_then() {
        for (total, expected) in [
            (
                Some(4_000),
                " 25 %  1000 of 4000 records  5 s, about 15 s to go\n 75 %  3000 of 4000 records  10 s, about 3 s to go\n",
            ),
            (None, "1000 records  5 s\n3000 records  10 s\n"),
            (
                Some(2_000),
                " 50 %  1000 of 2000 records  5 s, about 5 s to go\n100 %  3000 of 2000 records  10 s, about 0 s to go\n",
            ),
        ] {
            let (paper, began) = (Paper::default(), Instant::now());
            let mut progress = Progress::lines(total, Box::new(paper.clone()), began);
            for (seconds, done) in [(0, 0), (1, 500), (5, 1_000), (6, 1_500), (9, 2_900), (10, 3_000), (12, 3_100)] {
                progress.at_time(done, began + Duration::from_secs(seconds));
            }
            progress.finish();
            assert_eq!(String::from_utf8_lossy(&paper.0.lock().expect("one thread")), expected);
        }
    }
}
