//! A picture of one festival in lines and columns, at any size: the gates, and beside or below them the money.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Cell, Paragraph, Row, Sparkline, Table, Widget, Wrap};

use crate::live::cashless::{Amount, Cashless};
use crate::live::snapshot::{Point, Reason, Snapshot};

use crate::cli::top::watch::{Link, MEAN_S, MINUTE_S, Watch};

/// From this width on the halves stand side by side.
const SIDE_BY_SIDE: u16 = 110;

/// What is drawn.
pub struct Screen<'a> {
    /// The festival.
    pub watch: &'a Watch,
    /// Which it is of how many.
    pub which: (usize, usize),
    /// Whether somebody could press a key.
    pub keys: bool,
}

impl Screen<'_> {
    /// The picture as plain text, a line each, without what is blank at the ends.
    pub fn text(&self, width: u16, height: u16) -> String {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        self.render(buffer.area, &mut buffer);
        lines(&buffer).iter().fold(String::new(), |text, line| text + line + "\n")
    }

    fn header(&self, area: Rect, buffer: &mut Buffer) {
        let watch = self.watch;
        let name = watch.festival.as_ref().map_or(&*watch.slug, |festival| &festival.name);
        let mut left = vec![Span::from(name.to_owned()).bold()];
        let mut right = match &watch.link {
            Link::Connecting => Span::from("connecting").yellow(),
            Link::Live => Span::from("● live").green(),
            Link::Lost(why) => Span::from(format!("○ lost: {why}")).yellow(),
            Link::Refused(why) => Span::from(why.clone()).red(),
        }
        .into_left_aligned_line();
        if let Some(now) = &watch.now {
            left.push(format!("  {}", now.status).into());
            right.push_span(format!("  {} UTC", clock(now.at)));
        }
        if self.keys {
            let (which, all) = self.which;
            let tab = if all > 1 { format!("  {which} of {all}, Tab: next") } else { String::new() };
            right.push_span(Span::from(format!("{tab}  q: quit")).dim());
        }
        let [left_area, right_area] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(right.width() as u16)]).spacing(1).areas(area);
        Line::from(left).render(left_area, buffer);
        right.render(right_area, buffer);
    }
}

impl Widget for &Screen<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let mut rows = Rows(area);
        self.header(rows.take(1), buffer);
        let Some(now) = &self.watch.now else { return };
        if let Some(alarm) = alarm(now) {
            let place = rows.take(if alarm.chars().count() > usize::from(area.width) { 2 } else { 1 });
            let alarm = Paragraph::new(alarm).wrap(Wrap { trim: true }).style(Style::new().white().on_red());
            alarm.render(place, buffer);
        }
        let [gates, money] = halves(rows.0, now.cash.is_some());
        gates_half(self.watch, now, gates, buffer);
        if let Some(cash) = &now.cash {
            cash_half(self.watch, cash, now.at, money, buffer);
        }
    }
}

/// What whoever is on call must know before anything else.
fn alarm(now: &Snapshot) -> Option<String> {
    if !now.recording {
        return Some("NOTHING CAN BE RECORDED: readers answer `unavailable` and let nobody in.".into());
    }
    let evacuating: Vec<_> = now.zones.iter().filter(|zone| zone.state == "EVACUATING").collect();
    if !evacuating.is_empty() {
        let zones = evacuating.iter().map(|zone| format!("{}: {} still inside", zone.name, zone.occupancy));
        return Some(format!("Evacuation. {}.", zones.collect::<Vec<_>>().join(", ")));
    }
    match &now.cash {
        Some(cash) if cash.trial_balance.minor != 0 => {
            Some(format!("The books do not add up: all accounts come to {}. Run `tapgate audit`.", cash.trial_balance))
        }
        Some(cash) if !cash.current => {
            Some("A part of the server does not answer: the cashless figures are the last that were known.".into())
        }
        _ => None,
    }
}

fn halves(area: Rect, two: bool) -> [Rect; 2] {
    match two {
        false => [area, Rect::ZERO],
        true if area.width >= SIDE_BY_SIDE => Layout::horizontal([Constraint::Fill(1); 2]).areas(area),
        true => Layout::vertical([Constraint::Fill(1); 2]).areas(area),
    }
}

/// A box with a title; its inside is cut into rows from the top.
fn half(title: &str, area: Rect, buffer: &mut Buffer) -> Rows {
    let block = Block::bordered().border_type(BorderType::Rounded).title(format!(" {title} ").bold());
    let inner = block.inner(area);
    block.render(area, buffer);
    Rows(inner)
}

