// The live page: one stream in, one screen. The server sends the last ten minutes first, then each second as it ends.

import { askForKey, bearer, forget, key } from './key.js';
import { Refused, read } from './stream.js';
import { Chart, sparkline } from './chart.js';
import { count, days, el, ms, percent, rate, text, time } from './format.js';

const HISTORY_MAX = 600; // ten minutes, as on the server
const SPARK_S = 120;
const MEAN_S = 10;

const slug = decodeURIComponent(location.pathname.split('/').filter(Boolean).at(-1) ?? '');
const at = (id) => document.getElementById(id);
const chart = new Chart(at('chart'), at('tip'));

let festival = null;
let points = [];
let last = null; // the newest picture
let reading = false; // somebody points at the list of rejections: it holds still

// ---- Connection ----

async function follow() {
  let failures = 0;
  for (;;) {
    if (!key()) { setConnection('connecting', 'Signed out'); await askForKey('This page shows the gates of one festival to those who may see them.'); }
    at('sign-out').hidden = false;
    setConnection(last ? 'reconnecting' : 'connecting', last ? 'Reconnecting' : 'Connecting');
    let wait = Math.min(10_000, 500 * 2 ** failures) * (0.75 + Math.random() / 2);
    failures += 1;
    try {
      await read(`/api/v1/festivals/${encodeURIComponent(slug)}/live/stream`, bearer(), (event, data) => {
        failures = 0;
        setConnection('live', 'Live');
        if (event === 'history') begin(data);
        else if (event === 'second') second(data);
      });
      wait = 300; // it ended in good order: the server goes down or restarts
    } catch (error) {
      if (error instanceof Refused) {
        if (error.status === 401) {
          forget();
          setConnection('connecting', 'Signed out');
          await askForKey('This key is not known, or it has been revoked. Please give another one.');
          failures = 0;
          continue;
        }
        if (error.status === 403 || error.status === 404) {
          setConnection('refused', 'Not connected');
          say('bad', error.status === 403
            ? 'This key may not see this festival. Sign out and use another one, or ask an administrator.'
            : `There is no festival called “${slug}” here.`, { label: 'All festivals', href: '/' });
          return;
        }
        if (error.code === 'unavailable') say('bad', UNAVAILABLE);
        else say('warn', error.status === 503 || error.status === 429
          ? 'The server is busy or has too many viewers. This page tries again by itself.'
          : `The server answered: ${error.message}. This page tries again by itself.`);
        wait = Math.max(wait, error.retryAfterMs || 0, 2_000);
      }
    }
    setConnection(last ? 'reconnecting' : 'connecting', last ? 'Reconnecting' : 'Cannot reach the server');
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

function setConnection(state, word) {
  at('connection').dataset.state = state;
  text(at('connection-word'), word);
  at('board').classList.toggle('stale', state !== 'live' && last != null);
}

function say(kind, sentence, link) {
  const box = at('notice');
  box.hidden = !sentence;
  if (!sentence || box.dataset.said === kind + sentence) return;
  box.dataset.said = kind + sentence;
  box.className = `notice ${kind}`;
  box.replaceChildren(sentence);
  if (link) {
    const a = el('a', '', link.label);
    a.href = link.href;
    box.append(' ', a);
  }
}

// ---- What arrives ----

function begin(data) {
  festival = data.festival;
  // A server that has just restarted knows less of the past than this page does.
  const since = data.points[0]?.at ?? data.now.at;
  points = [...points.filter((point) => point.at < since), ...data.points].slice(-HISTORY_MAX);
  document.title = `${festival.name} · Gates`;
  text(at('name'), festival.name);
  text(at('when'), days(festival.startsAt, festival.endsAt));
  picture(data.now);
}

function second(data) {
  points.push(data.point);
  if (points.length > HISTORY_MAX) points.shift();
  picture(data.now);
}

function picture(now) {
  last = now;
  text(at('updated'), `updated ${time(now.at)}`);
  banner(now);
  figures(now);
  chart.show(points);
  pressed();
  zones(now);
  gates(now);
  reasons(now);
  if (!reading) latest(now);
}

const UNAVAILABLE = 'Nothing can be recorded right now: readers answer “unavailable” and let nobody in. Call whoever is on duty for the server.';
const STATUS = {
  DRAFT: ['Draft', ''],
  PUBLISHED: ['Gates not open yet', ''],
  ONGOING: ['Gates open', 'good'],
  COMPLETED: ['Over', ''],
  CANCELLED: ['Cancelled', 'bad'],
};

function banner(now) {
  const [word, kind] = STATUS[now.status] ?? [now.status, ''];
  const pill = at('status');
  pill.hidden = false;
  pill.className = `pill ${kind}`;
  text(pill, word);
  const evacuating = now.zones.filter((zone) => zone.state === 'EVACUATING');
  if (!now.recording) say('bad', UNAVAILABLE);
  else if (evacuating.length) {
    const list = evacuating.map((zone) => `${zone.name}: ${count(zone.occupancy)} still inside`).join(' · ');
    say('bad', `Evacuation. Entries are off, exits are free. ${list}.`);
  } else say('', '');
}

// ---- Figures ----

/** Sums over the newest seconds: `{admitted, exited, rejected, seconds}`. */
function sum(seconds, pick = (point) => point) {
  const total = { admitted: 0, exited: 0, rejected: 0, seconds: 0 };
  for (let i = points.length - 1; i >= 0 && total.seconds < seconds; i -= 1) {
    const part = pick(points[i]);
    total.admitted += part.admitted;
    total.exited += part.exited;
    total.rejected += part.rejected;
    total.seconds += points[i].spanMs / 1000;
  }
  total.seconds = Math.max(total.seconds, 1);
  return total;
}

function figures(now) {
  const perimeters = now.zones.filter((zone) => zone.parent == null);
  const inside = perimeters.reduce((n, zone) => n + zone.occupancy, 0);
  const capacity = perimeters.reduce((n, zone) => n + zone.capacity, 0);
  text(at('inside'), count(inside));
  text(at('inside-of'), capacity ? `of ${count(capacity)} · ${percent(inside, capacity)}` : '');
  fill(at('inside-bar'), inside, capacity);

  const mean = sum(MEAN_S);
  text(at('admitted'), rate(mean.admitted / mean.seconds));
  text(at('exited'), rate(mean.exited / mean.seconds));
  text(at('rejected'), rate(mean.rejected / mean.seconds));
  const minute = sum(60);
  const scans = minute.admitted + minute.exited + minute.rejected;
  text(at('admitted-sub'), `${count(minute.admitted)} in the last minute`);
  text(at('exited-sub'), `${count(minute.exited)} in the last minute`);
  text(at('rejected-sub'), `${percent(minute.rejected, scans)} of the last minute’s scans`);

  const answered = points.at(-1);
  text(at('p50'), now.latency ? ms(now.latency.p50Us) : '–');
  text(at('p99'), now.latency ? ms(now.latency.p99Us) : '–');
  text(at('latency-sub'), now.latency ? `${count(now.latency.answers)} answers in the last ${now.latency.windowS} s` : 'no answers in the last seconds');
  at('chart').setAttribute('aria-label', answered
    ? `Scans per second over the last minutes. Now ${rate(mean.admitted / mean.seconds)} admitted, ${rate(mean.exited / mean.seconds)} left, ${rate(mean.rejected / mean.seconds)} rejected.`
    : 'Scans per second: nothing yet.');
}

function fill(bar, part, all) {
  const share = all ? Math.min(1, part / all) : 0;
  bar.style.setProperty('--share', share.toFixed(4));
  bar.dataset.level = share >= 0.98 ? 'full' : share >= 0.85 ? 'high' : 'ok';
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

function gates(now) {
  const zoneName = new Map(now.zones.map((zone) => [zone.no, zone.name]));
  rows(at('gates'), now.gates, (gate) => gate.no, gateRow, (gate, row) => {
    const of = (point) => {
      const [admitted, exited, rejected] = point.gates[gate.no] ?? [0, 0, 0];
      return { admitted, exited, rejected };
    };
    const mean = sum(MEAN_S, of);
    text(row.parts.name, gate.name);
    text(row.parts.zone, zoneName.get(gate.zone) ?? '');
    text(row.parts.in, rate(mean.admitted / mean.seconds));
    text(row.parts.out, rate(mean.exited / mean.seconds));
    text(row.parts.no, rate(mean.rejected / mean.seconds));
    row.parts.no.classList.toggle('none', mean.rejected === 0);
    text(row.parts.admitted, count(gate.admitted));
    text(row.parts.rejected, count(gate.rejected));
    const recent = points.slice(-SPARK_S).map(of);
    const step = (name) => smooth(recent.map((part) => part[name]), 5);
    sparkline(row.parts.spark, step('admitted'), step('rejected'), SPARK_S);
  });
}

/** The running mean of `n` values, so that a quiet gate's single scans read as a level. */
function smooth(values, n) {
  let running = 0;
  return values.map((value, i) => {
    running += value - (i >= n ? values[i - n] : 0);
    return running / Math.min(n, i + 1);
  });
}

function gateRow() {
  const parts = {
    name: el('b', 'name'), zone: el('span', 'muted'), spark: sparkline(null, [], [], SPARK_S),
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

function reasons(now) {
  const recent = new Map();
  for (const point of points) for (const [code, n] of Object.entries(point.reasons)) recent.set(code, (recent.get(code) ?? 0) + n);
  const list = now.rejections.map((reason) => ({ ...reason, recent: recent.get(reason.code) ?? 0 }));
  list.sort((a, b) => b.count - a.count || a.code.localeCompare(b.code));
  const most = Math.max(1, ...list.map((reason) => reason.count));
  rows(at('reasons'), list, (reason) => reason.code, reasonRow, (reason, row) => {
    row.title = reason.say;
    text(row.parts.code, words(reason.code));
    text(row.parts.recent, count(reason.recent));
    text(row.parts.count, count(reason.count));
    row.parts.bar.style.setProperty('--share', (reason.count / most).toFixed(4));
  });
  empty(at('reasons'), list.length, 'Nobody has been turned away.');
}

function reasonRow() {
  const parts = { code: el('span', 'name'), recent: el('b', 'num'), count: el('span', 'num muted'), bar: el('i') };
  const bar = el('div', 'bar no', parts.bar);
  bar.setAttribute('aria-hidden', 'true');
  const row = el('li', 'reason', parts.code, parts.recent, parts.count, bar);
  row.parts = parts;
  return row;
}

/** already_used → Already used */
function words(code) {
  const plain = code.replaceAll('_', ' ');
  return (plain[0].toUpperCase() + plain.slice(1)).replace(/\bqr\b/i, 'QR');
}

function latest(now) {
  const gateName = new Map(now.gates.map((gate) => [gate.no, gate.name]));
  const seen = new Map();
  const list = now.latest.map((entry) => {
    const same = `${entry.at}/${entry.device}/${entry.code}/${entry.ticket}`;
    seen.set(same, (seen.get(same) ?? 0) + 1);
    return { ...entry, id: `${same}/${seen.get(same)}` };
  });
  rows(at('latest'), list, (entry) => entry.id, latestRow, (entry, row) => {
    if (row.filled) return; // what has happened does not change
    row.filled = true;
    text(row.parts.time, time(entry.at));
    row.parts.time.dateTime = new Date(entry.at).toISOString();
    text(row.parts.code, words(entry.code));
    text(row.parts.where, `${gateName.get(entry.gate) ?? `Gate ${entry.gate}`} · ${entry.device}`);
    row.parts.where.title = entry.ticket ? `Ticket ${entry.ticket}` : 'No ticket known';
    text(row.parts.say, `“${entry.say}”`);
    row.parts.conflict.hidden = !entry.conflict;
  });
  setTimeout(() => at('latest').classList.add('settled'), 100); // what was there at the start does not flash
  empty(at('latest'), list.length, 'No rejections yet.');
  text(at('latest-sub'), now.conflicts ? `${count(now.conflicts)} conflict${now.conflicts === 1 ? '' : 's'} to look at` : 'no conflicts');
  at('latest-sub').classList.toggle('bad', now.conflicts > 0);
}

function latestRow() {
  const parts = {
    time: el('time', 'muted'), code: el('b', 'code'), where: el('span', 'where muted'), say: el('span', 'say'),
    conflict: el('span', 'state bad', 'Let in: conflict'),
  };
  const row = el('li', 'entry', parts.time, el('div', '', el('div', 'line', parts.code, parts.conflict, parts.where), parts.say));
  row.parts = parts;
  return row;
}

// ---- Helpers ----

/** Brings a list's children in line with `items`: rows are made once, kept by key, moved, and removed. */
function rows(parent, items, keyOf, make, update) {
  const known = parent.known ?? (parent.known = new Map());
  const kept = new Set();
  let place = parent.firstChild;
  for (const item of items) {
    const id = String(keyOf(item));
    let row = known.get(id);
    if (!row) { row = make(); known.set(id, row); }
    kept.add(id);
    update(item, row);
    if (row === place) place = place.nextSibling;
    else parent.insertBefore(row, place);
  }
  for (const [id, row] of known) if (!kept.has(id)) { row.remove(); known.delete(id); }
}

function empty(parent, n, sentence) {
  const note = parent.querySelector('.empty');
  if (n && note) note.remove();
  else if (!n && !note) parent.append(el('li', 'empty muted', sentence));
}

function pressed() {
  for (const button of document.querySelectorAll('[data-minutes]')) {
    button.setAttribute('aria-pressed', String(Number(button.dataset.minutes) === chart.shownMinutes));
  }
}

for (const button of document.querySelectorAll('[data-minutes]')) {
  button.addEventListener('click', () => {
    chart.minutes = Number(button.dataset.minutes);
    chart.draw();
    pressed();
  });
}
for (const [event, on] of [['pointerenter', true], ['pointerleave', false], ['focusin', true], ['focusout', false]]) {
  at('latest').addEventListener(event, () => { reading = on; at('latest').classList.toggle('held', on); });
}
at('sign-out').addEventListener('click', () => { forget(); location.assign('/'); });
// A stream that has fallen behind in a hidden tab catches up by itself; the chart only needs one stroke.
document.addEventListener('visibilitychange', () => { if (!document.hidden && last) picture(last); });

follow();
