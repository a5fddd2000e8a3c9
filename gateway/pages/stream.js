// Server-sent events over fetch, because an EventSource cannot carry the key in a header.

/** The server said no, with an HTTP status. */
export class Refused extends Error {
  constructor(status, problem, retryAfterMs) {
    super(problem?.detail ?? problem?.title ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem?.code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Reads what came back as JSON, or throws `Refused`. */
export async function json(url, options) {
  const response = await fetch(url, options);
  await refuse(response);
  return response.json();
}

async function refuse(response) {
  if (response.ok) return;
  const problem = await response.json().catch(() => null);
  throw new Refused(response.status, problem, 1000 * Number(response.headers.get('Retry-After') ?? 0));
}

// The server sends something each second: after this long without a byte the connection is taken for dead.
const SILENCE_MS = 8_000;

/** Reads one stream until it ends, breaks or falls silent. `on(event, data)` gets each event, its data parsed. */
export async function read(url, headers, on) {
  const abort = new AbortController();
  let watchdog;
  const alive = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
  };
  alive();
  try {
    const response = await fetch(url, {
      headers: { ...headers, Accept: 'text/event-stream' },
      signal: abort.signal,
      cache: 'no-store',
    });
    await refuse(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let event = 'message';
    let data = [];
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === '') {
          if (data.length) on(event, JSON.parse(data.join('\n')));
          event = 'message';
          data = [];
        } else if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
        else if (line.startsWith('event:')) event = line.slice(6).trim();
      }
    }
  } finally {
    clearTimeout(watchdog);
    abort.abort();
  }
}
