// The gates' half of the live page.

import { Chart, sparkline } from './chart.js';
import { compact, count, el, figure, ms, percent, rate, text } from './format.js';
import { MEAN_S, SPARK_S, at, empty, fill, latest, levels, newest, reasons, rows, sum } from './lists.js';

const SCANS = ['admitted', 'exited', 'rejected'];

const perSecond = (name) => (point) => point[name] * 1000 / point.spanMs;

export const chart = new Chart(at('chart'), at('tip'), {
  upper: [
    { ink: 'in', filled: true, value: perSecond('admitted') },
    { ink: 'out', value: perSecond('exited') },
    { ink: 'no', filled: true, value: perSecond('rejected') },
  ],
  lower: [{ ink: 'p99', value: (point) => point.p99Us }, { ink: 'muted', value: (point) => point.p50Us }],
  lowerIsTime: true,
  tip(point) {
    const per = (name) => rate(perSecond(name)(point));
    const lines = [['in', `${per('admitted')} admitted`], ['out', `${per('exited')} left`], ['no', `${per('rejected')} rejected`]];
    if (point.p99Us != null) lines.push(['p50', `half answered within ${ms(point.p50Us)} ms`], ['p99', `99 of 100 within ${ms(point.p99Us)} ms`]);
    return lines;
  },
});

/** Shows how things stand at the gates. */
export function show(now, points) {
  figures(now, points);
  const scanned = now.gates.some((gate) => gate.admitted || gate.exited || gate.rejected);
  chart.show(points, scanned ? null : 'No scans yet');
  zones(now);
  gates(now, points);
  reasons(at('reasons'), now.rejections, points, (point) => point.reasons, 'Nobody has been turned away.');
  refusals(now);
}

function figures(now, points) {
  const perimeters = now.zones.filter((zone) => zone.parent == null);
  const inside = perimeters.reduce((n, zone) => n + zone.occupancy, 0);
  const capacity = perimeters.reduce((n, zone) => n + zone.capacity, 0);
  figure(at('inside'), count(inside));
  text(at('inside-of'), capacity ? `of ${count(capacity)} · ${percent(inside, capacity)}` : 'no zones yet');
  fill(at('inside-bar'), inside, capacity);

  const mean = sum(points, MEAN_S, SCANS);
  figure(at('admitted'), rate(mean.admitted / mean.seconds));
  figure(at('exited'), rate(mean.exited / mean.seconds));
  figure(at('rejected'), rate(mean.rejected / mean.seconds));
  const minute = sum(points, 60, SCANS);
  const scans = minute.admitted + minute.exited + minute.rejected;
  text(at('admitted-sub'), `${count(Math.round(minute.admitted))} in the last minute`);
  text(at('exited-sub'), `${count(Math.round(minute.exited))} in the last minute`);
  text(at('rejected-sub'), `${percent(minute.rejected, scans)} of the last minute’s scans`);

  figure(at('p50'), now.latency ? ms(now.latency.p50Us) : '–');
  figure(at('p99'), now.latency ? ms(now.latency.p99Us) : '–');
  text(at('latency-sub'), now.latency ? `${count(now.latency.answers)} answers in ${now.latency.windowS} s` : 'no answers in the last seconds');
  at('chart').setAttribute('aria-label', points.length
    ? `Scans per second over the last minutes. Now ${rate(mean.admitted / mean.seconds)} admitted, ${rate(mean.exited / mean.seconds)} left, ${rate(mean.rejected / mean.seconds)} rejected.`
    : 'Scans per second: nothing yet.');
}

// ---- Zones ----

const STATE = { OPEN: ['Open', 'good'], CLOSED: ['Closed', 'warn'], EVACUATING: ['Evacuating', 'bad'] };

