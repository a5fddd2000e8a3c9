use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use crate::cli::top::feed::{History, News};
use crate::cli::top::screen::*;

/// A festival with one gate and one zone, a second of ten entries behind it; `cash` is the money's half.
fn history(zone_state: &str, cash: Value) -> Value {
    let second = |at: i64| {
        json!({
            "at": at, "spanMs": 1000, "admitted": 10, "exited": 2, "rejected": 1, "inside": 800, "p50Us": 400, "p99Us": 2600,
            "gates": [[10, 2, 1]], "reasons": {},
            "cash": (!cash.is_null()).then(|| json!({
                "payments": 2, "refunds": 0, "topUps": 0, "rejected": 1, "soldMinor": 1250, "toppedUpMinor": 0,
                "vendors": [[2, 1250], [0, 0]], "reasons": {},
            })),
        })
    };
    json!({
        "festival": {"slug": "night", "name": "Night on the lake", "startsAt": 0, "endsAt": 1},
        "points": [second(64_999_000), second(65_000_000)],
        "now": {
            "at": 65_000_000, "status": "ONGOING", "recording": true,
            "zones": [{"no": 0, "name": "Field", "parent": null, "capacity": 1000, "occupancy": 800, "state": zone_state}],
            "gates": [{"no": 0, "name": "North", "zone": 0, "admitted": 12480, "exited": 40, "rejected": 7}],
            "rejections": [{"code": "invalid_qr", "say": "This is not one of our tickets.", "count": 7}],
            "conflicts": 0,
            "latest": [{"at": 64_990_000, "gate": 0, "device": "d-1", "code": "invalid_qr",
                        "say": "This is not one of our tickets.", "ticket": null, "conflict": false}],
            "latency": {"p50Us": 400, "p99Us": 2600, "answers": 1200, "windowS": 10},
            "cash": cash,
            "somethingNewer": {"of": "no concern here"},
        },
    })
}

fn cash(trial_balance: &str, current: bool) -> Value {
    json!({
        "currency": "EUR", "decimals": 2, "current": current, "inWallets": "412380.50", "inTransit": "0.00", "sold": "1250.00",
        "refunded": "50.00", "toppedUp": "0.00", "payable": "0.00", "commission": "0.00", "payments": 2, "refunds": 0,
        "topUps": 0, "transfers": 0, "trialBalance": trial_balance,
        "vendors": [
            {"no": 0, "name": "Crêpes", "open": true, "payments": 2, "refunds": 0, "sold": "1250.00", "refunded": "50.00",
             "payable": "0.00", "heard": 1, "terminals": 2},
            {"no": 1, "name": "Lake bar", "open": false, "payments": 2, "refunds": 0, "sold": "9000.00",
             "refunded": "0.00", "payable": "0.00", "heard": 0, "terminals": 0},
        ],
        "rejections": [{"code": "insufficient_funds", "say": "There is not enough money on this wristband.", "count": 3}],
        "latest": [{"at": 64_980_000, "device": "d-2", "terminal": "Crêpes 1", "vendor": 0, "kind": "PAYMENT",
                    "code": "insufficient_funds", "say": "There is not enough money on this wristband.",
                    "wallet": "w", "amount": "12.50"}],
        "terminals": {"heard": 1, "silent": 2, "unused": 1, "silentAfterS": 300, "silentList": [
            {"device": "d-3", "name": "Crêpes 2", "vendor": 0, "lastSeenAt": 64_580_000},
            {"device": "d-4", "name": "Desk", "vendor": null, "lastSeenAt": 60_000_000},
        ]},
    })
}

fn watch(history: Value) -> Watch {
    let mut watch = Watch::of("night");
    watch.take(News::History(Box::new(serde_json::from_value::<History>(history).unwrap())));
    watch
}

/// What a terminal of this size shows.
fn shown(watch: &Watch, (width, height): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let screen = Screen { watch, which: (1, 2), keys: true };
    terminal.draw(|frame| frame.render_widget(&screen, frame.area())).unwrap();
    lines(terminal.backend().buffer())
}

#[test]
fn the_gates_alone_at_the_usual_size() {
    let expected = [
        "Night on the lake  ONGOING       ● live  18:03:20 UTC  1 of 2, Tab: next  q: quit",
        "╭ Gates ────────────────────────────────────────────────────────────────────────╮",
        "│Inside     800 of 1,000  80 %                                                  │",
        "│Scans/s    10 in  2.0 out  1.0 rejected                                        │",
        "│Answers    p50 0.40 ms  p99 2.6 ms  of 1,200 in 10 s                           │",
        "│██                                                                             │",
        "│Field              ████████░░ 800 of 1,000  80 %                               │",
        "│Gate                                               In/s  Out/s  Rej/s  Admitted│",
        "│North                                                10    2.0    1.0    12,480│",
        "│Invalid QR 7                                                                   │",
        "│18:03:10 Invalid QR North “This is not one of our tickets.”                    │",
        "│                                                                               │",
    ];
    assert_eq!(shown(&watch(history("OPEN", Value::Null)), (81, 18))[..12], expected);
}

