//! Reads a script line by line and plays it.

use super::*;

impl Bar {
    /// Plays a script; panics at the first line whose answer is another, and names it.
    pub fn play(&mut self, script: &str) -> &mut Self {
        for (number, line) in script.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (asked, expected) = match line.split_once('→') {
                Some((asked, expected)) => (asked.trim(), Some(expected.trim())),
                None => (line, None),
            };
            let words: Vec<&str> = asked.split_whitespace().collect();
            let got = self.line(&words);
            let fine = match expected {
                Some(expected) => got == expected,
                None => !got.contains("rejected") && !got.contains("pending"),
            };
            assert!(fine, "line {}: `{line}`\n    got: {got}", number + 1);
            if self.quiet {
                self.pump();
            }
            self.books();
        }
        self.replays();
        let report = self.audit(&[]);
        assert!(report.holds(), "{:#?}", report.violations);
        self
    }

    /// Plays one line: what whoever asked is told.
    pub fn line(&mut self, words: &[&str]) -> String {
        match *words {
            ["pay", what, amount, terminal, ref rest @ ..] => {
                let (wallet, tap) = self.named(what, rest);
                let lines = option(rest, "lines").map_or(Vec::new(), |lines| lines.split(',').map(line_of).collect());
                let amount = money(amount, rest);
                let action = TerminalAction::Pay { wallet, tap, amount, lines: lines.into() };
                let (answer, repeated) = self.by(terminal, action, rest);
                if let (Some(name), Some(id)) = (option(rest, "as"), answer.transaction()) {
                    self.payments.insert(name.into(), id);
                }
                words_of(&answer, repeated)
            }
            ["topup", what, amount, ref rest @ ..] if option(rest, "from").is_none() => {
                let (wallet, tap) = self.named(what, rest);
                let action = TerminalAction::TopUp { wallet, tap, amount: money(amount, rest) };
                let (answer, repeated) = self.by(option(rest, "by").unwrap_or("desk"), action, rest);
                words_of(&answer, repeated)
            }
            ["refund", name, ref rest @ ..] if option(rest, "by").is_some() => {
                let payment = self.payments[name];
                let amount = rest.first().filter(|word| !["by", "lines"].contains(word));
                let amount = amount.map(|word| money(word, rest));
                let lines = option(rest, "lines").map_or(Vec::new(), |lines| lines.split(',').map(returned).collect());
                let action = TerminalAction::Refund { payment, amount, lines: lines.into() };
                let (answer, repeated) = self.by(option(rest, "by").expect("just looked"), action, rest);
                words_of(&answer, repeated)
            }
            ["balance", what, ref rest @ ..] => {
                let (wallet, tap) = self.named(what, rest);
                let action = TerminalAction::Balance { wallet, tap };
                let (answer, repeated) = self.by(option(rest, "by").unwrap_or("desk"), action, rest);
                words_of(&answer, repeated)
            }
            ["show", name] => {
                let view = self.wallet(name);
                let sources = view
                    .lots
                    .iter()
                    .map(|lot| format!("{}-{} {}", lot.source.kind.word(), lot.source.number, cents(lot.amount)));
                let mut words = vec![cents(view.available)];
                if view.reserved > 0 {
                    words.push(format!("reserved {}", cents(view.reserved)));
                }
                words.extend(sources);
                words.join(", ")
            }
            ["payable", name] => {
                let (festival, vendor) = self.vendors[name];
                let ledger = self.ledger(festival);
                let sums = ledger.vendors.iter().find(|sums| sums.vendor == vendor).copied().unwrap_or_default();
                format!("{} after {} payments and {} refunds", cents(sums.payable as i64), sums.payments, sums.refunds)
            }
            ["commission"] => cents(self.ledger(self.festival).commission as i64),
            ["tag-of", tag] => match self.query(Query::Tag(self.tags[tag])) {
                View::Tag(view) => {
                    let name = |id| self.wallets.iter().find(|(_, known)| **known == id).map_or("?", |(name, _)| name);
                    let wallet = view.wallet.map_or("-", name);
                    let ticket = self.tickets.iter().find(|(_, id)| Some(**id) == view.ticket);
                    let ticket = ticket.map_or(String::new(), |(name, _)| format!(" {name}"));
                    format!("{:?} {wallet} {}{ticket}", view.state, view.version).to_lowercase()
                }
                _ => "unknown".into(),
            },
            [way @ ("enter" | "exit"), tag] => {
                let direction = if way == "enter" { Direction::Enter } else { Direction::Exit };
                let tag = self.tag(tag);
                match self.at_gate(tag, direction).verdict {
                    Verdict::Rejected(rejection) => format!("rejected: {}", rejection.code()),
                    verdict => format!("{verdict:?}").to_lowercase(),
                }
            }
            ["wait", ms] => {
                self.now = self.now.plus_ms(ms.parse().unwrap());
                "later".into()
            }
            ["tick"] => {
                for id in 0..self.shards.len() as u16 {
                    self.batch(ShardId(id), &[Command::Tick]);
                }
                "ticked".into()
            }
            ["pump"] => {
                self.pump();
                "quiet".into()
            }
            ["terminal", name, ref rest @ ..] => {
                let vendor = option(rest, "of").map(|vendor| self.vendors[vendor]);
                let there = if rest.contains(&"elsewhere") { self.elsewhere } else { self.festival };
                let festival = vendor.map_or(there, |(festival, _)| festival);
                let id = self.enrol(festival, vendor.map(|(_, no)| no), rest.contains(&"cashier"), name);
                self.terminals.insert(name.into(), Terminal { id, next_seq: 1 });
                "done".into()
            }
            _ => {
                let action = self.action(words);
                let answer = self.admin(action);
                self.learn(words, answer);
                admin_words(&answer)
            }
        }
    }

    /// A wallet, or what a tag is resolved to; `tap T1@3` says both by hand.
    fn named(&self, what: &str, rest: &[&str]) -> (WalletId, Option<Tap>) {
        let tap = option(rest, "tap").map(|tap| {
            let (tag, version) = tap.split_once('@').expect("a chip and a version");
            Tap { tag: self.tags[tag], version: version.parse().unwrap() }
        });
        if let Some(tag) = self.tags.get(what) {
            let nobody = (WalletId(u64::MAX), Tap { tag: *tag, version: 0 });
            let (wallet, tap) = self.resolve(*tag).unwrap_or(nobody);
            return (wallet, Some(tap));
        }
        (self.wallets.get(what).copied().unwrap_or(WalletId(0xDEAD_BEEF)), tap)
    }

    fn by(&mut self, terminal: &str, action: TerminalAction, rest: &[&str]) -> (TerminalAnswer, bool) {
        let known = self.terminals.get_mut(terminal).unwrap_or_else(|| panic!("no terminal called {terminal}"));
        let seq = option(rest, "seq").map_or(known.next_seq, |seq| seq.parse().unwrap());
        let floor = option(rest, "floor").map_or(1, |floor| floor.parse().unwrap());
        known.next_seq = known.next_seq.max(seq.saturating_add(1));
        let device = known.id;
        // Of a time that it carries, so many milliseconds are left; fewer than none: it is over.
        let expires_at =
            option(rest, "left").map_or(Timestamp(0), |left| Timestamp(self.now.0 + left.parse::<i64>().unwrap()));
        self.terminal(TerminalCommand { device, seq, floor, expires_at, action })
    }

    /// A tag that scripts call by this name, known to anybody or not.
    fn tag(&mut self, name: &str) -> TagUid {
        let n = self.tags.len() as u8;
        let made = TagUid::new(&[4, 9, 9, 9, 9, 9, n]).expect("seven bytes");
        *self.tags.entry(name.into()).or_insert(made)
    }

    fn action(&mut self, words: &[&str]) -> AdminAction {
        match *words {
            ["bind", tag, name] => {
                let ticket = self.tickets[name];
                return AdminAction::BindTag { ticket, tag: self.tag(tag) };
            }
            ["lost", "ticket", name] => return AdminAction::ReportTicketTagLost { ticket: self.tickets[name] },
            ["lost", "tag", tag] => {
                return AdminAction::Cashless(CashlessAction::ReportTagLost { tag: self.tag(tag) });
            }
            _ => {}
        }
        let here = if words.contains(&"elsewhere") { self.elsewhere } else { self.festival };
        let wallet = |name: &str| self.wallets.get(name).copied().unwrap_or(WalletId(0xDEAD_BEEF));
        let vendor = |bar: &Self, name: &str, change: &dyn Fn(&mut VendorValues)| {
            let (festival, no) = bar.vendors[name];
            let View::Cashless(view) = bar.query(Query::Cashless(festival)) else { panic!("no vendors") };
            let mut values = view.vendors[usize::from(no.0)].values.clone();
            change(&mut values);
            CashlessAction::PutVendor { festival, vendor: Some(no), values }
        };
        let action = match *words {
            ["status", to, ..] => {
                return AdminAction::SetFestivalStatus { festival: here, to: status(to) };
            }
            ["revoke", terminal] => return AdminAction::RevokeDevice { device: self.terminals[terminal].id },
            ["cashless", _, ref rest @ ..] => {
                let foreign_wallets = rest.contains(&"foreign");
                let currency = option(rest, "in").map_or(Currency::EUR, |code| Currency::parse(code).unwrap());
                let mut policy = CashlessPolicy { foreign_wallets, currency, ..CashlessPolicy::default() };
                if let Some(most) = option(rest, "most") {
                    policy.max_balance = amount_of(most);
                }
                if let Some(least) = option(rest, "least") {
                    policy.min_payment = amount_of(least);
                }
                CashlessAction::SetPolicy { festival: here, policy }
            }
            ["vendor", name, commission, ..] => {
                let commission_bp = amount_of(commission.trim_end_matches('%')) as u16;
                let values = VendorValues {
                    name: name.into(),
                    commission_bp,
                    open: true,
                    kind: engine::model::status::VendorKind::Bar,
                };
                CashlessAction::PutVendor { festival: here, vendor: None, values }
            }
            ["open", name] => vendor(self, name, &|values| values.open = true),
            ["close", name] => vendor(self, name, &|values| values.open = false),
            ["commission-of", name, commission] => vendor(self, name, &|values| {
                values.commission_bp = amount_of(commission.trim_end_matches('%')) as u16;
            }),
            ["product", name, price, vat, ref rest @ ..] => {
                let (festival, vendor) = self.vendors[name];
                let product = option(rest, "no").map(|no| ProductNo(no.parse().unwrap()));
                let vat_bp = amount_of(vat.trim_end_matches('%')) as u16;
                let on_sale = !rest.contains(&"off");
                let values = ProductValues { name: "drink".into(), price: amount_of(price), vat_bp, on_sale };
                CashlessAction::PutProduct { festival, vendor, product, values }
            }
            ["wallet", name, ref rest @ ..] => {
                let account = option(rest, "for").map(|account| account.parse().unwrap());
                let made = self.wallets.len() as u64 + 1;
                let id = account
                    .map_or(WalletId(nonce_at(7, made as u32) | 1), |account| WalletId::of_account(account, here));
                let wallet = *self.wallets.entry(name.into()).or_insert(id);
                CashlessAction::CreateWallet { wallet, festival: here, account }
            }
            ["claim", name, account] => {
                CashlessAction::Claim { wallet: wallet(name), account: account.parse().unwrap() }
            }
            ["topup", name, amount, ref rest @ ..] => {
                let kind = *SourceKind::ALL.iter().find(|kind| Some(kind.word()) == option(rest, "from")).unwrap();
                let number = option(rest, "number").map_or(1, |number| number.parse().unwrap());
                CashlessAction::TopUp {
                    wallet: wallet(name),
                    festival: here,
                    amount: money(amount, rest),
                    source: Source::new(kind, here, number),
                    taken: rest.contains(&"taken"),
                }
            }
            ["buy", name, amount, of, ref rest @ ..] => {
                let (festival, vendor) = self.vendors.get(of).copied().unwrap_or((here, VendorNo(999)));
                let lines = option(rest, "lines").map_or(Vec::new(), |lines| lines.split(',').map(line_of).collect());
                let (amount, lines) = (money(amount, rest), lines.into());
                CashlessAction::Pay { wallet: wallet(name), festival, vendor, amount, lines }
            }
            ["refund", name, ref rest @ ..] => CashlessAction::Refund {
                payment: self.payments[name],
                festival: here,
                amount: rest
                    .first()
                    .filter(|word| !["elsewhere", "lines"].contains(word))
                    .map(|word| money(word, rest)),
                // Product, count and price as in a payment, and how many of it there were: `1x2x5.00/3`.
                lines: option(rest, "lines")
                    .map_or(Vec::new(), |lines| lines.split(',').map(returned).collect())
                    .into(),
            },
            ["transfer", from, to, amount, ref rest @ ..] => CashlessAction::Transfer {
                from: wallet(from),
                to: wallet(to),
                festival: here,
                amount: money(amount, rest),
            },
            ["merge", from, into] => CashlessAction::Merge { from: wallet(from), into: wallet(into), festival: here },
            // Upwards `correct` gives back what had been taken, and `gift` gives.
            [what @ ("correct" | "gift"), name, delta, ref rest @ ..] => CashlessAction::Correct {
                wallet: wallet(name),
                festival: here,
                delta: money(delta, rest),
                reason: rest.first().copied().unwrap_or_default().into(),
                gives_back: what == "correct" && !delta.starts_with('-'),
            },
            ["cashout", name, ..] => CashlessAction::CashOut { wallet: wallet(name), festival: here },
            ["block", name] => CashlessAction::Block { wallet: wallet(name), blocked: true },
            ["unblock", name] => CashlessAction::Block { wallet: wallet(name), blocked: false },
            ["lost", name] => CashlessAction::ReportLost { wallet: wallet(name) },
            ["link", tag, name, ref rest @ ..] => {
                let n = self.tags.len() as u8;
                let made = TagUid::new(&[4, 9, 9, 9, 9, 9, n]).expect("seven bytes");
                let fresh = WalletId(nonce_at(11, u32::from(n)) | 1);
                let wallet = *self.wallets.entry(name.into()).or_insert(fresh);
                let tag = *self.tags.entry(tag.into()).or_insert(made);
                let (replace, create) = (rest.contains(&"replace"), rest.contains(&"create"));
                CashlessAction::LinkTag { tag, wallet, festival: here, replace, create }
            }
            _ => panic!("no such line: {words:?}"),
        };
        AdminAction::Cashless(action)
    }

    fn learn(&mut self, words: &[&str], answer: AdminAnswer) {
        if let (["vendor", name, ..], AdminAnswer::Vendor(no)) = (words, answer) {
            let here = if words.contains(&"elsewhere") { self.elsewhere } else { self.festival };
            self.vendors.insert((*name).into(), (here, no));
        }
        if let AdminAnswer::Transaction { id, .. } = answer
            && let Some(name) = option(words, "as")
        {
            self.payments.insert(name.into(), id);
        }
    }
}

