//! The office: every transition there is and every one there is not, quota, bulk, and values that make no sense.

mod common;
use common::{MIDNIGHT, World, create, values};
use engine::command::*;
use engine::gates::command::*;
use engine::gates::festival::{CATEGORIES_MAX, GATES_MAX};
use engine::model::ids::*;
use engine::model::money::{Currency, Money};
use engine::model::rejection::Rejection;
use engine::model::status::*;
use engine::view::{Query, View};

/// The whole table of a festival's life: each status, asked to become each other.
#[test]
fn a_festivals_life() {
    use FestivalStatus::*;
    let ways: [(FestivalStatus, &[FestivalStatus]); 5] = [
        (Draft, &[]),
        (Published, &[Published]),
        (Ongoing, &[Published, Ongoing]),
        (Completed, &[Published, Ongoing, Completed]),
        (Cancelled, &[Cancelled]),
    ];
    let table = "
        DRAFT     -  yes -   -   yes
        PUBLISHED -  -   yes -   yes
        ONGOING   -  -   -   yes yes
        COMPLETED -  -   why -   -
        CANCELLED -  -   -   -   -";
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let from = FestivalStatus::from_word(words.next().unwrap()).unwrap();
        for (&to, expected) in FestivalStatus::ALL.iter().zip(words) {
            let mut night = World::bare();
            let set = |to| AdminAction::SetFestivalStatus { festival: FestivalId::of_slug("night"), to };
            for &step in ways.iter().find(|(status, _)| *status == from).unwrap().1 {
                assert_eq!(night.admin(set(step)), AdminAnswer::Done);
            }
            let answer = match expected {
                "yes" => AdminAnswer::Done,
                "why" => AdminAnswer::Rejected(Rejection::ReasonNeeded),
                _ => AdminAnswer::Rejected(Rejection::InvalidTransition),
            };
            assert_eq!(night.admin(set(to)), answer, "{} → {}", from.word(), to.word());
        }
    }
}

/// The whole table of a ticket's life, by the office's word.
#[test]
fn a_tickets_life() {
    let table = "
        RESERVED  -  -  yes -  yes -
        SOLD      -  -  -   -  yes yes
        USED      -  -  -   -  -   yes
        CANCELLED -  -  -   -  -   yes
        REFUNDED  -  -  -   -  -   -";
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let from = TicketStatus::from_word(words.next().unwrap()).unwrap();
        for (&to, expected) in TicketStatus::ALL.iter().zip(words) {
            let mut night = World::open();
            night.play(match from {
                TicketStatus::Reserved => "issue X1 day unpaid",
                TicketStatus::Sold => "issue X1 day",
                TicketStatus::Used => "issue X1 day\n enter X1 main",
                TicketStatus::Cancelled => "issue X1 day\n cancel X1",
                TicketStatus::Refunded => "issue X1 day\n refund X1",
                TicketStatus::Available => unreachable!("has no ticket"),
            });
            let ticket = night.tickets["X1"];
            assert_eq!(night.here().ticket(ticket).unwrap().status, from);
            let answer = night.admin(AdminAction::SetTicketStatus { ticket, to });
            let (expected, then) = match expected {
                "yes" => (AdminAnswer::Done, to),
                _ => (AdminAnswer::Rejected(Rejection::InvalidTransition), from),
            };
            assert_eq!(answer, expected, "{} → {}", from.word(), to.word());
            assert_eq!(night.here().ticket(ticket).unwrap().status, then);
            night.replays();
        }
    }
}

#[test]
fn quota() {
    World::open().play(
        "
        category few main quota 3
        issue X1..X2 few unpaid
        issue X3..X4 few → rejected: sold_out
        issue X3 few
        quota few → 3 live, 0 used
        issue X4 few → rejected: sold_out
        # A place that is given back can be had again; a used one is not given back by leaving.
        enter X3 main
        exit X3 main
        quota few → 3 live, 1 used
        cancel X1
        issue X4 few → done
        refund X3
        quota few → 2 live, 0 used
        issue X5 few → done
        refund X1
        issue X6 few → rejected: sold_out
        # Never below what is out.
        quota few 2 → rejected: invalid_value
        quota few 3 → done
        quota few 4 → done
        issue X6 few → done
        ",
    );
}

#[test]
fn tickets_in_bulk() {
    let mut night = World::open();
    let (festival, category) = (night.festival, night.categories["day"]);
    let issue = |category, n: usize| AdminAction::IssueTickets {
        festival,
        category,
        holders: (0..n as u128).map(|n| Some(n + 1)).collect(),
        paid: true,
        seed: 42,
    };
    let first_serial = night.here().categories[0].tickets.len() as u32;
    night.play("quota day 5000");
    let answer = night.admin(issue(category, ISSUE_MAX));
    assert_eq!(answer, AdminAnswer::Issued { festival, category, first_serial, count: ISSUE_MAX as u32, seed: 42 });
    let ids: Vec<TicketId> = issued(festival, category, first_serial, ISSUE_MAX as u32, 42).collect();
    assert!(ids.iter().all(|id| night.here().ticket(*id).is_ok()), "the answer names them all");
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ISSUE_MAX);
    assert!(night.step.record.len() < 20 * 1_024, "as small as the bound's sum says");

    let rejected = AdminAnswer::Rejected;
    assert_eq!(night.admin(issue(category, ISSUE_MAX + 1)), rejected(Rejection::InvalidValue));
    assert_eq!(night.admin(issue(category, 0)), rejected(Rejection::InvalidValue));
    assert_eq!(night.admin(issue(CategoryNo(9), 1)), rejected(Rejection::UnknownCategory));
    night.play("status COMPLETED");
    assert_eq!(night.admin(issue(category, 1)), rejected(Rejection::InvalidTransition));
    night.replays();
}