function zones(now) {
  const children = Map.groupBy ? Map.groupBy(now.zones, (zone) => zone.parent) : grouped(now.zones);
  const inOrder = [];
  const walk = (parent, depth) => {
    for (const zone of children.get(parent) ?? []) { inOrder.push([zone, depth]); walk(zone.no, depth + 1); }
  };
  walk(null, 0);
  text(at('zones-sub'), `${now.zones.length}`);
  rows(at('zones'), inOrder, ([zone]) => zone.no, zoneRow, ([zone, depth], row) => {
    const [word, kind] = STATE[zone.state] ?? [zone.state, ''];
    row.style.setProperty('--depth', Math.min(depth, 5));
    row.dataset.state = zone.state;
    text(row.parts.name, zone.name);
    row.parts.state.className = `state ${kind}`;
    text(row.parts.state, word);
    text(row.parts.inside, count(zone.occupancy));
    text(row.parts.of, ` of ${count(zone.capacity)}`);
    text(row.parts.share, percent(zone.occupancy, zone.capacity));
    fill(row.parts.bar, zone.occupancy, zone.capacity);
  });
  empty(at('zones'), inOrder.length, 'No zones yet.');
}

function grouped(list) {
  const groups = new Map();
  for (const zone of list) groups.set(zone.parent, [...(groups.get(zone.parent) ?? []), zone]);
  return groups;
}

function zoneRow() {
  const parts = {
    name: el('b', 'name'), state: el('span', 'state'), inside: el('b'), of: el('span', 'muted'),
    share: el('span', 'share'), bar: el('i'),
  };
  const bar = el('div', 'bar', parts.bar);
  bar.setAttribute('aria-hidden', 'true');
  const row = el('li', 'zone',
    el('div', 'line', parts.name, parts.state),
    bar,
    el('div', 'line', el('span', '', parts.inside, parts.of), parts.share));
  row.parts = parts;
  return row;
}

// ---- Gates ----

function gates(now, points) {
  const zoneName = new Map(now.zones.map((zone) => [zone.no, zone.name]));
  const recent = newest(points, SPARK_S);
  rows(at('gates'), now.gates, (gate) => gate.no, gateRow, (gate, row) => {
    const of = (point) => {
      const [admitted, exited, rejected] = point.gates[gate.no] ?? [0, 0, 0];
      return { admitted, exited, rejected };
    };
    const mean = sum(points, MEAN_S, SCANS, of);
    text(row.parts.name, gate.name);
    text(row.parts.zone, zoneName.get(gate.zone) ?? '');
    text(row.parts.in, rate(mean.admitted / mean.seconds));
    text(row.parts.out, rate(mean.exited / mean.seconds));
    text(row.parts.no, rate(mean.rejected / mean.seconds));
    row.parts.no.classList.toggle('none', mean.rejected === 0);
    text(row.parts.admitted, compact(gate.admitted));
    text(row.parts.rejected, compact(gate.rejected));
    const step = (name) => levels(recent, 5, (point) => of(point)[name]);
    sparkline(row.parts.spark, recent, step('admitted'), step('rejected'), SPARK_S);
  });
  empty(at('gates'), now.gates.length, 'No gates yet.');
}

function gateRow() {
  const parts = {
    name: el('b', 'name'), zone: el('span', 'muted'), spark: sparkline(null, [], [], [], SPARK_S),
    in: el('td', 'num in'), out: el('td', 'num out'), no: el('td', 'num no'),
    admitted: el('td', 'num total'), rejected: el('td', 'num total'),
  };
  const gate = el('th', 'gate', parts.name, parts.zone);
  gate.scope = 'row';
  const row = el('tr', '', gate, el('td', 'spark-col', parts.spark), parts.in, parts.out, parts.no, parts.admitted, parts.rejected);
  row.parts = parts;
  return row;
}

// ---- Rejections ----

function refusals(now) {
  const gateName = new Map(now.gates.map((gate) => [gate.no, gate.name]));
  latest(at('latest'), now.latest, (entry) => ({
    where: `${gateName.get(entry.gate) ?? `Gate ${entry.gate}`} · ${entry.reader ?? entry.device}`,
    title: `${entry.ticket ? `Ticket ${entry.ticket}` : 'No ticket known'} · reader ${entry.device}`,
    mark: entry.conflict ? 'Let in: conflict' : null,
  }), 'No rejections yet.');
  text(at('latest-sub'), now.conflicts ? `${count(now.conflicts)} conflict${now.conflicts === 1 ? '' : 's'} to look at` : 'no conflicts');
  at('latest-sub').classList.toggle('bad', now.conflicts > 0);
}