/// `0x2@5.00`: product 0, two of them, 5.00 each.
fn line_of(text: &str) -> Line {
    let (product, rest) = text.split_once('x').expect("a product");
    let (count, price) = rest.split_once('@').expect("a count and a price");
    Line { product: ProductNo(product.parse().unwrap()), count: count.parse().unwrap(), price: amount_of(price) }
}

/// As [`line_of`], and how many of it the payment has: `1x2@5.00/3`.
fn returned(text: &str) -> RefundLine {
    let (line, bought) = text.split_once('/').expect("how many there were");
    let Line { product, count, price } = line_of(line);
    RefundLine { product, count, price, vat_bp: 1_900, bought: bought.parse().unwrap() }
}

/// `12.50` → 1250; `12` → 1200; `-0.05` → −5.
pub fn amount_of(text: &str) -> i64 {
    Currency::EUR.read(text).unwrap_or_else(|why| panic!("{text} {why}"))
}

fn money(text: &str, rest: &[&str]) -> Money {
    let currency = option(rest, "in").map_or(Currency::EUR, |code| Currency::parse(code).unwrap());
    Money { minor: currency.read(text).unwrap_or_else(|why| panic!("{text} {why}")), currency }
}

pub fn cents(minor: i64) -> String {
    Currency::EUR.text(minor)
}

fn words_of(answer: &TerminalAnswer, repeated: bool) -> String {
    let mut words = vec![match answer.verdict {
        CashlessVerdict::Rejected(rejection) => format!("rejected: {}", rejection.code()),
        _ => cents(answer.balance),
    }];
    if answer.flags & OVER_LIMIT != 0 {
        words.push("over_limit".to_owned());
    }
    if repeated {
        words.push("again".to_owned());
    }
    words.join(", ")
}

fn admin_words(answer: &AdminAnswer) -> String {
    match answer {
        AdminAnswer::Rejected(rejection) => format!("rejected: {}", rejection.code()),
        AdminAnswer::Transaction { balance, over_limit, .. } => {
            format!("{}{}", cents(*balance), if *over_limit { ", over_limit" } else { "" })
        }
        AdminAnswer::Pending(_) => "pending".into(),
        _ => "done".into(),
    }
}

/// What follows this word.
fn option<'a>(words: &[&'a str], word: &str) -> Option<&'a str> {
    words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1)).copied()
}
