//! The guide in the API's documentation, followed word for word: its shell lines as they stand, and the device's lines
//! with the library.

mod common;

use std::process::{Command, Stdio};

use common::process::Running;
use engine::cashless::command::CashlessVerdict;
use engine::gates::command::{Direction, Verdict};
use engine::model::ids::TagUid;
use engine::model::money::{Currency, Money};
use rustix::process::Signal;
use serde_json::Value;
use tapgate_client::{Read, Reader, ReaderOptions, Shown, Terminal, enrol};

const GUIDE: &str = include_str!("../src/http/kit/guide.md");

#[test]
fn from_nothing_to_the_first_scan_and_the_first_payment() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Running::start(&data, &[]);
    let key = server.admin(&data).key().to_owned();
    let blocks = GUIDE.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let script = blocks.fold("set -eu\n".to_owned(), |script, block| script + block);
    assert!(script.matches("change ").count() > 10, "does this test still read the guide?");
    let ran = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("TAPGATE", format!("http://{}", server.http))
        .env("TAPGATE_KEY", key)
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));

    let file = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let ticket: Value = serde_json::from_str(file("ticket.json").lines().next().unwrap()).unwrap();
    let qr = ticket["qr"].as_str().unwrap().as_bytes().to_vec();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        let offer = file("reader.offer").trim().parse().expect("an offer");
        let identity = enrol(&offer, &folder.path().join("reader.key")).await.unwrap();
        let queue = ReaderOptions::with_queue(&folder.path().join("reader.queue"));
        let reader = Reader::connect(identity, queue).await.unwrap();
        let scanned = reader.scan(Read::Qr(qr), Direction::Enter).await.unwrap();
        assert_eq!(scanned.answer.verdict, Verdict::Admitted);
        reader.close().await;

        let offer = file("terminal.offer").trim().parse().expect("an offer");
        let identity = enrol(&offer, &folder.path().join("terminal.key")).await.unwrap();
        let queue = ReaderOptions::with_queue(&folder.path().join("terminal.queue"));
        let terminal = Terminal::connect(identity, queue).await.unwrap();
        let uid = TagUid::new(&[0x04, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0x80]).unwrap();
        let lager = Money { minor: 500, currency: Currency::EUR };
        let told = terminal.pay(Shown::Tag(uid), lager, &[]).await.unwrap();
        assert_eq!((told.answer.verdict, told.answer.balance), (CashlessVerdict::Paid, 4_000), "of 50.00, two lagers");
        terminal.close().await;
    });
    assert_eq!(server.end(Signal::INT), Some(0));
}