#[test]
fn festivals_that_make_no_sense() {
    let mut night = World::bare();
    let no = AdminAnswer::Rejected;
    for slug in ["", "Night", "night!", "nächte", "a b", &"x".repeat(65)] {
        assert_eq!(night.admin(create(slug)), no(Rejection::InvalidValue), "{slug}");
    }
    assert!(matches!(night.admin(create(&"x".repeat(64))), AdminAnswer::Festival(_)));
    assert_eq!(night.admin(create("night")), no(Rejection::SlugTaken));
    let mut change = |edit: fn(&mut AdminAction)| {
        let mut action = create("strange");
        edit(&mut action);
        night.admin(action)
    };
    let edits: [fn(&mut AdminAction); 5] = [
        |action| {
            if let AdminAction::CreateFestival { name, .. } = action {
                *name = " ".into()
            }
        },
        |action| {
            if let AdminAction::CreateFestival { name, .. } = action {
                *name = "é".repeat(101)
            }
        },
        |action| {
            if let AdminAction::CreateFestival { ends_at, .. } = action {
                *ends_at = MIDNIGHT
            }
        },
        |action| {
            if let AdminAction::CreateFestival { policy, .. } = action {
                policy.log_one_rejection_in = 0
            }
        },
        |action| {
            if let AdminAction::CreateFestival { policy, .. } = action {
                policy.log_one_rejection_in = 1_001
            }
        },
    ];
    for edit in edits {
        assert_eq!(change(edit), no(Rejection::InvalidValue));
    }
}

#[test]
fn categories_that_make_no_sense() {
    let mut night = World::open();
    let festival = night.festival;
    let good = values("x", 1, 10);
    let price = |minor| Money { minor, currency: Currency::EUR };
    let cases = [
        (CategoryValues { name: String::new(), ..good.clone() }, Rejection::InvalidValue),
        (CategoryValues { name: "x".repeat(201), ..good.clone() }, Rejection::InvalidValue),
        (CategoryValues { price: price(-1), ..good.clone() }, Rejection::InvalidValue),
        (CategoryValues { quota: (1 << 24) + 1, ..good.clone() }, Rejection::InvalidValue),
        (CategoryValues { valid_until: good.valid_from, ..good.clone() }, Rejection::InvalidValue),
        (CategoryValues { zones: 1 << 40, ..good.clone() }, Rejection::UnknownZone),
    ];
    for (values, rejection) in cases {
        for category in [None, Some(CategoryNo(0))] {
            let action = AdminAction::PutCategory { festival, category, values: values.clone() };
            assert_eq!(night.admin(action), AdminAnswer::Rejected(rejection), "{values:?}");
        }
    }
    let unknown = AdminAction::PutCategory { festival, category: Some(CategoryNo(77)), values: good };
    assert_eq!(night.admin(unknown), AdminAnswer::Rejected(Rejection::UnknownCategory));
}

/// A zone's parent is fixed when it is made, and must have been made before: there is no way to a loop.
#[test]
fn zones_cannot_go_in_circles() {
    let mut night = World::open();
    let festival = night.festival;
    let (main, stage) = (night.zones["main"], night.zones["stage"]);
    let put = |zone, parent| AdminAction::PutZone { festival, zone, name: "z".into(), parent, capacity: 1 };
    let no = AdminAnswer::Rejected;
    assert_eq!(night.admin(put(Some(main), Some(stage))), no(Rejection::InvalidValue), "not a word and nothing moved");
    assert_eq!(night.admin(put(Some(main), Some(main))), no(Rejection::InvalidValue));
    assert_eq!(night.admin(put(Some(stage), Some(main))), AdminAnswer::Zone(stage), "where it is already");
    assert_eq!(night.admin(put(Some(stage), None)), AdminAnswer::Zone(stage), "not said: as it is");
    assert_eq!(night.here().zone(stage).unwrap().parent, Some(main));
    assert_eq!(night.admin(put(None, Some(ZoneNo(60)))), no(Rejection::UnknownZone));
    assert_eq!(night.admin(put(None, Some(ZoneNo(255)))), no(Rejection::UnknownZone));
    assert_eq!(night.admin(put(Some(ZoneNo(60)), None)), no(Rejection::UnknownZone));
    for _ in night.here().zones.len()..ZONES_MAX {
        assert!(matches!(night.admin(put(None, None)), AdminAnswer::Zone(_)));
    }
    assert_eq!(night.admin(put(None, None)), no(Rejection::LimitReached), "64 of them");
    let long = AdminAction::PutZone { festival, zone: None, name: "x".repeat(201), parent: None, capacity: 1 };
    assert_eq!(night.admin(long), no(Rejection::InvalidValue));
    night.replays();
}

