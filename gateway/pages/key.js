// The operator's API key: from the address once, then in this tab's session storage, and nowhere else.

const NAME = 'tapgate.key';

/** The key, if there is one. A key in the address (`#key=…`) wins, and leaves the address bar at once. */
export function key() {
  const given = new URLSearchParams(location.hash.slice(1)).get('key');
  if (given) {
    sessionStorage.setItem(NAME, given.trim());
    history.replaceState(null, '', location.pathname + location.search);
  }
  return sessionStorage.getItem(NAME);
}

/** Forgets the key. */
export function forget() {
  sessionStorage.removeItem(NAME);
}

/** What every request carries. */
export function bearer() {
  return { Authorization: `Bearer ${key()}` };
}

/** Shows the sign-in box with a sentence that says why; resolves once a key has been given. */
export function askForKey(why) {
  const dialog = document.getElementById('sign-in');
  const form = document.createElement('form');
  form.method = 'dialog';
  form.innerHTML = `
    <img src="/assets/icon.svg" width="44" height="44" alt="">
    <h2 id="sign-in-title">Sign in</h2>
    <p class="why"></p>
    <label for="key">API key</label>
    <input id="key" name="key" type="password" required autocomplete="off" spellcheck="false" placeholder="tgk_…">
    <button type="submit">Open</button>
    <p class="muted">Keys are made with <code>tapgate key create</code>. Yours stays in this tab and is gone when you close it.</p>`;
  form.querySelector('.why').textContent = why;
  dialog.replaceChildren(form);
  dialog.oncancel = (event) => event.preventDefault(); // there is nothing to see behind it
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(NAME, form.elements.key.value.trim());
      dialog.close();
      resolve();
    };
  });
}
