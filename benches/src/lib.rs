//! What the benches share: a festival that is ready to be scanned at.

pub mod streams;

use engine::cashless::command::{
    CashlessAction, CashlessPolicy, Source, SourceKind, TerminalAction, TerminalCommand, VendorValues,
};
use engine::command::{AdminAction, AdminCommand, Command, issued};
use engine::gates::command::{CategoryValues, Credential, DeviceAction, DeviceCommand, Direction, Scan};
use engine::model::credential;
use engine::model::credential::{KeyCache, QrClaim, QrSecret};
use engine::model::ids::{
    CategoryNo, DeviceId, FestivalId, GateNo, Home, ShardId, TicketId, VendorNo, WalletId, ZoneNo,
};
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::status::{CategoryKind, EntryPolicy, FestivalStatus, Policy};
use engine::model::time::Timestamp;
use engine::shard::{Shard, Step};

/// A festival on one shard: one perimeter, one gate, one reader.
pub struct World {
    pub shard: Shard,
    /// Every record so far, in order.
    pub records: Vec<Vec<u8>>,
    /// The reader.
    pub device: DeviceId,
    pub tickets: Vec<TicketId>,
    /// What their QRs are signed with.
    pub secret: QrSecret,
    seq: u64,
}

impl World {
    /// With so many tickets, under `reentry`, so that scans can go on for ever.
    pub fn new(tickets: u32) -> Self {
        let slug = "bench".to_owned();
        let festival = FestivalId::of_slug(&slug);
        let mut world = Self {
            shard: Shard::new(ShardId(0), 1),
            records: Vec::new(),
            device: DeviceId::new(festival, 0),
            tickets: Vec::new(),
            secret: QrSecret::new(b"a secret of at least 32 bytes, for benches").expect("long enough"),
            seq: 0,
        };
        let (starts_at, ends_at) = (Timestamp(0), Timestamp(i64::MAX));
        let policy = Policy { entry: EntryPolicy::Reentry, ..Policy::default() };
        let name = || "Bench".to_owned();
        world.admin(AdminAction::CreateFestival {
            slug,
            name: name(),
            starts_at,
            ends_at,
            policy,
            calendar: engine::model::time::Calendar::default(),
        });
        world.admin(AdminAction::PutZone { festival, zone: None, name: name(), parent: None, capacity: u32::MAX });
        world.admin(AdminAction::AddGate { festival, zone: ZoneNo(0), name: name() });
        let values = CategoryValues {
            name: name(),
            kind: CategoryKind::Standard,
            price: Money { minor: 0, currency: Currency::EUR },
            quota: tickets,
            zones: 1,
            valid_from: starts_at,
            valid_until: ends_at,
        };
        world.admin(AdminAction::PutCategory { festival, category: None, values });
        let category = CategoryNo(0);
        for first in (0..tickets).step_by(1_000) {
            let count = (tickets - first).min(1_000);
            let (holders, seed) = (vec![None; count as usize], u64::from(first));
            world.admin(AdminAction::IssueTickets { festival, category, holders, paid: true, seed });
            world.tickets.extend(issued(festival, category, first, count, seed));
        }
        for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
            world.admin(AdminAction::SetFestivalStatus { festival, to });
        }
        let code_hash = [0; 32];
        world.admin(AdminAction::OfferEnrolment { festival, gate: GateNo(0), code_hash, name: name() });
        world.admin(AdminAction::EnrolDevice { festival, code_hash, public_key: [0; 32] });
        world
    }

    fn admin(&mut self, action: AdminAction) {
        let command = Command::Admin(Box::new(AdminCommand { key: None, by: Principal::Installation, action }));
        let mut step = Step::default();
        self.shard.step(Timestamp(1), &[command], &mut step);
        self.records.push(step.record);
    }

    /// The signed QRs of all tickets.
    pub fn claims(&self) -> Vec<QrClaim> {
        let key = self.secret.key(self.device.festival(), 1);
        self.tickets.iter().map(|ticket| key.sign(*ticket, 1)).collect()
    }

    /// Scans of tickets in the order of `order`, `window` under way at a time: in, and next time out.
    pub fn scans(&mut self, order: &[u32], direction: Direction, window: u64) -> Vec<Command> {
        let claims = self.claims();
        let mut keys = KeyCache::default();
        order
            .iter()
            .map(|&i| {
                self.seq += 1;
                let text = credential::text(&claims[i as usize]);
                let claim = credential::parse(text.as_bytes()).expect("our own");
                let verified = keys.verify(&self.secret, &claim).expect("our own");
                Command::Device(DeviceCommand {
                    device: self.device,
                    seq: self.seq,
                    floor: self.seq.saturating_sub(window).max(1),
                    action: DeviceAction::Scan(Scan {
                        zone: ZoneNo(0),
                        direction,
                        credential: Credential::Ticket(verified),
                        captured_at: Timestamp(1),
                        resent: false,
                        shown: None,
                    }),
                })
            })
            .collect()
    }
}