#[test]
fn limits() {
    let mut night = World::open();
    let (festival, zone) = (night.festival, night.zones["main"]);
    let no = AdminAnswer::Rejected;
    let gate = |zone| AdminAction::AddGate { festival, zone, name: "g".into() };
    assert_eq!(night.admin(gate(ZoneNo(60))), no(Rejection::UnknownZone));
    for _ in night.here().gates.len()..GATES_MAX {
        night.admin(gate(zone));
    }
    assert_eq!(night.admin(gate(zone)), no(Rejection::LimitReached));
    let category = || AdminAction::PutCategory { festival, category: None, values: values("c", 0, 1) };
    for _ in night.here().categories.len()..CATEGORIES_MAX {
        night.admin(category());
    }
    assert_eq!(night.admin(category()), no(Rejection::LimitReached));
}

#[test]
fn what_there_is_not() {
    let mut night = World::open();
    let nowhere = FestivalId(1);
    let no = AdminAnswer::Rejected;
    let ticket = TicketId::new(nowhere, CategoryNo(0), 0, 0);
    let ghost = night.tickets["ghost"];
    let open = ZoneState::Closed;
    for (action, rejection) in [
        (AdminAction::RotateQrKey { festival: nowhere }, Rejection::UnknownFestival),
        (AdminAction::BlockTicket { ticket, blocked: true }, Rejection::UnknownFestival),
        (AdminAction::BlockTicket { ticket: ghost, blocked: true }, Rejection::UnknownTicket),
        (AdminAction::SetTicketStatus { ticket: ghost, to: TicketStatus::Sold }, Rejection::UnknownTicket),
        (AdminAction::SetZoneState { festival: night.festival, zone: ZoneNo(63), state: open }, Rejection::UnknownZone),
        (
            AdminAction::SetZoneState { festival: night.festival, zone: ZoneNo(255), state: open },
            Rejection::UnknownZone,
        ),
        (AdminAction::RevokeDevice { device: DeviceId::new(night.festival, 77) }, Rejection::UnknownDevice),
    ] {
        let records = night.records.len();
        assert_eq!(night.admin(action.clone()), no(rejection), "{action:?}");
        assert_eq!(night.records.len(), records, "a no without a key leaves nothing behind");
    }
}

#[test]
fn it_is_so_already() {
    let mut night = World::open();
    night.play("close main\n block T1\n revoke main-2\n wristband W1 T1");
    let (records, told) = (night.records.len(), night.notices.len());
    night.play("close main → done\n block T1 → done\n revoke main-2 → done\n wristband W1 T1 → done");
    assert_eq!((night.records.len(), night.notices.len()), (records, told), "nothing happens, nobody is told");
}

/// Small questions say what the large ones do.
#[test]
fn few_words_about_a_festival() {
    let mut night = World::open();
    let (festival, zone, state) = (night.festival, night.zones["main"], ZoneState::Closed);
    night.admin(AdminAction::RotateQrKey { festival });
    night.admin(AdminAction::SetZoneState { festival, zone, state });
    let Ok(View::Festival(whole)) = common::view(&night, Query::Festival(festival)) else { panic!("no festival") };
    let Ok(View::About(about)) = common::view(&night, Query::About(festival)) else { panic!("not in few words") };
    let said = (about.id, &about.slug, &about.name, about.starts_at, about.ends_at, about.status, about.qr_version);
    assert_eq!(
        said,
        (whole.id, &whole.slug, &whole.name, whole.starts_at, whole.ends_at, whole.status, whole.qr_version)
    );
    let Ok(View::Festivals(all)) = common::view(&night, Query::Festivals) else { panic!("no list") };
    assert!(all.contains(&about));
    let device = night.readers["main-1"].id;
    let Ok(View::Standing(standing)) = common::view(&night, Query::Standing(device)) else { panic!("stands nowhere") };
    let gate = &whole.gates[usize::from(standing.device.gate.0)];
    let behind = &whole.zones[usize::from(gate.zone.0)];
    assert_eq!((standing.device.id, standing.device.zone, gate.zone), (device, gate.zone, zone));
    assert_eq!(
        (&standing.festival_name, &standing.gate_name, &standing.zone_name),
        (&whole.name, &gate.name, &behind.name)
    );
    assert_eq!((standing.not_open, standing.currency), (vec![(zone, state)], None));
    for unknown in [DeviceId::new(festival, 4_000), DeviceId::new(FestivalId(1), 0)] {
        assert_eq!(common::view(&night, Query::Standing(unknown)).err(), Some(Rejection::UnknownDevice));
    }
}
