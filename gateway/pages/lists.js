// What both halves of the live page are made of: lists that are kept up row by row, refusals, means over seconds.

import { count, el, text, time } from './format.js';

export const SPARK_S = 120;
export const MEAN_S = 10;

export const at = (id) => document.getElementById(id);

/** Brings a list's children in line with `items`: rows are made once, kept by key, moved, and removed. */
export function rows(parent, items, keyOf, make, update) {
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

/** Says so where a list, or a table's body, has nothing. */
export function empty(parent, n, sentence) {
  const note = parent.querySelector('.empty');
  if (n) (note?.closest('tr') ?? note)?.remove();
  else if (note) text(note, sentence);
  else if (parent.tagName !== 'TBODY') parent.append(el('li', 'empty muted', sentence));
  else {
    const cell = el('td', 'empty muted', sentence);
    cell.colSpan = 7;
    parent.append(el('tr', '', cell));
  }
}

/** How full; `levels` marks what is nearly full. */
export function fill(bar, part, all, levels = true) {
  const share = all ? Math.min(1, part / all) : 0;
  bar.style.setProperty('--share', share.toFixed(4));
  bar.dataset.level = !levels ? 'ok' : share >= 0.98 ? 'full' : share >= 0.85 ? 'high' : 'ok';
}

/**
 * Sums of some fields over the newest seconds, and `seconds`, how many of those were measured. A sample that took longer,
 * after a hold-up, counts with the part of it that lies within; where the stream was away nothing was measured.
 */
export function sum(points, seconds, fields, pick = (point) => point) {
  const total = { seconds: 0 };
  for (const field of fields) total[field] = 0;
  const since = (points.at(-1)?.at ?? 0) - 1000 * seconds;
  for (let i = points.length - 1; i >= 0 && points[i].at > since; i -= 1) {
    const { at, spanMs } = points[i];
    const withinMs = Math.min(spanMs, at - since);
    const part = pick(points[i]);
    for (const field of fields) total[field] += (part?.[field] ?? 0) * withinMs / spanMs;
    total.seconds += withinMs / 1000;
  }
  total.seconds = Math.max(total.seconds, 1);
  return total;
}

/** The points of the newest seconds. */
export function newest(points, seconds) {
  const since = (points.at(-1)?.at ?? 0) - 1000 * seconds;
  return points.filter((point) => point.at > since);
}

/** What `pick` gives of each point, per second, over the last `seconds` that were measured: single sales read as a level. */
export function levels(points, seconds, pick) {
  let [from, n, ms] = [0, 0, 0];
  return points.map((point, i) => {
    n += pick(point) ?? 0;
    ms += point.spanMs;
    for (; from < i && points[from].at <= point.at - 1000 * seconds; from += 1) {
      n -= pick(points[from]) ?? 0;
      ms -= points[from].spanMs;
    }
    return 1000 * n / Math.max(ms, 1000);
  });
}

/** already_used → Already used */
export function words(code) {
  const plain = code.replaceAll('_', ' ');
  return (plain[0].toUpperCase() + plain.slice(1)).replace(/\bqr\b/i, 'QR');
}

/** How often each reason was given: lately, which is what `recent` gives of each point, and ever. */
export function reasons(list, all, points, recent, none) {
  const lately = new Map();
  for (const point of points) for (const [code, n] of Object.entries(recent(point) ?? {})) lately.set(code, (lately.get(code) ?? 0) + n);
  const sorted = all.map((reason) => ({ ...reason, recent: lately.get(reason.code) ?? 0 }));
  sorted.sort((a, b) => b.count - a.count || a.code.localeCompare(b.code));
  const most = Math.max(1, ...sorted.map((reason) => reason.count));
  rows(list, sorted, (reason) => reason.code, reasonRow, (reason, row) => {
    row.title = reason.say;
    text(row.parts.code, words(reason.code));
    text(row.parts.recent, count(reason.recent));
    text(row.parts.count, count(reason.count));
    row.parts.bar.style.setProperty('--share', (reason.count / most).toFixed(4));
  });
  empty(list, sorted.length, none);
}

function reasonRow() {
  const parts = { code: el('span', 'name'), recent: el('b', 'num'), count: el('span', 'num muted'), bar: el('i') };
  const bar = el('div', 'bar no', parts.bar);
  bar.setAttribute('aria-hidden', 'true');
  const row = el('li', 'reason', parts.code, parts.recent, parts.count, bar);
  row.parts = parts;
  return row;
}

/** The last refusals. `describe(entry)` gives `{where, title, amount, mark}`; the list holds still while it is read. */
export function latest(list, entries, describe, none) {
  if (list.holds === undefined) holdWhileRead(list);
  if (list.holds) return;
  const seen = new Map();
  const named = entries.map((entry) => {
    const same = `${entry.at}/${entry.device}/${entry.code}/${entry.ticket ?? entry.wallet}`;
    seen.set(same, (seen.get(same) ?? 0) + 1);
    return { ...entry, id: `${same}/${seen.get(same)}` };
  });
  const first = !list.known;
  rows(list, named, (entry) => entry.id, latestRow, (entry, row) => {
    if (row.filled) return; // what has happened does not change
    row.filled = true;
    row.classList.toggle('new', !first); // what was there at the start does not flash
    const { where, title, amount, mark } = describe(entry);
    text(row.parts.time, time(entry.at));
    row.parts.time.dateTime = new Date(entry.at).toISOString();
    text(row.parts.code, words(entry.code));
    text(row.parts.where, where);
    row.parts.where.title = title;
    text(row.parts.say, `“${entry.say}”`);
    row.parts.amount.hidden = !amount;
    text(row.parts.amount, amount ?? '');
    row.parts.mark.hidden = !mark;
    text(row.parts.mark, mark ?? '');
  });
  empty(list, named.length, none);
}

function latestRow() {
  const parts = {
    time: el('time', 'muted'), code: el('b', 'code'), amount: el('b', 'amount'), where: el('span', 'where muted'),
    say: el('span', 'say'), mark: el('span', 'state bad'),
  };
  const row = el('li', 'entry', parts.time,
    el('div', '', el('div', 'line', parts.code, parts.amount, parts.mark, parts.where), parts.say));
  row.parts = parts;
  return row;
}

function holdWhileRead(list) {
  list.holds = false;
  for (const [event, on] of [['pointerenter', true], ['pointerleave', false], ['focusin', true], ['focusout', false]]) {
    list.addEventListener(event, () => { list.holds = on; list.classList.toggle('held', on); });
  }
}
