// The operator's API key: from the address once, then in this tab's session storage, and nowhere else.

const NAME = 'tapgate.key';
// What a key is made of. Anything else could not even be sent: a header takes no other characters.
const SHAPE = /^tgk_[A-Za-z0-9_-]+$/;
const ODD = 'This does not look like a key. Keys begin with “tgk_” and consist of letters, digits, “-” and “_”: please copy yours once more, whole.';

let odd = false; // the address or the storage held something that cannot be a key

/** The key, if there is one. A key in the address (`#key=…`) wins, and leaves the address bar at once. */
export function key() {
  const given = new URLSearchParams(location.hash.slice(1)).get('key');
  if (given) {
    sessionStorage.setItem(NAME, given.trim());
    history.replaceState(null, '', location.pathname + location.search);
  }
  const kept = sessionStorage.getItem(NAME);
  if (kept == null || SHAPE.test(kept)) return kept;
  forget();
  odd = true;
  return null;
}

/** Forgets the key. */
export function forget() {
  sessionStorage.removeItem(NAME);
}

/** What every request carries. */
export function bearer() {
  return { Authorization: `Bearer ${key()}` };
}

/** Shows the sign-in box with a sentence that says why; resolves once something that can be a key has been given. */
export function askForKey(why) {
  const dialog = document.getElementById('sign-in');
  const form = document.createElement('form');
  form.noValidate = true;
  form.innerHTML = `
    <img src="/assets/icon.svg" width="44" height="44" alt="">
    <h2 id="sign-in-title">Sign in</h2>
    <p class="why"></p>
    <label for="key">API key</label>
    <input id="key" name="key" type="password" required autocomplete="off" spellcheck="false" placeholder="tgk_…" aria-describedby="key-wrong">
    <p class="wrong" id="key-wrong" role="alert"></p>
    <button type="submit">Open</button>
    <p class="muted">Keys are made with <code>tapgate key create</code>. Yours stays in this tab and is gone when you close it.</p>`;
  form.querySelector('.why').textContent = why;
  const { key: field } = form.elements;
  const wrong = form.querySelector('.wrong');
  const refuse = (sentence) => {
    wrong.textContent = sentence;
    field.setAttribute('aria-invalid', String(Boolean(sentence)));
  };
  if (odd) refuse(ODD);
  odd = false;
  field.oninput = () => refuse('');
  dialog.replaceChildren(form);
  return new Promise((resolve) => {
    let given = false;
    // There is nothing to see behind the box: Escape empties the field, and a box that a browser closes all the same
    // comes back.
    dialog.oncancel = (event) => { event.preventDefault(); field.value = ''; refuse(''); };
    dialog.onclose = () => { if (!given) dialog.showModal(); };
    form.onsubmit = (event) => {
      event.preventDefault();
      const value = field.value.trim();
      if (!SHAPE.test(value)) {
        refuse(value ? ODD : 'Please give a key.');
        field.focus();
        return;
      }
      sessionStorage.setItem(NAME, value);
      given = true;
      dialog.close();
      resolve();
    };
    if (!dialog.open) dialog.showModal();
  });
}
