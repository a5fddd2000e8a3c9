// How numbers and times look. All of them keep their width while they change.

const whole = new Intl.NumberFormat('en-GB');
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const hourMinute = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' });

const few = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 3 });

/** 12,480 */
export const count = (n) => whole.format(n);
/** 980, 9,800, 12.5K, 1.5M: where there is room for six characters, such as beside an axis. */
export const compact = (n) => (Math.abs(n) < 10_000 ? whole.format(Math.round(n * 100) / 100) : few.format(n));
/** 0.4, 7.2, 42, 2.5M: a rate per second. */
export const rate = (n) => (n < 9.95 ? n.toFixed(1) : n < 1e6 ? whole.format(Math.round(n)) : few.format(n));
/** 945, 12,480, 84.8M: where there is room for seven characters. */
export const short = (n) => (n < 1e6 ? count(Math.round(n)) : few.format(n));
/** 0.42, 2.7, 31: milliseconds from microseconds. */
export const ms = (us) => (us < 9_950 ? (us / 1000).toFixed(us < 995 ? 2 : 1) : whole.format(Math.round(us / 1000)));
/** 5.2 % */
export const percent = (part, all) => (all > 0 ? `${(100 * part / all).toFixed(part / all < 0.0995 ? 1 : 0)} %` : '0 %');
/** 18:04:12 */
export const time = (at) => clock.format(at);
/** 18:04 */
export const minute = (at) => hourMinute.format(at);
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

/** The same for a large figure, which becomes smaller as it becomes longer, so that a number of any size fits its card. */
export function figure(node, value) {
  text(node, value);
  node.dataset.long = value.length > 15 ? 'very' : value.length > 10 ? 'rather' : value.length > 7 ? 'bit' : 'no';
}

const currencies = new Map();
function currencyFormat(currency, kind, options) {
  const id = `${currency}/${kind}`;
  if (!currencies.has(id)) {
    currencies.set(id, new Intl.NumberFormat(kind === 'compact' ? 'en-US' : 'en-GB', { style: 'currency', currency, currencyDisplay: 'narrowSymbol', ...options }));
  }
  return currencies.get(id);
}
const exact = (currency) => currencyFormat(currency, 'exact', {});
/** €412,380.50 or ¥412,381, from a decimal string: to the currency's smallest unit. */
export const money = (amount, currency) => exact(currency).format(amount);
/** €412,381, €1.24M: for rates and for columns. */
export const wholeMoney = (amount, currency) => (Math.abs(amount) < 1e6
  ? currencyFormat(currency, 'whole', { maximumFractionDigits: 0 })
  : currencyFormat(currency, 'compact', { notation: 'compact', maximumSignificantDigits: 3 })).format(amount);
/** From the currency's smallest unit: 1,250 are €12.50, but ¥1,250. */
export const major = (minor, currency) => minor / 10 ** exact(currency).resolvedOptions().maximumFractionDigits;
/** 42 s, 7 min, 3 h, 2 d */
export const duration = (s) => (s < 100 ? `${Math.round(s)} s` : s < 6_000 ? `${Math.round(s / 60)} min` : s < 172_800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} d`);
