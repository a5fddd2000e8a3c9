// The cashless half of the live page. It is there where the festival takes cashless payments, and nowhere else.

import { Chart, sparkline } from './chart.js';
import { count, duration, el, figure, major, money, percent, rate, short, text, time, wholeMoney } from './format.js';
import { MEAN_S, SPARK_S, at, empty, fill, latest, levels, newest, reasons, rows, sum } from './lists.js';

const TERMINALS = ['payments', 'refunds', 'topUps', 'rejected', 'soldMinor', 'toppedUpMinor'];
const VENDORS_SHOWN = 50; // a thousand rows a second would be for nobody's eyes

let currency = 'EUR';

export const chart = new Chart(at('cash-chart'), at('cash-tip'), {
  upper: [{ ink: 'in', filled: true, value: (point) => point.sales }],
  lower: [{ ink: 'out', filled: true, value: (point) => point.payments }, { ink: 'no', value: (point) => point.refused }],
  tip: (point) => [
    ['in', `${wholeMoney(point.sales, currency)} a minute`],
    ['out', `${rate(point.payments)} payments a second`],
    ['no', `${rate(point.refused)} refused a second`],
  ],
});

/** Shows how it stands with the money, or nothing where there is none to show. */
export function show(now, points) {
  const { cash } = now;
  const half = at('cash-half');
  half.hidden = !cash;
  document.body.classList.toggle('two', Boolean(cash));
  if (!cash) return;
  currency = cash.currency;
  half.classList.toggle('stale', !cash.current);
  figures(cash, points);
  const sold = cash.payments > 0 || cash.rejections.length > 0;
  chart.show(lines(points), sold ? null : 'No sales yet');
  terminals(now.at, cash);
  vendors(cash, points);
  reasons(at('cash-reasons'), cash.rejections, points, (point) => point.cash?.reasons, 'Nothing has been refused.');
  refusals(cash);
}

/** What whoever is on call must know about the money, if there is anything. */
export function alarm(cash) {
  if (!cash) return null;
  if (Number(cash.trialBalance) !== 0) {
    return ['bad', `The books do not balance: they are off by ${money(cash.trialBalance, cash.currency)}. Call whoever is on duty for the server, and run “tapgate audit”.`];
  }
  if (!cash.current) return ['warn', 'A part of the server does not answer: the cashless figures are the last that were known.'];
  return null;
}

/** Sales per minute, payments and refusals per second, each as the mean of ten seconds. */
function lines(points) {
  const per = (pick) => levels(points, MEAN_S, (point) => pick(point.cash));
  const sales = per((cash) => cash?.soldMinor);
  const payments = per((cash) => cash?.payments);
  const refused = per((cash) => cash?.rejected);
  return points.map(({ at, spanMs, cash }, i) => (cash
    ? { at, spanMs, sales: major(sales[i] * 60, currency), payments: payments[i], refused: refused[i] }
    : { at, spanMs, sales: null, payments: null, refused: null }));
}

function figures(cash, points) {
  figure(at('in-wallets'), money(cash.inWallets, cash.currency));
  const zero = Number(cash.trialBalance) === 0;
  const proof = at('proof');
  proof.className = `proof ${zero ? 'holds' : 'broken'}`;
  proof.title = 'All accounts of the books, added up over all shards: wallets, vendors, commission, where the money came from, corrections, transfers.';
  text(proof, zero ? '✓ The books balance' : `✗ The books are off by ${money(cash.trialBalance, cash.currency)}`);

  const minute = sum(points, 60, TERMINALS, (point) => point.cash);
  const perMinute = (n) => n * 60 / minute.seconds;
  const sales = wholeMoney(major(perMinute(minute.soldMinor), cash.currency), cash.currency);
  figure(at('sales'), sales);
  text(at('sales-sub'), `${wholeMoney(cash.sold, cash.currency)} in all`);
  figure(at('payments'), short(perMinute(minute.payments)));
  text(at('payments-sub'), `${count(cash.payments)} in all`);
  figure(at('refused'), short(perMinute(minute.rejected)));
  text(at('refused-sub'), `${percent(minute.rejected, minute.rejected + minute.payments + minute.refunds + minute.topUps)} of what was asked`);

  const { heard, silent, unused, silentAfterS } = cash.terminals;
  const all = heard + silent + unused;
  figure(at('heard'), count(heard));
  text(at('heard-of'), all ? `of ${count(all)} in ${duration(silentAfterS)}` : 'no terminals yet');
  fill(at('heard-bar'), heard, all, false);
  at('cash-chart').setAttribute('aria-label', `Sales per minute over the last minutes. Now ${sales}, ${count(Math.round(perMinute(minute.payments)))} payments and ${count(Math.round(perMinute(minute.rejected)))} refusals a minute.`);
}

