//! From a tag to its wallet, over shards: a machine without I/O. QUIC, HTTP and the simulator drive the same one.
//!
//! A frame names the tag that was held to the terminal. Which wallet that is, the tag's home says ([`TagView`]); whoever has
//! asked once remembers the [`Link`], and mostly need not ask again.
//!
//! **Tags move.** The link's version travels with the command ([`Tap`]), and a wallet that was linked anew since says
//! `tag_moved` and has done nothing. The terminal is told Busy, sends the same frame again, and this time the tag's home is
//! asked. A second `tag_moved` to the same frame stands ([`MovedFrames`]).
//!
//! **A link that is younger than the tap is not what was tapped.** That is `tag_moved` too, at once and for good: neither
//! moment ever changes, so every door says the same, however often it is asked.
//!
//! **A frame that was sent before may have been decided by a wallet that the tag named then.** Those are asked first, oldest
//! first, and the one that it names now comes last ([`TagResolution`]). Whichever has decided it answers again; each of the
//! others says `tag_moved`, since the tap names a version that it no longer has.
//!
//! **A tag remembers eight wallets** ([`engine::cashless::tag::EARLIER_MAX`]), however often it has moved between them. If it has
//! named more since the tap, a frame that was sent before may have been decided by one that is forgotten. Then those that are
//! remembered are asked for what they have decided and decide nothing now; if none of them knows the frame, it is
//! `outcome_unknown`.
//!
//! **A tag that was lost** is refused by the wallet that it named last, which writes down that somebody has tried. It may not
//! have heard of the loss yet and decide instead; so it is asked only by a link that is older than the tap.
//!
//! What is refused here has no record: the shards do not know that number, and the same frame is looked at anew if it comes
//! again. A terminal sends again only what it has no answer to, so nobody has acted on the first one.
//!
//! Keys of QRs are not resolved here: whoever holds the secret that signs them verifies them, and one shard is asked at most.

use std::collections::VecDeque;
use std::vec::IntoIter;

use engine::cashless::command::{CashlessVerdict, Line, Tap, TerminalAction, TerminalAnswer};
use engine::cashless::view::{TagState, TagView, is_younger_than_tap};
use engine::model::ids::{TagUid, WalletId};
use engine::model::money::Money;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use engine::plants::{Plant, planted};

/// Frames of one session that may be sent again because their tag moved: as many as wait for a tag's home at once. An older
/// one that is sent again counts as new, and costs one more Busy.
const MOVED_MAX: usize = 64;

/// Versions begin at 1: a wallet that is asked by this one answers again what it has decided, and decides nothing.
const ANSWERS_ONLY: u32 = 0;

/// A tag that was held to a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tapped {
    pub tag: TagUid,
    /// When, in the server's time, as the frame says.
    pub captured_at: Timestamp,
    /// The frame may have gone to a shard before.
    pub resent: bool,
}

/// What a tag named when its home was asked. It need not be so any more: the wallet knows its tag and the link's version
/// itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub wallet: WalletId,
    /// The link's version.
    pub version: u32,
    /// When it was begun.
    pub linked_at: Timestamp,
    /// The tag has named other wallets before: what is sent again must be asked there first.
    pub had_others: bool,
}

/// What the answer of a tag's home comes to.
#[derive(Debug)]
pub enum Resolved {
    /// The command goes to this wallet.
    Wallet(WalletId, Tap),
    /// Several wallets have to be asked, or one whose answer may not be the last word.
    Candidates(TagResolution),
    /// No wallet is asked, and that is final.
    Rejected(Rejection),
}

/// Wallets to be asked one after the other, until one does not say `tag_moved`.
#[derive(Debug)]
pub struct TagResolution {
    tag: TagUid,
    /// With the version to ask by.
    candidates: IntoIter<(WalletId, u32)>,
    /// What it comes to if they all say `tag_moved`.
    otherwise: Step,
}

/// What a [`TagResolution`] needs next, or has come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Ask this wallet, and hand its answer to [`TagResolution::answered`].
    Ask(WalletId, Tap),
    /// This answer stands, whatever it says.
    Answered(TerminalAnswer),
    /// None of them has decided it, and none can. Final, also if it is `tag_moved`.
    Rejected(Rejection),
    /// None of them has decided it, and the tag has moved on while they were asked: for [`MovedFrames`].
    Moved,
}

/// The frames of one session that are to be sent again because their tag has moved.
#[derive(Debug, Default)]
pub struct MovedFrames {
    /// Oldest first.
    seqs: VecDeque<u64>,
}

/// What a frame asks of a wallet, whichever that turns out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum WalletRequest {
    Pay {
        /// How much.
        amount: Money,
        lines: Box<[Line]>,
    },
    /// To take cash.
    TopUp {
        /// How much.
        amount: Money,
    },
    /// To show its balance.
    Balance,
}

impl Link {
    /// What a tag names now: to be remembered, and the answer to whoever holds it in their hand with no command under way.
    ///
    /// # Errors
    /// [`Rejection::TagLost`]; [`Rejection::UnknownTag`] if it names no wallet, or none that has it yet.
    pub fn of(view: &TagView) -> Result<Self, Rejection> {
        match (view.state, view.wallet) {
            (TagState::Linked, Some(wallet)) => {
                let had_others = !view.earlier.is_empty();
                Ok(Self { wallet, version: view.version, linked_at: view.linked_at, had_others })
            }
            (TagState::Lost, _) => Err(Rejection::TagLost),
            _ => Err(Rejection::UnknownTag),
        }
    }
}