/// `0 .. count` in an order that jumps about, the same each time.
pub fn shuffled(count: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    for i in (1..count).rev() {
        let j = engine::model::ids::nonce_at(7, i) % u64::from(i + 1);
        order.swap(i as usize, j as usize);
    }
    order
}

/// A bar with wallets on one shard: one vendor, its terminals, one cash desk.
pub struct Bar {
    pub shard: Shard,
    /// Every record so far, in order.
    pub records: Vec<Vec<u8>>,
    pub wallets: Vec<WalletId>,
    /// The terminals, each with the number of its last command.
    terminals: Vec<(DeviceId, u64)>,
    /// Whose turn it is.
    next: usize,
}

impl Bar {
    /// With so many wallets, each with a thousand euros, and one terminal.
    pub fn new(wallets: u32) -> Self {
        Self::among(1, ShardId(0), wallets, 1)
    }

    /// With wallets that belong to one of `shards` shards, and so many terminals. It still decides alone.
    pub fn among(shards: u16, shard: ShardId, wallets: u32, terminals: u16) -> Self {
        let slug = "bench".to_owned();
        let festival = FestivalId::of_slug(&slug);
        let name = || "Bench".to_owned();
        let ids = (0..).map(|n| WalletId(engine::model::ids::nonce_at(3, n) | 1 << 60));
        let mut bar = Self {
            shard: Shard::new(ShardId(0), 1),
            records: Vec::new(),
            wallets: ids.filter(|id| Home::Wallet(*id).shard(shards) == shard).take(wallets as usize).collect(),
            terminals: (0..terminals).map(|number| (DeviceId::new(festival, number.into()), 0)).collect(),
            next: 0,
        };
        let (starts_at, ends_at, policy) = (Timestamp(0), Timestamp(i64::MAX), Policy::default());
        bar.admin(AdminAction::CreateFestival {
            slug,
            name: name(),
            starts_at,
            ends_at,
            policy,
            calendar: engine::model::time::Calendar::default(),
        });
        bar.admin(AdminAction::SetFestivalStatus { festival, to: FestivalStatus::Published });
        bar.cash(CashlessAction::SetPolicy { festival, policy: CashlessPolicy::default() });
        let values = VendorValues {
            name: name(),
            commission_bp: 1_000,
            open: true,
            kind: engine::model::status::VendorKind::Bar,
        };
        bar.cash(CashlessAction::PutVendor { festival, vendor: None, values });
        for number in 0..terminals {
            let (vendor, mut code_hash) = (Some(VendorNo(0)), [0; 32]);
            code_hash[..2].copy_from_slice(&number.to_le_bytes());
            bar.cash(CashlessAction::OfferTerminal { festival, vendor, cashier: true, code_hash, name: name() });
            bar.admin(AdminAction::EnrolDevice { festival, code_hash, public_key: code_hash });
        }
        let source = Source::new(SourceKind::Desk, festival, 1);
        let amount = Money { minor: 100_000, currency: Currency::EUR };
        for chunk in bar.wallets.clone().chunks(256) {
            let made = chunk.iter().map(|&wallet| CashlessAction::CreateWallet { wallet, festival, account: None });
            let filled =
                chunk.iter().map(|&wallet| CashlessAction::TopUp { wallet, festival, amount, source, taken: true });
            bar.admin_all(made.chain(filled).map(AdminAction::Cashless));
        }
        bar
    }

    fn cash(&mut self, action: CashlessAction) {
        self.admin(AdminAction::Cashless(action));
    }

    fn admin(&mut self, action: AdminAction) {
        self.admin_all([action]);
    }

    fn admin_all(&mut self, actions: impl IntoIterator<Item = AdminAction>) {
        let command =
            |action| Command::Admin(Box::new(AdminCommand { key: None, by: Principal::Installation, action }));
        let commands: Vec<Command> = actions.into_iter().map(command).collect();
        let mut step = Step::default();
        self.shard.step(Timestamp(1), &commands, &mut step);
        self.records.push(step.record);
    }

    /// Debits of one cent from the wallets in the order of `order`, the terminals taking turns, `window` under way at a
    /// time at each.
    pub fn debits(&mut self, order: &[u32], window: u64) -> Vec<Command> {
        let amount = Money { minor: 1, currency: Currency::EUR };
        order
            .iter()
            .map(|&i| {
                self.next = (self.next + 1) % self.terminals.len();
                let (device, seq) = &mut self.terminals[self.next];
                *seq += 1;
                let action =
                    TerminalAction::Pay { wallet: self.wallets[i as usize], tap: None, amount, lines: [].into() };
                let floor = seq.saturating_sub(window).max(1);
                Command::Terminal(TerminalCommand {
                    device: *device,
                    seq: *seq,
                    floor,
                    expires_at: Timestamp(0),
                    action,
                })
            })
            .collect()
    }
}
