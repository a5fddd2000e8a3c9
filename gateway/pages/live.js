// The live page: one stream in, one screen. The server sends the last ten minutes first, then each second as it ends.

import { askForKey, bearer, forget, key } from './key.js';
import { Refused, read } from './stream.js';
import * as gates from './gates.js';
import * as cash from './cash.js';
import { at } from './lists.js';
import { count, days, el, text, time } from './format.js';

const HISTORY_MAX = 600; // ten minutes, as on the server

const slug = decodeURIComponent(location.pathname.split('/').filter(Boolean).at(-1) ?? '');
const charts = [gates.chart, cash.chart];

let festival = null;
let points = [];
let last = null; // the newest picture

// ---- Connection ----

let trouble = null; // [kind, sentence, link]: what the server said, or that it says nothing

async function follow() {
  let failures = 0;
  for (;;) {
    if (!key()) { setConnection('connecting', 'Signed out'); await askForKey('This page shows one festival, its gates and its terminals, to those who may see them.'); }
    at('sign-out').hidden = false;
    setConnection(last ? 'reconnecting' : 'connecting', last ? 'Reconnecting' : 'Connecting');
    let wait = Math.min(10_000, 500 * 2 ** failures) * (0.75 + Math.random() / 2);
    failures += 1;
    trouble = null;
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
          trouble = ['bad', error.status === 403
            ? 'This key may not see this festival. Sign out and use another one, or ask an administrator.'
            : `There is no festival called “${slug}” here.`, { label: 'All festivals', href: '/' }];
          setConnection('refused', 'Not connected');
          return;
        }
        if (error.code === 'unavailable') trouble = ['bad', UNAVAILABLE];
        else trouble = ['warn', error.status === 503 || error.status === 429
          ? 'The server is busy or has too many viewers. This page tries again by itself.'
          : `The server answered: ${error.message}. This page tries again by itself.`];
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
  document.body.classList.toggle('away', state !== 'live' && last != null);
  banner();
  if (last && state !== 'live') for (const chart of charts) chart.draw(); // in the colours of what is past
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
  document.title = `${festival.name} · ${data.now.cash ? 'Gates and terminals' : 'Gates'}`;
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
  status(now);
  banner();
  gates.show(now, points);
  cash.show(now, points);
  pressed();
}

const UNAVAILABLE = 'Nothing can be recorded right now: readers answer “unavailable” and let nobody in. Call whoever is on duty for the server.';
const STATUS = {
  DRAFT: ['Draft', ''],
  PUBLISHED: ['Gates not open yet', ''],
  ONGOING: ['Gates open', 'good'],
  COMPLETED: ['Over', ''],
  CANCELLED: ['Cancelled', 'bad'],
};

/** The one sentence that matters most now. */
function banner() {
  const live = at('connection').dataset.state === 'live';
  const evacuating = last?.zones.filter((zone) => zone.state === 'EVACUATING') ?? [];
  if (trouble) say(...trouble);
  else if (last && !live) say('bad', `No contact with the server. These are the figures of ${time(last.at)}; this page tries again by itself.`);
  else if (last && !last.recording) say('bad', UNAVAILABLE);
  else if (evacuating.length) {
    const list = evacuating.map((zone) => `${zone.name}: ${count(zone.occupancy)} still inside`).join(' · ');
    say('bad', `Evacuation. Entries are off, exits are free. ${list}.`);
  } else say(...(cash.alarm(last?.cash) ?? ['', '']));
}

function status(now) {
  const [word, kind] = STATUS[now.status] ?? [now.status, ''];
  const pill = at('status');
  pill.hidden = false;
  pill.className = `pill ${kind}`;
  text(pill, word);
}

// ---- Buttons ----

function pressed() {
  for (const button of document.querySelectorAll('[data-minutes]')) {
    button.setAttribute('aria-pressed', String(Number(button.dataset.minutes) === gates.chart.shownMinutes));
  }
}

for (const button of document.querySelectorAll('[data-minutes]')) {
  button.addEventListener('click', () => {
    for (const chart of charts) {
      chart.minutes = Number(button.dataset.minutes);
      chart.draw();
    }
    pressed();
  });
}
at('sign-out').addEventListener('click', () => { forget(); location.assign('/'); });
// A stream that has fallen behind in a hidden tab catches up by itself; the chart only needs one stroke.
document.addEventListener('visibilitychange', () => { if (!document.hidden && last) picture(last); });

follow();