impl Tapped {
    /// Where the command goes by a link that is remembered; `afresh`: this frame has found it to be old. `None`: the tag's
    /// home has to be asked.
    pub fn by_link(&self, link: &Link, afresh: bool) -> Option<Result<(WalletId, Tap), Rejection>> {
        if afresh || (self.asks_earlier() && link.had_others) {
            return None;
        }
        if self.is_before(link.linked_at) {
            return Some(Err(Rejection::TagMoved)); // and so is each link that came after it
        }
        Some(Ok((link.wallet, Tap { tag: self.tag, version: link.version })))
    }

    /// Where the command goes by what the tag's home says now.
    pub fn by_view(&self, view: &TagView) -> Resolved {
        let mut candidates = if self.asks_earlier() { view.earlier.clone() } else { Vec::new() };
        let is_forgotten =
            self.resent && view.has_forgotten(self.captured_at) && !planted(Plant::ForgottenWalletsIgnored);
        let unless_forgotten = |step| if is_forgotten { Step::Rejected(Rejection::OutcomeUnknown) } else { step };
        let otherwise = match (view.state, view.wallet) {
            // A wallet that is about to have it may have it by the time that it is asked.
            (TagState::Linked | TagState::Linking, Some(_)) if self.is_before(view.linked_at) => {
                unless_forgotten(Step::Rejected(Rejection::TagMoved))
            }
            (TagState::Linked | TagState::Linking, Some(wallet)) => {
                let version = if is_forgotten { ANSWERS_ONLY } else { view.version };
                if candidates.is_empty() && !is_forgotten {
                    return Resolved::Wallet(wallet, Tap { tag: self.tag, version });
                }
                candidates.push((wallet, version));
                unless_forgotten(Step::Moved)
            }
            (TagState::Lost, _) => {
                let is_younger = self.is_before(view.linked_at);
                if candidates.is_empty() && !is_younger {
                    // The wallet that it named last knows that it was lost, and writes down that somebody has tried.
                    candidates.extend(view.earlier.last());
                } else if let Some((_, version)) = candidates.last_mut()
                    && (is_younger || is_forgotten)
                {
                    *version = ANSWERS_ONLY; // it may not have heard of the loss yet, and would decide
                }
                unless_forgotten(Step::Rejected(Rejection::TagLost))
            }
            _ => unless_forgotten(Step::Rejected(Rejection::UnknownTag)),
        };
        match otherwise {
            Step::Rejected(rejection) if candidates.is_empty() => Resolved::Rejected(rejection),
            otherwise => {
                Resolved::Candidates(TagResolution { tag: self.tag, candidates: candidates.into_iter(), otherwise })
            }
        }
    }

    /// Whether others than the wallet that the tag names now may have decided the frame.
    fn asks_earlier(&self) -> bool {
        self.resent && !planted(Plant::EarlierWalletsSkipped)
    }

    /// Whether the tag was held to the terminal before this link was begun.
    fn is_before(&self, linked_at: Timestamp) -> bool {
        is_younger_than_tap(linked_at, self.captured_at) && !planted(Plant::YoungLinkTaken)
    }
}

impl TagResolution {
    /// The first wallet to ask.
    pub fn begin(&mut self) -> Step {
        match self.candidates.next() {
            Some((wallet, version)) => Step::Ask(wallet, Tap { tag: self.tag, version }),
            None => self.otherwise,
        }
    }

    /// What the wallet that was asked last has said.
    pub fn answered(&mut self, answer: TerminalAnswer) -> Step {
        if is_moved(&answer) { self.begin() } else { Step::Answered(answer) }
    }
}

/// Whether a wallet says that the tag is not its own any more, or not by that version.
pub fn is_moved(answer: &TerminalAnswer) -> bool {
    answer.verdict == CashlessVerdict::Rejected(Rejection::TagMoved)
}

impl MovedFrames {
    /// Whether this frame's tag has moved, so that its home is to be asked afresh.
    pub fn contains(&self, seq: u64) -> bool {
        self.seqs.contains(&seq)
    }

    /// A frame has come to `tag_moved`: whether it is to be sent again. The first time; the second answer stands.
    pub fn is_to_come_again(&mut self, seq: u64) -> bool {
        if let Some(at) = self.seqs.iter().position(|moved| *moved == seq) {
            self.seqs.remove(at);
            return false;
        }
        if self.seqs.len() == MOVED_MAX {
            self.seqs.pop_front();
        }
        self.seqs.push_back(seq);
        true
    }
}

impl WalletRequest {
    /// The command's content, for this wallet.
    pub fn to(self, wallet: WalletId, tap: Option<Tap>) -> TerminalAction {
        match self {
            Self::Pay { amount, lines } => TerminalAction::Pay { wallet, tap, amount, lines },
            Self::TopUp { amount } => TerminalAction::TopUp { wallet, tap, amount },
            Self::Balance => TerminalAction::Balance { wallet, tap },
        }
    }
}
