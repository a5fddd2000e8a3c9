//! PROTOCOL.md holds the tables that this crate has, to the letter. `BLESS=1 cargo test -p tapgate-wire protocol` writes
//! them anew; a change in them is a change of the protocol.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use engine::cashless::command::{CashlessVerdict, LINES_MAX, OVER_LIMIT};
use engine::cashless::event::TransactionKind;
use engine::gates::command::{CONFLICT, FIRST_ENTRY, UNLOGGED, WAS_NOT_INSIDE};

use super::layout::cashless::*;
use super::layout::*;
use super::*;
use crate::macros::Field;

const OPEN: &str = "<!-- table: ";
const CLOSE: &str = "<!-- end of table -->";

/// A kind of frame: its name, the layout behind its header, what follows that, its flags.
struct Kind {
    number: u8,
    name: &'static str,
    body: &'static [Field],
    then: &'static [&'static str],
    flags: &'static [(u8, &'static str)],
}

const RESENT_MEANS: (u8, &str) = (RESENT, "sent before, on another connection");

fn kinds() -> Vec<Kind> {
    let kind = |number, name, body, then, flags| Kind { number, name, body, then, flags };
    vec![
        kind(HELLO, "Hello", HelloBody::FIELDS, &[], &[]),
        kind(PROOF, "Proof", ProofBody::FIELDS, &[], &[]),
        kind(ENROL, "Enrol", EnrolBody::FIELDS, &["the code, 1 to 64 bytes"], &[]),
        kind(SCAN, "Scan", ScanBody::FIELDS, &["the credential"], &[RESENT_MEANS]),
        kind(UNDO, "Undo", UndoBody::FIELDS, &[], &[RESENT_MEANS]),
        kind(PING, "Ping", &[], &[], &[]),
        kind(PINNED, "Pinned", PinnedBody::FIELDS, &[], &[]),
        kind(BYE, "Bye", &[], &[], &[]),
        kind(PAY, "Pay", PayBody::FIELDS, &["so many *lines of a payment*", "the wallet name"], &[RESENT_MEANS]),
        kind(
            REFUND,
            "Refund",
            RefundBody::FIELDS,
            &["with flag 2 *a part*", "with flag 4 1 to 32 *lines of a refund*"],
            &[RESENT_MEANS, (PART, "only a part of the payment"), (LINES, "products of the payment")],
        ),
        kind(TOP_UP, "TopUp", TopUpBody::FIELDS, &["the wallet name"], &[RESENT_MEANS]),
        kind(BALANCE, "Balance", BalanceBody::FIELDS, &["the wallet name"], &[RESENT_MEANS]),
        kind(ASK_RECENT, "AskRecent", AskRecentBody::FIELDS, &[], &[]),
        kind(CHALLENGE, "Challenge", ChallengeBody::FIELDS, &[], &[]),
        kind(WELCOME, "Welcome", WelcomeBody::FIELDS, &["four texts: device, festival, gate, zone"], &[]),
        kind(ENROLLED, "Enrolled", EnrolledBody::FIELDS, &[], &[]),
        kind(REFUSE, "Refuse", RefuseBody::FIELDS, &["a text: the same in words"], &[]),
        kind(
            TERMINAL_WELCOME,
            "TerminalWelcome",
            TerminalWelcomeBody::FIELDS,
            &["three texts: device, festival, vendor"],
            &[(VENDOR, "it takes payments for a vendor"), (CASHIER, "it tops up with cash")],
        ),
        kind(
            ANSWER,
            "Answer",
            AnswerBody::FIELDS,
            &["with flag 2 *a first use*"],
            &[(DURABLE, "on disk; without it a Confirmed follows"), (FIRST_USE, "says when the ticket came in first")],
        ),
        kind(CONFIRMED, "Confirmed", &[], &["1 to 85 *ranges*"], &[]),
        kind(BUSY, "Busy", BusyBody::FIELDS, &[], &[]),
        kind(NOTICE, "Notice", NoticeBody::FIELDS, &[], &[]),
        kind(CASHLESS_ANSWER, "CashlessAnswer", CashlessAnswerBody::FIELDS, &[], &[]),
        kind(
            RECENT_ROWS,
            "RecentRows",
            RecentRowsBody::FIELDS,
            &["up to 17 *rows*, the newest first"],
            &[(LAST, "the last frame of this answer")],
        ),
    ]
}