fn gates_half(watch: &Watch, now: &Snapshot, area: Rect, buffer: &mut Buffer) {
    let mut rows = half("Gates", area, buffer);
    let perimeters = now.zones.iter().filter(|zone| zone.parent.is_none());
    let (inside, room) = perimeters.fold((0_u64, 0_u64), |(inside, room), zone| {
        (inside + u64::from(zone.occupancy), room + u64::from(zone.capacity))
    });
    let per_s = |of: fn(&Point) -> u32| rate(watch.rate(MEAN_S, |point| u64::from(of(point))));
    let answers = now.latency.as_ref().map_or("no answers lately".to_owned(), |times| {
        let answers = count(times.answers);
        format!("p50 {} ms  p99 {} ms  of {answers} in {} s", ms(times.p50_us), ms(times.p99_us), times.window_s)
    });
    let conflicts = if now.conflicts > 0 { format!("   {} conflicts", count(now.conflicts)) } else { String::new() };
    let figures = [
        figure("Inside", format!("{} of {}  {}", count(inside), count(room), percent(inside, room)).into()),
        figure(
            "Scans/s",
            Line::from(vec![
                Span::from(format!("{} in", per_s(|point| point.admitted))).green(),
                Span::from(format!("  {} out", per_s(|point| point.exited))).light_blue(),
                Span::from(format!("  {} rejected", per_s(|point| point.rejected))).red(),
                Span::from(conflicts).yellow(),
            ]),
        ),
        figure("Answers", answers.into()),
    ];
    figures.iter().for_each(|line| line.render(rows.take(1), buffer));
    spark(watch, &mut rows, |point| u64::from(point.admitted), buffer);
    for zone in now.zones.iter().take(rows.part(4)) {
        let (inside, room) = (u64::from(zone.occupancy), u64::from(zone.capacity));
        let state = if zone.state == "OPEN" { String::new() } else { format!("  {}", zone.state) };
        let text = format!("{} of {}  {}", count(inside), count(room), percent(inside, room));
        let line = Line::from(vec![
            Span::from(format!("{:18.18} ", zone.name)),
            bar(inside, room),
            Span::from(format!(" {text}")),
            Span::from(state).red(),
        ]);
        line.render(rows.take(1), buffer);
    }
    let each = |i: usize, what: usize| {
        let of = |point: &Point| point.gates.get(i).map_or(0, |gate| u64::from(gate[what]));
        rate(watch.rate(MEAN_S, of))
    };
    let table = now.gates.iter().map(|gate| {
        let i = usize::from(gate.no);
        Row::new([
            Cell::from(gate.name.clone()),
            right(each(i, 0)).green(),
            right(each(i, 1)).light_blue(),
            right(each(i, 2)).red(),
            right(count(gate.admitted)),
        ])
    });
    let widths = [Constraint::Fill(1), Constraint::Length(6), Constraint::Length(6), Constraint::Length(6)];
    let head = ["Gate", "In/s", "Out/s", "Rej/s", "Admitted"];
    table_of(table.collect(), &widths, &head, &mut rows, buffer);
    reasons(&now.rejections, &mut rows, buffer);
    let gate_name = |no: u16| now.gates.iter().find(|gate| gate.no == no).map_or("", |gate| &gate.name).to_owned();
    for refused in now.latest.iter().take(usize::from(rows.0.height)) {
        let mark = if refused.conflict { " let in: conflict" } else { "" };
        let place = format!("{}{mark}", gate_name(refused.gate));
        latest(refused.at, &refused.code, &place, &refused.say, &mut rows, buffer);
    }
}

