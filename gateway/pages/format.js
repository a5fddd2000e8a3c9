// How numbers and times look. All of them keep their width while they change.

const whole = new Intl.NumberFormat('en-GB');
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const short = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' });

/** 12,480 */
export const count = (n) => whole.format(n);
/** 0.4, 7.2, 42: a rate per second. */
export const rate = (n) => (n < 9.95 ? n.toFixed(1) : whole.format(Math.round(n)));
/** 0.42, 2.7, 31: milliseconds from microseconds. */
export const ms = (us) => (us < 9_950 ? (us / 1000).toFixed(us < 995 ? 2 : 1) : whole.format(Math.round(us / 1000)));
/** 5.2 % */
export const percent = (part, all) => (all > 0 ? `${(100 * part / all).toFixed(part / all < 0.0995 ? 1 : 0)} %` : '0 %');
/** 18:04:12 */
export const time = (at) => clock.format(at);
/** 18:04 */
export const minute = (at) => short.format(at);
/** Fri, 20 Nov 2026 – Sun, 22 Nov 2026 */
export const days = (from, to) => (day.format(from) === day.format(to) ? day.format(from) : `${day.format(from)} – ${day.format(to)}`);

/** An element with a class and children or text. */
export function el(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Writes text only where it has changed, so that a second without news costs no layout. */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

const currencies = new Map();
function currencyFormat(currency, digits) {
  const id = currency + digits;
  if (!currencies.has(id)) {
    const options = { style: 'currency', currency, currencyDisplay: 'narrowSymbol', minimumFractionDigits: digits, maximumFractionDigits: digits };
    currencies.set(id, new Intl.NumberFormat('en-GB', options));
  }
  return currencies.get(id);
}
/** €412,380.50, from a decimal string: to the cent. */
export const money = (amount, currency) => currencyFormat(currency, 2).format(amount);
/** €412,381: for rates and for columns. */
export const wholeMoney = (amount, currency) => currencyFormat(currency, 0).format(amount);
/** 42 s, 7 min, 3 h, 2 d */
export const duration = (s) => (s < 100 ? `${Math.round(s)} s` : s < 6_000 ? `${Math.round(s / 60)} min` : s < 172_800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} d`);
