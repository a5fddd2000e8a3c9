//! Reads a script line by line and plays it.

use super::*;

impl World {
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
            let mut words: Vec<&str> = asked.split_whitespace().collect();
            if let Some(now) = clock(words[0]) {
                self.now = now;
                words.remove(0);
            }
            if words.is_empty() {
                continue;
            }
            let got = self.line(&words, expected);
            let fine = match expected {
                Some(expected) => got == expected,
                None => !got.contains("rejected"),
            };
            assert!(fine, "line {}: `{line}`\n    got: {got}", number + 1);
        }
        self.replays();
        self
    }

    /// Plays one line. Gives back `expected` itself where every facet it names is so, and only unforeseen facets else.
    fn line(&mut self, words: &[&str], expected: Option<&str>) -> String {
        match *words {
            ["enter" | "exit", what, zone, ref rest @ ..] => {
                let direction = if words[0] == "enter" { Direction::Enter } else { Direction::Exit };
                let (answer, repeated) = self.scan(direction, what, zone, rest);
                self.device_words(&answer, repeated, expected)
            }
            ["undo", ticket, "by", reader, ref rest @ ..] => {
                let scan_seq = match option(rest, "scan") {
                    Some(seq) => seq.parse().unwrap(),
                    None => *self.scans.get(&(reader.into(), ticket.into())).unwrap_or(&0),
                };
                let undo = Undo { ticket: self.tickets[ticket], scan_seq };
                let (answer, repeated) = self.by(reader, DeviceAction::Undo(undo), rest);
                self.device_words(&answer, repeated, expected)
            }
            ["inside", zone] => self.zone(zone).occupancy.to_string(),
            ["gate", gate] => {
                let gate = self.here().gates.iter().find(|known| known.name == *gate).expect("a gate");
                let &engine::gates::zone::Gate { admitted, exited, undone, rejected, .. } = gate;
                format!("{admitted} in, {exited} out, {undone} undone, {rejected} rejected")
            }
            ["last", "counted"] => match self.last_event() {
                Event::Scanned(scanned) => time_words(scanned.taken_at),
                Event::Undone(Undone { scan: Some(scan), .. }) => time_words(scan.minute),
                other => panic!("{other:?}"),
            },
            ["clock", reader] => {
                let device = self.here().device(self.readers[reader].id).expect("it was enrolled");
                format!("{} s", device.clock_off_ms / 1_000)
            }
            ["unaccounted", zone] => self.zone(zone).unaccounted.to_string(),
            ["where", ticket] => self.whereabouts(ticket),
            ["ticket", ticket] => self.here().ticket(self.tickets[ticket]).unwrap().status.word().into(),
            ["conflicts"] => self.here().live(self.now).conflicts.to_string(),
            ["rejected", code] => {
                let live = self.here().live(self.now);
                live.rejections.iter().find(|(r, _)| r.code() == code).map_or(0, |(_, n)| *n).to_string()
            }
            ["quota", category] => {
                let category = &self.here().categories[usize::from(self.categories[category].0)];
                format!("{} live, {} used", category.live, category.used)
            }
            ["snapshot"] => {
                self.take_snapshot();
                "taken".into()
            }
            ["tick"] => {
                assert_eq!(self.ask(Command::Tick), Answer::Ticked);
                "ticked".into()
            }
            ["reader", name, "at", zone] => {
                let (festival, zone) = (self.festival, self.zones[zone]);
                let gate = match self.admin(AdminAction::AddGate { festival, zone, name: name.into() }) {
                    AdminAnswer::Gate(gate) => gate,
                    other => panic!("{other:?}"),
                };
                let id = self.enrol(gate, name);
                self.readers.insert(name.into(), Reader { id, zone, next_seq: 1 });
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

    fn scan(&mut self, direction: Direction, what: &str, zone: &str, rest: &[&str]) -> (DeviceAnswer, bool) {
        let shown = option(rest, "shown").map(|word| match word {
            "admitted" => Verdict::Admitted,
            "exited" => Verdict::Exited,
            code => Verdict::Rejected(*Rejection::ALL.iter().find(|r| r.code() == code).expect("a code")),
        });
        let reader = option(rest, "by").map_or_else(|| format!("{zone}-1"), str::to_owned);
        let no = self.zones.get(zone).copied().unwrap_or(ZoneNo(200));
        let credential = self.credential(what);
        // What was shown is sent again.
        let resent = rest.contains(&"resent") || (shown.is_some() && !rest.contains(&"unsent"));
        let captured_at = option(rest, "captured").map_or(self.now, |time| clock(time).expect("a time"));
        let scan = Scan { zone: no, direction, credential, captured_at, resent, shown };
        if option(rest, "seq").is_none() {
            let name = what.split('@').next().unwrap().to_owned();
            self.scans.insert((reader.clone(), name), self.readers[&reader].next_seq);
        }
        self.may_overflow |= shown.is_some();
        self.by(&reader, DeviceAction::Scan(scan), rest)
    }

    fn by(&mut self, reader: &str, action: DeviceAction, rest: &[&str]) -> (DeviceAnswer, bool) {
        let known = self.readers.get_mut(reader).unwrap_or_else(|| panic!("no reader called {reader}"));
        let seq = option(rest, "seq").map_or(known.next_seq, |seq| seq.parse().unwrap());
        let floor = option(rest, "floor").map_or(1, |floor| floor.parse().unwrap());
        known.next_seq = known.next_seq.max(seq.saturating_add(1));
        let device = known.id;
        self.device(DeviceCommand { device, seq, floor, action })
    }

    fn action(&mut self, words: &[&str]) -> AdminAction {
        let festival = self.festival;
        let ticket = |name: &str| self.tickets[name];
        let status = |name, to| AdminAction::SetTicketStatus { ticket: ticket(name), to };
        let state = |name: &str, state| AdminAction::SetZoneState { festival, zone: self.zones[name], state };
        let policy = self.here().policy;
        match *words {
            ["status", to] => {
                AdminAction::SetFestivalStatus { festival, to: FestivalStatus::from_word(to).expect("a status") }
            }
            ["policy", entry] => AdminAction::SetPolicy {
                festival,
                policy: Policy { entry: EntryPolicy::from_word(entry).expect("a policy"), ..policy },
            },
            ["ack", ack] => AdminAction::SetPolicy {
                festival,
                policy: Policy { ack: ScanAck::from_word(ack).expect("a word"), ..policy },
            },
            ["log", "one", "in", n] => AdminAction::SetPolicy {
                festival,
                policy: Policy { log_one_rejection_in: n.parse().unwrap(), ..policy },
            },
            ["zone", name, capacity, ref rest @ ..] => AdminAction::PutZone {
                festival,
                zone: None,
                name: name.into(),
                parent: option(rest, "in").map(|parent| self.zones[parent]),
                capacity: capacity.parse().unwrap(),
            },
            ["capacity", name, capacity] => {
                self.may_overflow = true;
                let zone = Some(self.zones[name]);
                AdminAction::PutZone {
                    festival,
                    zone,
                    name: name.into(),
                    parent: None,
                    capacity: capacity.parse().unwrap(),
                }
            }
            ["category", name, zones, "quota", quota] => AdminAction::PutCategory {
                festival,
                category: None,
                values: values(
                    name,
                    zones.split(',').fold(0, |mask, zone| mask | self.zones[zone].bit()),
                    quota.parse().unwrap(),
                ),
            },
            ["quota", name, quota] => {
                let no = self.categories[name];
                let known = self.here().categories[usize::from(no.0)].values.clone();
                let values = CategoryValues { quota: quota.parse().unwrap(), ..known };
                AdminAction::PutCategory { festival, category: Some(no), values }
            }
            ["window", name, from, until] => {
                let no = self.categories[name];
                let known = self.here().categories[usize::from(no.0)].values.clone();
                let (valid_from, valid_until) = (clock(from).unwrap(), clock(until).unwrap());
                AdminAction::PutCategory {
                    festival,
                    category: Some(no),
                    values: CategoryValues { valid_from, valid_until, ..known },
                }
            }
            ["issue", names, category, ref rest @ ..] => AdminAction::IssueTickets {
                festival,
                category: self.categories[category],
                holders: vec![None; names_of(names).len()],
                paid: rest != ["unpaid"],
                seed: self.tickets.len() as u64,
            },
            ["pay", name] => status(name, TicketStatus::Sold),
            ["cancel", name] => status(name, TicketStatus::Cancelled),
            ["refund", name] => status(name, TicketStatus::Refunded),
            ["block", name] => AdminAction::BlockTicket { ticket: ticket(name), blocked: true },
            ["unblock", name] => AdminAction::BlockTicket { ticket: ticket(name), blocked: false },
            ["wristband", tag, name] => {
                let ticket = ticket(name);
                let tag = self.tag(tag);
                AdminAction::BindTag { ticket, tag }
            }
            ["open", zone] => state(zone, ZoneState::Open),
            ["close", zone] => state(zone, ZoneState::Closed),
            ["evacuate", zone] => state(zone, ZoneState::Evacuating),
            ["revoke", reader] => AdminAction::RevokeDevice { device: self.readers[reader].id },
            ["connect", reader] => {
                let session = self.records.len() as u64;
                AdminAction::DeviceConnected { device: self.readers[reader].id, session }
            }
            ["leave", reader] => {
                let session = self.session_of(reader);
                AdminAction::DeviceLeft { device: self.readers[reader].id, session }
            }
            ["complete", "regardless"] => AdminAction::ByHand(ByHand::Complete { festival }),
            ["reopen", ref reason @ ..] => AdminAction::ByHand(ByHand::Reopen { festival, reason: reason.join(" ") }),
            ["begins", at] => {
                let details = Details { starts_at: clock(at).unwrap(), ..self.here().details() };
                AdminAction::ByHand(ByHand::Edit { festival, details })
            }
            ["reset", ref reason @ ..] => {
                AdminAction::ByHand(ByHand::ResetScans { festival, reason: reason.join(" ") })
            }
            ["restore", name, ref reason @ ..] => {
                AdminAction::ByHand(ByHand::RestoreTicket { ticket: ticket(name), reason: reason.join(" ") })
            }
            ["readmit", reader, ref reason @ ..] => {
                let device = self.readers[reader].id;
                AdminAction::ByHand(ByHand::ReadmitDevice { device, reason: reason.join(" ") })
            }
            ["admit", name, "at", reader, ref reason @ ..] => {
                let gate = self.here().device(self.readers[reader].id).unwrap().gate;
                AdminAction::ByHand(ByHand::Admit { ticket: ticket(name), gate, reason: reason.join(" ") })
            }
            ["rotate"] => AdminAction::RotateQrKey { festival },
            ["supervisor", "undoes", name] => {
                let ticket = ticket(name);
                self.may_overflow = true; // an exit that was none fills a zone again
                AdminAction::UndoScan { ticket }
            }
            _ => panic!("no such line: {words:?}"),
        }
    }

    /// A tag that scripts call by this name, bound or not.
    pub fn tag(&mut self, name: &str) -> TagUid {
        let n = self.tags.len() as u8;
        *self.tags.entry(name.into()).or_insert_with(|| TagUid::new(&[4, 0, 0, 0, 0, 0, n]).expect("seven bytes"))
    }

    fn last_event(&self) -> Event {
        let record = engine::record::read(self.records.last().expect("something has happened")).expect("our own");
        record.events.last().expect("records are not empty").clone()
    }

    fn learn(&mut self, words: &[&str], answer: AdminAnswer) {
        match (words, answer) {
            (["zone", name, ..], AdminAnswer::Zone(zone)) => {
                self.zones.insert((*name).into(), zone);
            }
            (["category", name, ..], AdminAnswer::Category(category)) => {
                self.categories.insert((*name).into(), category);
            }
            (["issue", names, ..], AdminAnswer::Issued { festival, category, first_serial, count, seed }) => {
                let ids = issued(festival, category, first_serial, count, seed);
                self.tickets.extend(names_of(names).into_iter().zip(ids));
            }
            _ => {}
        }
    }

    fn zone(&self, name: &str) -> &engine::gates::zone::Zone {
        self.here().zone(self.zones[name]).expect("it was made")
    }

    fn zone_name(&self, zone: ZoneNo) -> &str {
        self.zones.iter().find(|(_, no)| **no == zone).map_or("?", |(name, _)| name)
    }

    fn whereabouts(&self, name: &str) -> String {
        let inside = self.here().ticket(self.tickets[name]).unwrap().inside;
        let zones = self.here().zones.iter().filter(|zone| inside & zone.no.bit() != 0);
        let names: Vec<&str> = zones.map(|zone| self.zone_name(zone.no)).collect();
        if names.is_empty() { "outside".into() } else { names.join(",") }
    }

    /// The answer in words: the verdict and every flag, and of the other facets those that `expected` names.
    fn device_words(&self, answer: &DeviceAnswer, repeated: bool, expected: Option<&str>) -> String {
        let mut words = vec![match answer.verdict {
            Verdict::Admitted => "admitted".to_owned(),
            Verdict::Exited => "exited".to_owned(),
            Verdict::Undone => "undone".to_owned(),
            Verdict::Rejected(rejection) => format!("rejected: {}", rejection.code()),
        }];
        for (bit, word) in [(WAS_NOT_INSIDE, "was_not_inside"), (CONFLICT, "conflict"), (UNLOGGED, "unlogged")] {
            if answer.flags & bit != 0 {
                words.push(word.to_owned());
            }
        }
        if repeated {
            words.push("again".to_owned());
        }
        for facet in expected.unwrap_or_default().split(", ").skip(1) {
            if facet.ends_with(" inside") {
                words.push(format!("{} inside", answer.occupancy));
            } else if facet.ends_with("first") {
                let first = answer.flags & FIRST_ENTRY != 0;
                words.push(if first { "first" } else { "not first" }.to_owned());
            } else if facet.starts_with("since ") {
                words.push(answer.first_use.map_or("no first use".to_owned(), |first| {
                    let minutes = first.at.since_ms(MIDNIGHT) / MINUTE_MS;
                    let gate = &self.here().gates[usize::from(first.gate.0)].name;
                    format!("since {:02}:{:02} {} {gate}", minutes / 60, minutes % 60, self.zone_name(first.zone))
                }));
            }
        }
        words.join(", ")
    }
}

fn time_words(at: Timestamp) -> String {
    let ms = at.since_ms(MIDNIGHT);
    format!("{:02}:{:02}:{:02}", ms / HOUR_MS, ms / MINUTE_MS % 60, ms / 1_000 % 60)
}

fn admin_words(answer: &AdminAnswer) -> String {
    match answer {
        AdminAnswer::Rejected(rejection) => format!("rejected: {}", rejection.code()),
        AdminAnswer::QrKey(version) => format!("key {version}"),
        _ => "done".into(),
    }
}

/// What follows this word.
fn option<'a>(words: &[&'a str], word: &str) -> Option<&'a str> {
    words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1)).copied()
}

/// `T1`, or `T1..T9`.
fn names_of(names: &str) -> Vec<String> {
    let Some((first, last)) = names.split_once("..") else { return vec![names.into()] };
    let letter = &first[..1];
    let number = |name: &str| name[1..].parse::<u32>().expect("a number");
    (number(first)..=number(last)).map(|n| format!("{letter}{n}")).collect()
}