fn cash_half(watch: &Watch, cash: &Cashless, at: i64, area: Rect, buffer: &mut Buffer) {
    let mut rows = half("Cashless", area, buffer);
    let zero = cash.trial_balance.minor == 0;
    let proof = format!("   {} books come to {}", if zero { "✓" } else { "✗" }, cash.trial_balance);
    let proof = if zero { Span::from(proof).green() } else { Span::from(proof).red().bold() };
    let per_minute = |rate: Option<f64>| rate.map(|per_s| per_s * 60.0);
    let payments = watch.cash_rate(MINUTE_S, |cash| cash.payments.into());
    let refused = watch.cash_rate(MINUTE_S, |cash| cash.rejected.into());
    let sales = watch.cash_rate(MINUTE_S, |cash| cash.sold_minor);
    let silent: Vec<_> = cash.terminals.silent_list.iter().collect();
    let silence = match silent.first() {
        None => String::new(),
        Some(one) => format!("   silent: {} ({} min)", one.name, (at - one.last_seen_at).max(0) / 60_000),
    };
    let more =
        if silent.len() > 1 { format!(" and {} more", cash.terminals.silent.saturating_sub(1)) } else { String::new() };
    let terminals = &cash.terminals;
    let all = terminals.heard + terminals.silent + terminals.unused;
    let figures = [
        figure("Wallets", Line::from(vec![format!("{} {}", money(cash.in_wallets), cash.currency).into(), proof])),
        figure(
            "Per min",
            Line::from(vec![
                Span::from(format!("{} {}", whole(per_minute(sales), cash.decimals), cash.currency)).green(),
                Span::from(format!("  {} payments", rounded(per_minute(payments)))).light_blue(),
                Span::from(format!("  {} refused", rounded(per_minute(refused)))).red(),
            ]),
        ),
        figure(
            "Terminals",
            Line::from(vec![
                format!("{} of {all} in {} min", terminals.heard, terminals.silent_after_s / 60).into(),
                Span::from(silence + &more).yellow(),
            ]),
        ),
    ];
    figures.iter().for_each(|line| line.render(rows.take(1), buffer));
    spark(watch, &mut rows, |point| point.cash.as_ref().map_or(0, |cash| cash.sold_minor), buffer);
    let mut vendors: Vec<_> = cash.vendors.iter().collect();
    vendors.sort_by_key(|vendor| (std::cmp::Reverse(vendor.sold), vendor.no));
    let table = vendors.iter().map(|vendor| {
        let each = |what: usize| {
            let i = usize::from(vendor.no);
            watch.cash_rate(MINUTE_S, |cash| cash.vendors.get(i).map_or(0, |sold| u64::from(sold[what])))
        };
        let heard = match vendor.open {
            true => Cell::from(format!("{}/{}", vendor.heard, vendor.terminals)),
            false => Cell::from("closed").dim(),
        };
        let quiet = vendor.open && vendor.heard < vendor.terminals;
        Row::new([
            Cell::from(vendor.name.clone()),
            right(whole(per_minute(each(1)), cash.decimals)).green(),
            right(rounded(per_minute(each(0)))).light_blue(),
            right(money(Amount { minor: vendor.sold.minor - vendor.refunded.minor, ..vendor.sold })),
            if quiet { heard.yellow() } else { heard },
        ])
    });
    let widths = [Constraint::Fill(1), Constraint::Length(8), Constraint::Length(6), Constraint::Length(14)];
    let head = ["Vendor", "Sales/m", "Pays/m", "Sold, net", "Heard"];
    table_of(table.collect(), &widths, &head, &mut rows, buffer);
    reasons(&cash.rejections, &mut rows, buffer);
    for refused in cash.latest.iter().take(usize::from(rows.0.height)) {
        let place = refused.terminal.as_deref().or(refused.device.as_deref()).unwrap_or("Office");
        let place = format!("{} {place}", money(refused.amount));
        latest(refused.at, &refused.code, &place, &refused.say, &mut rows, buffer);
    }
}

/// What is left of an area, cut off from the top.
struct Rows(Rect);

impl Rows {
    fn take(&mut self, height: u16) -> Rect {
        let height = height.min(self.0.height);
        let taken = Rect { height, ..self.0 };
        self.0 = Rect { y: self.0.y + height, height: self.0.height - height, ..self.0 };
        taken
    }
    /// One part of so many of what is left, in rows.
    fn part(&self, of: u16) -> usize {
        usize::from(self.0.height / of)
    }
}

fn figure(name: &'static str, value: Line<'static>) -> Line<'static> {
    let mut line = Line::from(Span::from(format!("{name:11}")).dim());
    line.extend(value);
    line
}

fn spark(watch: &Watch, rows: &mut Rows, of: impl Fn(&Point) -> u64, buffer: &mut Buffer) {
    let height = match rows.0.height {
        22.. => 3,
        12.. => 1,
        _ => return,
    };
    let area = rows.take(height);
    let data = watch.line(usize::from(area.width), of);
    Sparkline::default().data(data).style(Style::new().green()).render(area, buffer);
}

