//! Which wallet a wristband means, as tables: what its home says of it, what a frame says of the tap, and who is asked.
//! Times are seconds.

use actors::resolve::{Link, MovedFrames, Resolved, Step, Tapped};
use engine::cashless::command::TerminalAnswer;
use engine::cashless::view::{TagState, TagView};
use engine::model::ids::{TagUid, WalletId};
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;

fn tag() -> TagUid {
    TagUid::new(&[4, 1, 2, 3, 4, 5, 6]).unwrap()
}

fn second(word: &str) -> Timestamp {
    Timestamp(word.parse::<i64>().unwrap() * 1_000)
}

fn wallet(word: &str) -> WalletId {
    WalletId(word[1..].parse().unwrap())
}

/// `W1, W2, linked W3 at 20`: it has named two wallets before.
fn register(words: &str) -> TagView {
    let mut view = TagView {
        tag: tag(),
        state: TagState::Free,
        wallet: None,
        ticket: None,
        festival: None,
        version: 0,
        linked_at: Timestamp(0),
        earlier: Vec::new(),
        forgotten_until: Timestamp(0),
    };
    for words in words.split(", ") {
        match words.split(' ').collect::<Vec<_>>()[..] {
            [state @ ("linked" | "linking"), named, "at", at] => {
                view.state = if state == "linked" { TagState::Linked } else { TagState::Linking };
                (view.wallet, view.linked_at) = (Some(wallet(named)), second(at));
                view.version += 1;
            }
            [state @ ("free" | "lost")] => {
                view.state = if state == "free" { TagState::Free } else { TagState::Lost };
                view.earlier.extend(view.wallet.take().map(|wallet| (wallet, view.version)));
            }
            ["forgotten", "until", at] => {
                view.forgotten_until = second(at);
                view.version += 1;
            }
            [named] => {
                view.version += 1;
                view.earlier.push((wallet(named), view.version));
            }
            _ => panic!("{words}"),
        }
    }
    view
}

/// `tapped 10` or `tapped 10, resent`.
fn frame(words: &str) -> Tapped {
    let (at, resent) = words.split_once(", ").map_or((words, false), |(at, resent)| (at, resent == "resent"));
    Tapped { tag: tag(), captured_at: second(at.strip_prefix("tapped ").unwrap()), resent }
}

fn step_text(step: Step) -> String {
    match step {
        Step::Ask(wallet, tap) => format!("ask W{} by {}", wallet.0, tap.version),
        Step::Answered(answer) => format!("answered: {:?}", answer.verdict),
        Step::Rejected(rejection) => rejection.code().to_owned(),
        Step::Moved => "come again".to_owned(),
    }
}

/// Who is asked, while everybody says `tag_moved`.
fn walk(resolved: Resolved) -> String {
    match resolved {
        Resolved::Wallet(wallet, tap) => format!("W{} by {}", wallet.0, tap.version),
        Resolved::Rejected(rejection) => rejection.code().to_owned(),
        Resolved::Candidates(mut resolution) => {
            let mut steps = vec![resolution.begin()];
            while let Some(Step::Ask(wallet, _)) = steps.last() {
                let moved = TerminalAnswer::rejected(Rejection::TagMoved, *wallet, Timestamp(0));
                steps.push(resolution.answered(moved));
            }
            steps.into_iter().map(step_text).collect::<Vec<_>>().join(", ")
        }
    }
}

