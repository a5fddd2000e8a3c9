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
