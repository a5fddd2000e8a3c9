//! How an evening ends: faults stop, everybody is answered, and everything that anybody kept or heard agrees.

use storage::testing::faults::Faults;

use super::books::money::{all_quiet, all_together};
use super::device::Reader;
use super::disk::SHARDS;
use super::node::Node;
use super::terminal::Terminal;
use super::world::{World, shard_of};
use super::{Check, breach};

/// When faults have stopped, everything has to be answered within this time.
const QUIET_MS_MAX: i64 = 30_000;

impl World {
    /// Faults stop: everything is answered, everything agrees, once more after a last crash.
    pub(super) fn come_to_rest(&mut self) -> Check {
        if self.lied {
            self.crash();
            return self.start().map(|_| ());
        }
        self.net.calm = true;
        self.disk.set(Faults::default());
        self.down_until = self.step;
        // Connections stand again, and whoever waits for an answer asks again at once.
        if let Some(node) = &mut self.node {
            node.refuses.fill(false);
        }
        if self.node.as_ref().is_some_and(Node::has_a_shard_down) {
            self.crash(); // somebody has seen to it
            self.down_until = self.step;
        }
        (0..self.readers.len()).for_each(|reader| self.reconnect(reader));
        (0..self.terminals.len()).for_each(|terminal| self.terminal_reconnects(terminal));
        self.admin.hurry();
        let began = self.true_ms;
        while !self.is_at_rest() {
            if self.true_ms - began > QUIET_MS_MAX {
                return breach("when faults stop, every command is answered within 30 s", self.who_waits());
            }
            if self.step.is_multiple_of(5) {
                self.tick();
            }
            self.everything_moves()?;
        }
        self.audit(true)?;
        self.everything_heard_is_kept()?;
        self.snapshot()?;
        self.books_at_rest()?;
        self.crash();
        self.start()?;
        self.everything_heard_is_kept()?;
        self.audit(true)
    }

    /// A moment in which nothing goes wrong: packets arrive, every shard decides, the disk keeps up.
    pub(super) fn everything_moves(&mut self) -> Check {
        self.advance()?;
        for shard in 0..usize::from(SHARDS) {
            self.pump(shard)?;
            self.post(shard)?;
        }
        self.stage(u64::MAX)?;
        self.flush();
        while self.node.as_ref().is_some_and(Node::has_untold) {
            self.acknowledge_next()?;
        }
        Ok(())
    }

    fn who_waits(&self) -> String {
        let readers = self.readers.iter().filter(|reader| !reader.is_content()).count();
        let terminals = self.terminals.iter().filter(|terminal| !terminal.is_content()).count();
        let admin = if self.admin.is_content() { "" } else { ", the office" };
        let idle = self.node.as_ref().is_some_and(Node::is_idle);
        format!("{readers} readers, {terminals} terminals{admin} wait; shards at rest: {idle}")
    }

    /// Nothing is under way: neither in the books nor for anybody who still waits, and the audit agrees.
    fn books_at_rest(&mut self) -> Check {
        let money: Vec<_> = self.ledgers.iter().map(|ledger| &ledger.books.money).collect();
        all_together(&money)?;
        all_quiet(&money)?;
        self.audit_journal()?;
        let Some(node) = &mut self.node else { return Ok(()) };
        let waiting: Vec<_> = node.pipelines.iter_mut().flat_map(|pipeline| pipeline.go_down()).collect();
        match waiting.first() {
            None => Ok(()),
            Some(told) => breach("whoever waits is told when it is over", format!("{told:?}")),
        }
    }

    fn is_at_rest(&self) -> bool {
        self.node.as_ref().is_some_and(Node::is_idle)
            && self.net.is_empty()
            && self.admin.is_content()
            && self.readers.iter().all(Reader::is_content)
            && self.terminals.iter().all(Terminal::is_content)
    }

    /// Every final answer that anybody ever heard is in the books, to the last bit.
    fn everything_heard_is_kept(&mut self) -> Check {
        for reader in &self.readers {
            let books = &self.ledgers[shard_of(reader.id.festival())].books;
            for (seq, answer) in reader.answers() {
                if books.answer_of(reader.id, seq) != Some(*answer) {
                    let what = format!("{} seq {seq} was told {answer:?}", reader.id);
                    return breach("every acknowledged command is in the fold", what);
                }
            }
        }
        self.terminals_heard_the_books()
    }
}