#[test]
fn the_wallet_that_a_wristband_named_when_it_was_tapped() {
    for (home_says, frame_says, comes_to) in [
        // A fresh tap.
        ("linked W1 at 0", "tapped 10", "W1 by 1"),
        ("W1, linked W2 at 0", "tapped 10", "W2 by 2"),
        ("W1, linking W2 at 0", "tapped 10", "W2 by 2"),
        ("free", "tapped 10", "unknown_tag"),
        ("W1, free", "tapped 10", "unknown_tag"),
        // The wallet that it named last writes down that somebody has tried.
        ("W1, W2, lost", "tapped 10", "ask W2 by 2, tag_lost"),
        ("lost", "tapped 10", "tag_lost"),
        // It may not have heard of the loss, and must not decide by a link that is younger than the tap.
        ("linked W1 at 12, lost", "tapped 10", "ask W1 by 1, tag_lost"),
        ("linked W1 at 13, lost", "tapped 10", "tag_lost"),
        ("W1, linked W2 at 13, lost", "tapped 10, resent", "ask W1 by 1, ask W2 by 0, tag_lost"),
        // The link is younger than the tap, by more than clocks are off.
        ("linked W1 at 12", "tapped 10", "W1 by 1"),
        ("linked W1 at 13", "tapped 10", "tag_moved"),
        ("W1, linked W2 at 13", "tapped 10", "tag_moved"),
        ("W1, linking W2 at 13", "tapped 10", "tag_moved"),
        // Sent before: whoever may have decided it is asked first, and oldest first.
        ("linked W1 at 0", "tapped 10, resent", "W1 by 1"),
        ("W1, W2, linked W3 at 0", "tapped 10, resent", "ask W1 by 1, ask W2 by 2, ask W3 by 3, come again"),
        ("W1, linked W2 at 13", "tapped 10, resent", "ask W1 by 1, tag_moved"),
        ("W1, free", "tapped 10, resent", "ask W1 by 1, unknown_tag"),
        ("W1, W2, lost", "tapped 10, resent", "ask W1 by 1, ask W2 by 2, tag_lost"),
        // One of those that it has named since the tap is forgotten: nobody decides anything now.
        ("forgotten until 9, W2, linked W3 at 12", "tapped 10, resent", "ask W2 by 2, ask W3 by 0, outcome_unknown"),
        ("forgotten until 9, W2, linked W3 at 13", "tapped 10, resent", "ask W2 by 2, outcome_unknown"),
        ("forgotten until 9, W2, free", "tapped 10, resent", "ask W2 by 2, outcome_unknown"),
        ("forgotten until 9, W2, lost", "tapped 10, resent", "ask W2 by 0, outcome_unknown"),
        // It was forgotten before the tap, or the frame was never sent: nobody who is forgotten can have decided it.
        ("forgotten until 7, W2, linked W3 at 8", "tapped 10, resent", "ask W2 by 2, ask W3 by 3, come again"),
        ("forgotten until 9, W2, linked W3 at 12", "tapped 10", "W3 by 3"),
    ] {
        assert_eq!(walk(frame(frame_says).by_view(&register(home_says))), comes_to, "{home_says}; {frame_says}");
    }
}

#[test]
fn the_first_who_knows_the_frame_has_the_last_word() {
    let view = register("W1, W2, linked W3 at 0");
    let Resolved::Candidates(mut resolution) = frame("tapped 10, resent").by_view(&view) else {
        panic!("three wallets may know it")
    };
    let answer = |rejection, wallet| TerminalAnswer::rejected(rejection, WalletId(wallet), Timestamp(0));
    assert_eq!(step_text(resolution.begin()), "ask W1 by 1");
    assert_eq!(step_text(resolution.answered(answer(Rejection::TagMoved, 1))), "ask W2 by 2");
    let refused = answer(Rejection::InsufficientFunds, 2);
    assert_eq!(resolution.answered(refused), Step::Answered(refused));
}

#[test]
fn a_link_that_is_remembered_spares_the_question_while_it_can() {
    for (home_said, frame_says, afresh, comes_to) in [
        ("linked W1 at 0", "tapped 10", false, "W1 by 1"),
        ("W1, linked W2 at 0", "tapped 10", false, "W2 by 2"),
        ("linked W1 at 0", "tapped 10, resent", false, "W1 by 1"),
        ("linked W1 at 13", "tapped 10", false, "tag_moved"),
        ("linked W1 at 13", "tapped 10, resent", false, "tag_moved"),
        // Another may have decided it.
        ("W1, linked W2 at 0", "tapped 10, resent", false, "the home is asked"),
        ("W1, linked W2 at 13", "tapped 10, resent", false, "the home is asked"),
        // The wallet has said that the tag is not its own any more.
        ("linked W1 at 0", "tapped 10", true, "the home is asked"),
        // Nothing is remembered of it.
        ("linking W1 at 0", "tapped 10", false, "unknown_tag"),
        ("free", "tapped 10", false, "unknown_tag"),
        ("W1, lost", "tapped 10", false, "tag_lost"),
    ] {
        let found = match Link::of(&register(home_said)).map(|link| frame(frame_says).by_link(&link, afresh)) {
            Ok(Some(Ok((wallet, tap)))) => format!("W{} by {}", wallet.0, tap.version),
            Ok(None) => "the home is asked".to_owned(),
            Err(rejection) | Ok(Some(Err(rejection))) => rejection.code().to_owned(),
        };
        assert_eq!(found, comes_to, "{home_said}; {frame_says}; afresh: {afresh}");
    }
}

#[test]
fn a_frame_whose_wristband_moved_comes_again_once() {
    let mut moved = MovedFrames::default();
    assert!(!moved.contains(7));
    assert!(moved.is_to_come_again(7), "the first time");
    assert!(moved.contains(7), "so its tag's home is asked");
    assert!(!moved.is_to_come_again(7), "the second answer stands");
    assert!(!moved.contains(7));
    // Only so many are remembered; an older one counts as new.
    (0..1_000).for_each(|seq| assert!(moved.is_to_come_again(seq)));
    assert_eq!((0..1_000).filter(|seq| moved.contains(*seq)).count(), 64);
    assert!(!moved.is_to_come_again(999) && moved.is_to_come_again(0));
}