fn bar(part: u64, all: u64) -> Span<'static> {
    let full = (part * 10).checked_div(all).unwrap_or(0).min(10) as usize;
    let bar = Span::from("█".repeat(full) + &"░".repeat(10 - full));
    match full {
        10 => bar.red(),
        8.. => bar.yellow(),
        _ => bar.light_blue(),
    }
}

/// At most half of what is left, so that refusals have their place.
fn table_of(rows: Vec<Row<'_>>, widths: &[Constraint], head: &[&'static str], left: &mut Rows, buffer: &mut Buffer) {
    let height = (rows.len() + 1).min(left.part(2).max(2)) as u16;
    let widths = widths.iter().copied().chain([Constraint::Length(9)]);
    let head = head.iter().enumerate().map(|(i, name)| match i {
        0 => Cell::from(*name),
        _ if *name == "Heard" => Cell::from(*name),
        _ => right((*name).to_owned()),
    });
    let head = Row::new(head).style(Style::new().fg(Color::Gray).dim());
    Widget::render(Table::new(rows, widths).header(head), left.take(height), buffer);
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

fn reasons(all: &[Reason], rows: &mut Rows, buffer: &mut Buffer) {
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by_key(|reason| (std::cmp::Reverse(reason.count), reason.code.clone()));
    if sorted.is_empty() || rows.0.height < 4 {
        return;
    }
    let words = sorted.iter().map(|reason| format!("{} {}", words(&reason.code), count(reason.count)));
    let text = words.collect::<Vec<_>>().join(" · ");
    let place = rows.take(if text.chars().count() > usize::from(rows.0.width) { 2 } else { 1 });
    Paragraph::new(text).wrap(Wrap { trim: true }).dim().render(place, buffer);
}

/// One refusal: in one line where it has room there, else its sentence on a line of its own, since that is what somebody
/// says aloud.
fn latest(at: i64, code: &str, place: &str, say: &str, rows: &mut Rows, buffer: &mut Buffer) {
    let say = Span::from(format!("“{say}”")).dim();
    let mut line = Line::from(vec![
        Span::from(format!("{} ", clock(at))).dim(),
        Span::from(words(code)).red(),
        Span::from(format!(" {place} ")),
    ]);
    if line.width() + say.width() <= usize::from(rows.0.width) {
        line.push_span(say);
        line.render(rows.take(1), buffer);
    } else {
        line.render(rows.take(1), buffer);
        Line::from(vec![Span::from("         "), say]).render(rows.take(1), buffer);
    }
}

/// 18:04:12
fn clock(at: i64) -> String {
    let s = at.div_euclid(1_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
}

/// 12,480
fn count(n: impl Into<u128>) -> String {
    let digits = n.into().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 412,380.50
fn money(amount: Amount) -> String {
    let sign = if amount.minor < 0 { "-" } else { "" };
    let size = Amount { minor: amount.minor.saturating_abs(), ..amount }.to_string();
    let (whole, point) = size.split_at(size.find('.').unwrap_or(size.len()));
    format!("{sign}{}{point}", count(whole.parse::<u128>().unwrap_or(0)))
}

/// Minor units as whole ones: for rates.
fn whole(minor: Option<f64>, decimals: u8) -> String {
    rounded(minor.map(|minor| minor / 10_f64.powi(i32::from(decimals))))
}

fn rounded(n: Option<f64>) -> String {
    n.map_or("–".into(), |n| count(n.round() as u64))
}

/// 0.4, 7.2, 42
fn rate(per_s: Option<f64>) -> String {
    match per_s {
        None => "–".into(),
        Some(n) if n < 9.95 => format!("{n:.1}"),
        some => rounded(some),
    }
}

fn ms(us: u64) -> String {
    match us {
        0..995 => format!("{:.2}", us as f64 / 1_000.0),
        995..9_950 => format!("{:.1}", us as f64 / 1_000.0),
        _ => count((us + 500) / 1_000),
    }
}

fn percent(part: u64, all: u64) -> String {
    format!("{} %", (part * 100).checked_div(all).unwrap_or(0))
}

/// already_used → Already used
fn words(code: &str) -> String {
    let plain = code.replace('_', " ").replace("qr", "QR");
    let mut letters = plain.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The lines of a buffer, without what is blank at their ends and at the end of all.
fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width).max(1);
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned()
    };
    let mut lines: Vec<String> = buffer.content().chunks(width).map(line).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

#[cfg(test)]
#[path = "screen/tests.rs"]
mod tests;
