// The start page: which festivals this key may see.

import { askForKey, bearer, forget, key } from './key.js';
import { Refused, json } from './stream.js';
import { days, el } from './format.js';

const at = (id) => document.getElementById(id);
const STATUS = {
  DRAFT: 'Draft', PUBLISHED: 'Gates not open yet', ONGOING: 'Gates open', COMPLETED: 'Over', CANCELLED: 'Cancelled',
};

async function start() {
  let why = 'Sign in to see your festivals.';
  for (;;) {
    if (!key()) await askForKey(why);
    try {
      show(await json('/api/v1/festivals', { headers: bearer() }));
      return;
    } catch (error) {
      if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
        forget();
        why = error.status === 401
          ? 'This key is not known, or it has been revoked. Please give another one.'
          : 'This key may not list festivals. Please give another one.';
        continue;
      }
      say(error instanceof Refused ? `The server answered: ${error.message}. Trying again.` : 'Cannot reach the server. Trying again.');
      await new Promise((resolve) => setTimeout(resolve, 3_000));
    }
  }
}

function show(answer) {
  const festivals = answer.items;
  at('notice').hidden = true;
  at('sign-out').hidden = false;
  at('festivals').replaceChildren(...festivals.map(card));
  if (festivals.length === 0) {
    const guide = el('a', '', 'the guide in the API’s documentation');
    guide.href = '/api/docs';
    at('festivals').append(el('li', 'empty muted', 'No festival yet. One is made over the API: see ', guide, '.'));
  }
}

function card(festival) {
  const link = el('a', 'card',
    el('span', 'line', el('b', 'name', festival.name),
      el('span', `pill ${festival.status === 'ONGOING' ? 'good' : festival.status === 'CANCELLED' ? 'bad' : ''}`, STATUS[festival.status] ?? festival.status)),
    el('span', 'muted', days(new Date(festival.startsAt), new Date(festival.endsAt))),
    el('span', 'go', 'Watch it live'));
  link.href = `/live/${encodeURIComponent(festival.slug)}`;
  return el('li', '', link);
}

function say(sentence) {
  at('notice').hidden = false;
  at('notice').className = 'notice warn';
  at('notice').textContent = sentence;
}

at('sign-out').addEventListener('click', () => { forget(); location.reload(); });
start();