/// All tables, by the name that their marker has.
fn tables() -> Vec<(String, String)> {
    let mut all = vec![
        ("header".to_owned(), fields(Header::FIELDS, 0, &[])),
        ("kinds".to_owned(), index()),
        ("bounds".to_owned(), bounds()),
        ("proof".to_owned(), proof_message()),
    ];
    for kind in kinds() {
        all.push((format!("frame 0x{:02X}", kind.number), frame_of(&kind)));
    }
    for (name, part) in [
        ("packed ticket", PackedQr::FIELDS),
        ("packed wallet", PackedWallet::FIELDS),
        ("line of a payment", LineItem::FIELDS),
        ("line of a refund", ReturnedItem::FIELDS),
        ("part", PartBody::FIELDS),
        ("first use", FirstUseBody::FIELDS),
        ("range", SeqRange::FIELDS),
        ("row", RecentRow::FIELDS),
    ] {
        all.push((name.to_owned(), fields(part, 0, &[])));
    }
    let numbers = |rows: &[(u8, &str)]| rows.iter().map(|(n, says)| vec![n.to_string(), (*says).to_owned()]).collect();
    let table = |head: &[&str], rows: Vec<Vec<String>>| table(head, &rows);
    all.extend([
        (
            "credentials".to_owned(),
            table(
                &["number", "what was read", "bytes"],
                vec![
                    three(QR_PACKED, "a ticket's QR, packed", "a *packed ticket*"),
                    three(QR_RAW, "any other QR", &format!("what was read, 0 to {QR_SENT_MAX} bytes")),
                    three(TAG, "a wristband", "the chip's UID: 4, 7 or 10 bytes"),
                ],
            ),
        ),
        (
            "wallet names".to_owned(),
            table(
                &["number", "what names the wallet", "bytes"],
                vec![
                    three(QR_PACKED, "a wallet's QR, packed", "a *packed wallet*"),
                    three(QR_RAW, "any other QR", &format!("what was read, 0 to {QR_SENT_MAX} bytes")),
                    three(TAG, "a wristband", "the chip's UID: 4, 7 or 10 bytes"),
                    three(WALLET_ID, "its id", "u64, not 0"),
                ],
            ),
        ),
        (
            "verdicts".to_owned(),
            table(
                &["number", "a reader's verdict"],
                (200..=u8::MAX)
                    .filter_map(|n| Some(vec![n.to_string(), format!("{:?}", Verdict::from_number(n)?)]))
                    .collect(),
            ),
        ),
        (
            "cash verdicts".to_owned(),
            table(
                &["number", "a terminal's verdict"],
                (200..=u8::MAX)
                    .filter_map(|n| Some(vec![n.to_string(), format!("{:?}", CashlessVerdict::from_number(n)?)]))
                    .collect(),
            ),
        ),
        (
            "rejections".to_owned(),
            table(
                &["number", "code", "to say aloud"],
                (0..=u8::MAX)
                    .filter_map(Rejection::from_number)
                    .map(|no| vec![(no as u8).to_string(), format!("`{}`", no.code()), no.sentence().to_owned()])
                    .collect(),
            ),
        ),
        (
            "refusals".to_owned(),
            table(
                &["number", "code", "closes with", "in words"],
                (256..=u16::MAX)
                    .filter_map(Refusal::from_number)
                    .map(|no| {
                        let (number, closes) = (no.number().to_string(), no.close_code().to_string());
                        vec![number, format!("`{no}`"), closes, no.sentence().to_owned()]
                    })
                    .collect(),
            ),
        ),
        (
            "close codes".to_owned(),
            table(
                &["number", "name", ""],
                close::ALL
                    .iter()
                    .map(|(n, name, says)| vec![n.to_string(), format!("`{name}`"), says.trim().to_owned()])
                    .collect(),
            ),
        ),
        (
            "answer flags".to_owned(),
            table(
                &["bit", "in an Answer"],
                numbers(&[
                    (WAS_NOT_INSIDE, "the exit was counted for nobody: the holder was not inside"),
                    (CONFLICT, "the reader had shown another answer, and that one stands"),
                    (UNLOGGED, "this rejection is left out of the access log"),
                    (FIRST_ENTRY, "the ticket's first entry"),
                ]),
            ),
        ),
        (
            "cash answer flags".to_owned(),
            table(
                &["bit", "in a CashlessAnswer or row"],
                numbers(&[(
                    OVER_LIMIT,
                    "the wallet holds more than the festival allows; the money had been taken already",
                )]),
            ),
        ),
        (
            "notices".to_owned(),
            table(
                &["number", "notice"],
                numbers(&[
                    (NOTICE_ZONE, "`zone` is in `state` from now on"),
                    (NOTICE_REVOKED, "this device was revoked; a Refuse follows"),
                    (NOTICE_SLOW_DOWN, "too many frames: send none for `retry_after_ms`"),
                    (NOTICE_POLICY, "answers leave at another moment from now on: say hello again to learn when"),
                    (NOTICE_CLOSING, "the server stops; come again after `retry_after_ms`"),
                ]),
            ),
        ),
        ("zone states".to_owned(), words(&["number", "zone state"], ZoneState::ALL, |one| (*one as u8, one.word()))),
        ("acks".to_owned(), words(&["number", "answers leave"], ScanAck::ALL, |one| (*one as u8, one.word()))),
        (
            "transaction kinds".to_owned(),
            words(
                &["number", "transaction"],
                &[TransactionKind::TopUp, TransactionKind::Payment, TransactionKind::Refund],
                |one| (*one as u8, one.word()),
            ),
        ),
    ]);
    all
}