#[test]
fn what_is_on_the_screen() {
    let wide = (140, 30);
    let open = |cash| watch(history("OPEN", cash));
    let lost = {
        let mut watch = open(Value::Null);
        watch.take(News::Lost("cannot reach the server".into()));
        watch
    };
    let refused = {
        let mut watch = Watch::of("night");
        watch.take(News::No("this key is not known, or it has been revoked".into()));
        watch
    };
    type Case = (&'static str, Watch, (u16, u16), &'static [&'static str], &'static [&'static str]);
    let table: [Case; 8] = [
        ("no money, no half", open(Value::Null), wide, &["╭ Gates "], &["Cashless", "books"]),
        (
            "both halves side by side",
            open(cash("0.00", true)),
            wide,
            &[
                "╮╭ Cashless ",
                "412,380.50 EUR   ✓ books come to 0.00",
                "750 EUR  120 payments  60 refused",
                "Terminals  1 of 4 in 5 min   silent: Crêpes 2 (7 min) and 1 more",
                "Insufficient funds 3",
                "18:03:00 Insufficient funds 12.50 Crêpes 1",
                "“There is not enough money on this wristband.”",
            ],
            &["do not add up"],
        ),
        ("one below the other", open(cash("0.00", true)), (80, 40), &["│Wallets    412,380.50 EUR"], &["╮╭"]),
        (
            "a cent is missing",
            open(cash("-0.01", true)),
            wide,
            &["The books do not add up: all accounts come to -0.01.", "✗ books come to -0.01"],
            &["✓"],
        ),
        ("a shard is silent", open(cash("0.00", false)), wide, &["the last that were known"], &[]),
        (
            "an evacuation comes before the money",
            watch(history("EVACUATING", cash("-0.01", true))),
            wide,
            &["Evacuation. Field: 800 still inside.", "  EVACUATING"],
            &["do not add up"],
        ),
        ("the last picture stays", lost, wide, &["○ lost: cannot reach the server", "800 of 1,000"], &["● live"]),
        ("nothing came", refused, wide, &["this key is not known, or it has been revoked"], &["Gates"]),
    ];
    for (what, watch, size, has, has_not) in table {
        let text = shown(&watch, size).join("\n");
        for part in has {
            assert!(text.contains(part), "{what}: no {part:?} in\n{text}");
        }
        for part in has_not {
            assert!(!text.contains(part), "{what}: {part:?} in\n{text}");
        }
    }
}

#[test]
fn vendors_go_by_what_they_sold() {
    let text = shown(&watch(history("OPEN", cash("0.00", true))), (140, 30));
    let row = |name: &str| text.iter().position(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name}"));
    assert!(row("Lake bar ") < row("Crêpes  "));
    let crepes = &text[row("Crêpes  ")];
    let columns: Vec<_> = crepes.rsplit("││").next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["Crêpes", "750", "120", "1,200.00", "1/2", "│"], "net of refunds");
    assert!(text[row("Lake bar ")].contains("closed"));
}

#[test]
fn any_size_is_drawn() {
    let watch = watch(history("EVACUATING", cash("1.00", true)));
    for width in [1, 2, 5, 20, 79, 109, 110, 300] {
        for height in [1, 2, 3, 4, 7, 12, 24, 100] {
            let text = shown(&watch, (width, height));
            assert!(text.len() <= usize::from(height), "{width} × {height}");
        }
    }
}

#[test]
fn numbers_read_as_people_write_them() {
    for (n, text) in [(0_u64, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(count(n), text);
    }
    for (minor, decimals, text) in
        [(0, 2, "0.00"), (-5, 2, "-0.05"), (123_456, 2, "1,234.56"), (-123_456, 0, "-123,456"), (123_456, 3, "123.456")]
    {
        assert_eq!(money(Amount { minor, decimals }), text);
    }
    for (per_s, text) in
        [(None, "–"), (Some(0.04), "0.0"), (Some(9.94), "9.9"), (Some(9.96), "10"), (Some(1e4), "10,000")]
    {
        assert_eq!(rate(per_s), text);
    }
    for (us, text) in [(420, "0.42"), (2_700, "2.7"), (31_400, "31"), (12_345_678, "12,346")] {
        assert_eq!(ms(us), text);
    }
    assert_eq!((clock(0), clock(86_399_999), clock(-1)), ("00:00:00".into(), "23:59:59".into(), "23:59:59".into()));
    assert_eq!((words("invalid_qr"), words("")), ("Invalid QR".into(), String::new()));
}