// ---- Terminals ----

function terminals(now, cash) {
  const { silent, unused, silentAfterS, silentList } = cash.terminals;
  const vendorName = new Map(cash.vendors.map((vendor) => [vendor.no, vendor.name]));
  text(at('terminals-sub'), unused ? `${count(silent)} · ${count(unused)} unused` : count(silent));
  rows(at('terminals'), silentList, (terminal) => terminal.device, terminalRow, (terminal, row) => {
    text(row.parts.name, terminal.name);
    text(row.parts.since, duration(Math.max(0, (now - terminal.lastSeenAt) / 1000)));
    text(row.parts.of, terminal.vendor == null ? 'Cash desk' : vendorName.get(terminal.vendor) ?? `Vendor ${terminal.vendor}`);
    text(row.parts.last, `last heard ${time(terminal.lastSeenAt)}`);
  });
  const all = cash.terminals.heard + silent + unused;
  empty(at('terminals'), silentList.length, !all ? 'No terminals yet.' : unused === all ? 'No terminal has been used yet.' : `All that were ever used were heard within ${duration(silentAfterS)}.`);
}

function terminalRow() {
  const parts = { name: el('b', 'name'), since: el('span', 'state warn'), of: el('span', 'muted'), last: el('span', 'muted') };
  const row = el('li', 'terminal', el('div', 'line', parts.name, parts.since), el('div', 'line', parts.of, parts.last));
  row.parts = parts;
  return row;
}

// ---- Vendors ----

function vendors(cash, points) {
  const top = [...cash.vendors].sort((a, b) => b.sold - a.sold || a.no - b.no).slice(0, VENDORS_SHOWN);
  const open = cash.vendors.filter((vendor) => vendor.open).length;
  text(at('vendors-sub'), cash.vendors.length ? `${count(open)} of ${count(cash.vendors.length)} open · line: 2 min` : '');
  const recent = newest(points, SPARK_S);
  rows(at('vendors'), top, (vendor) => vendor.no, vendorRow, (vendor, row) => {
    const of = (point) => {
      const [payments, soldMinor] = point.cash?.vendors[vendor.no] ?? [0, 0];
      return { payments, soldMinor };
    };
    const minute = sum(points, 60, ['payments', 'soldMinor'], of);
    text(row.parts.name, vendor.name);
    text(row.parts.heard, vendor.open ? (vendor.terminals ? `${vendor.heard} of ${vendor.terminals} heard` : 'no terminal') : 'closed');
    row.parts.heard.classList.toggle('bad', vendor.open && vendor.heard < vendor.terminals);
    text(row.parts.sales, wholeMoney(major(minute.soldMinor * 60 / minute.seconds, cash.currency), cash.currency));
    text(row.parts.payments, count(Math.round(minute.payments * 60 / minute.seconds)));
    text(row.parts.sold, wholeMoney(vendor.sold, cash.currency));
    text(row.parts.refunded, wholeMoney(vendor.refunded, cash.currency));
    text(row.parts.payable, wholeMoney(vendor.payable, cash.currency));
    sparkline(row.parts.spark, recent, levels(recent, MEAN_S, (point) => of(point).soldMinor), [], SPARK_S);
  });
  empty(at('vendors'), top.length, 'No vendors yet.');
}

function vendorRow() {
  const parts = {
    name: el('b', 'name'), heard: el('span', 'muted'), spark: sparkline(null, [], [], [], SPARK_S),
    sales: el('td', 'num in'), payments: el('td', 'num out roomy'), sold: el('td', 'num'),
    refunded: el('td', 'num total'), payable: el('td', 'num total'),
  };
  const vendor = el('th', 'gate', parts.name, parts.heard);
  vendor.scope = 'row';
  const row = el('tr', '', vendor, el('td', 'spark-col', parts.spark), parts.sales, parts.payments, parts.sold, parts.refunded, parts.payable);
  row.parts = parts;
  return row;
}

// ---- Refusals ----

function refusals(cash) {
  const vendorName = new Map(cash.vendors.map((vendor) => [vendor.no, vendor.name]));
  latest(at('cash-latest'), cash.latest, (entry) => ({
    where: entry.terminal ?? entry.device ?? 'Office',
    title: [entry.vendor == null ? null : vendorName.get(entry.vendor), entry.device, `Wallet ${entry.wallet}`].filter(Boolean).join(' · '),
    amount: Number(entry.amount) ? money(entry.amount, cash.currency) : null,
  }), 'No refusals yet.');
  const asked = cash.rejections.reduce((n, reason) => n + reason.count, 0);
  text(at('cash-latest-sub'), asked ? `${count(asked)} in all` : '');
}