fn three(number: u8, what: &str, bytes: &str) -> Vec<String> {
    vec![number.to_string(), what.to_owned(), bytes.to_owned()]
}

fn words<T>(head: &[&str], all: &[T], of: impl Fn(&T) -> (u8, &'static str)) -> String {
    let rows: Vec<_> = all.iter().map(|one| vec![of(one).0.to_string(), format!("`{}`", of(one).1)]).collect();
    table(head, &rows)
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// One row a field, from byte `from` on, and what follows them.
fn fields(all: &[Field], from: usize, then: &[&str]) -> String {
    let mut rows: Vec<_> = all
        .iter()
        .map(|Field { name, of, at, len, says }| {
            let of = match of.strip_prefix('[') {
                Some(_) => format!("{len} bytes"),
                None => of.to_lowercase(),
            };
            vec![(from + at).to_string(), format!("`{name}`"), of, says.trim().to_owned()]
        })
        .collect();
    let end = from + all.iter().map(|field| field.len).sum::<usize>();
    for (n, what) in then.iter().enumerate() {
        let at = if n == 0 { end.to_string() } else { "then".to_owned() };
        rows.push(vec![at, String::new(), String::new(), (*what).to_owned()]);
    }
    if rows.is_empty() {
        "Nothing follows the header.\n".to_owned()
    } else {
        table(&["at", "field", "type", ""], &rows)
    }
}

fn frame_of(kind: &Kind) -> String {
    let mut text = fields(kind.body, HEADER_LEN, kind.then);
    if !kind.flags.is_empty() {
        let flags: Vec<_> = kind.flags.iter().map(|(bit, says)| format!("{bit} {says}")).collect();
        let _ = writeln!(text, "\nFlags: {}.", flags.join("; "));
    }
    text
}

fn index() -> String {
    let row = |kind: Kind| {
        let from = if kind.number < 0x80 { "device" } else { "server" };
        vec![format!("0x{:02X}", kind.number), kind.name.to_owned(), from.to_owned()]
    };
    table(&["kind", "frame", "from the"], &kinds().into_iter().map(row).collect::<Vec<_>>())
}

fn bounds() -> String {
    let row = |what: &str, most: u64| vec![what.to_owned(), most.to_string()];
    table(
        &["bound", "at most"],
        &[
            row("bytes of a frame", FRAME_LEN_MAX as u64),
            row("bytes of a raw QR that are sent; longer ones are cut, and stay too long", QR_SENT_MAX as u64),
            row("bytes of an enrolment code", CODE_LEN_MAX as u64),
            row("bytes of a text", TEXT_LEN_MAX as u64),
            row("how far `seq` may be above the floor", WINDOW_MAX),
            row("ranges in a Confirmed", RANGES_MAX as u64),
            row("numbers in a range", WINDOW_MAX),
            row("lines of a payment or a refund", LINES_MAX as u64),
            row("rows that an AskRecent may ask for", u64::from(RECENT_MAX)),
            row("rows in a RecentRows", RECENT_ROWS_MAX as u64),
            row("zones; numbers are below it", ZONES_MAX as u64),
        ],
    )
}

fn proof_message() -> String {
    // Each part is found where the code has put it.
    let (nonce, device, binding) = ([0xA1; 32], DeviceId(0xB2B2_B2B2_B2B2_B2B2), [0xC3; 32]);
    let message = proof::message(&nonce, device, &binding);
    let span = |byte: u8| {
        let at = message.iter().position(|found| *found == byte).expect("it is in there");
        (at, message.iter().filter(|found| **found == byte).count())
    };
    let row = |(at, len): (usize, usize), what: String| vec![at.to_string(), format!("{len} bytes"), what];
    let label = str::from_utf8(&message[..span(0xA1).0]).expect("ASCII");
    let exporter = str::from_utf8(proof::EXPORTER_LABEL).expect("ASCII");
    table(
        &["at", "", ""],
        &[
            row((0, label.len()), format!("the ASCII letters `{label}`")),
            row(span(0xA1), "the nonce of the Challenge".to_owned()),
            row(span(0xB2), "the device's id, little endian".to_owned()),
            row(span(0xC3), format!("what TLS exports for the label `{exporter}` with an empty context")),
        ],
    )
}

#[test]
fn the_document_says_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let tables = tables();
    let mut blessed = String::new();
    let mut used = BTreeSet::new();
    let mut rest = &found[..];
    while let Some(at) = rest.find(OPEN) {
        let name_at = at + OPEN.len();
        let name = &rest[name_at..name_at + rest[name_at..].find(" -->").expect("a marker ends")];
        let end = at + rest[at..].find(CLOSE).unwrap_or_else(|| panic!("the table `{name}` has no end"));
        let (_, text) =
            tables.iter().find(|(of, _)| of == name).unwrap_or_else(|| panic!("there is no table `{name}`"));
        assert!(used.insert(name.to_owned()), "the table `{name}` is there twice");
        let _ = write!(blessed, "{}{OPEN}{name} -->\n{text}{CLOSE}", &rest[..at]);
        rest = &rest[end + CLOSE.len()..];
    }
    blessed.push_str(rest);
    let missing: Vec<_> = tables.iter().map(|(name, _)| name).filter(|name| !used.contains(*name)).collect();
    assert!(missing.is_empty(), "PROTOCOL.md lacks {missing:?}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &blessed).unwrap();
    } else if let Some((ours, theirs)) = blessed.lines().zip(found.lines()).find(|(ours, theirs)| ours != theirs) {
        panic!(
            "PROTOCOL.md says\n  {theirs}\nand the code\n  {ours}\nThis changes the protocol; if so, run with BLESS=1"
        );
    } else {
        assert_eq!(blessed, found);
    }
}

#[test]
fn every_kind_with_its_flags_is_documented() {
    let kinds = kinds();
    assert_eq!(kinds.iter().map(|kind| kind.number).collect::<Vec<_>>(), layout::KINDS);
    for kind in kinds {
        let documented = kind.flags.iter().fold(0, |bits, (bit, _)| bits | bit);
        assert_eq!(documented, known_flags(kind.number), "{}", kind.name);
    }
}
