// The rolling chart: two panes over one time, drawn by hand on one canvas.

import { compact, minute, time } from './format.js';

const PAD = { left: 52, right: 14, top: 12, bottom: 24 };
const GAP = 26; // between the two panes
const LOWER_SHARE = 0.3;
const GAP_MS = 3_000; // of longer silences nothing is drawn
const SHORT_MS = 250; // a sample this short says nothing of a rate
const FLOOR = -1; // the answer times' scale begins at 10^-1 ms

/**
 * One point a second, oldest first: `{at, spanMs, …}`. `spec` says what is drawn of each: `upper` and `lower` are
 * `{ink, filled, value(point)}`, of which null is a gap; with `lowerIsTime` the lower ones are microseconds, drawn in
 * decades; `tip(point)` gives the lines `[ink, words]` to show where somebody points.
 */
export class Chart {
  constructor(canvas, tip, spec) {
    this.canvas = canvas;
    this.tip = tip;
    this.spec = spec;
    this.points = [];
    this.minutes = null; // until somebody chooses: as much as there is, two to five
    this.pointer = null;
    this.nothing = 'No data yet';
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    matchMedia('(prefers-color-scheme: light)').addEventListener('change', () => this.draw());
    canvas.addEventListener('pointermove', (event) => { this.pointer = event.offsetX; this.draw(); });
    canvas.addEventListener('pointerleave', () => { this.pointer = null; this.draw(); });
  }

  /** `nothing` says what is missing, in place of axes, where there has never been anything to draw. */
  show(points, nothing = null) {
    this.points = points;
    this.nothing = nothing;
    this.draw();
  }

  /** How far back it shows. */
  get shownMinutes() {
    const first = this.points[0]?.at ?? 0;
    return this.minutes ?? ((this.points.at(-1)?.at ?? 0) - first > 120_000 ? 5 : 2);
  }

  draw() {
    const { canvas } = this;
    const width = canvas.parentElement.clientWidth;
    const height = canvas.parentElement.clientHeight;
    if (!width || !height) return;
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext('2d');
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = '11px system-ui, sans-serif';
    this.ink = palette(canvas);
    if (this.nothing) { this.words(pen, width, height); return; }

    const inner = height - PAD.top - PAD.bottom;
    const below = Math.round(inner * LOWER_SHARE);
    const upper = { top: PAD.top, height: inner - below - GAP };
    const lower = { top: PAD.top + upper.height + GAP, height: below };
    const until = this.points.at(-1)?.at ?? Date.now();
    const minutes = this.shownMinutes;
    const from = until - minutes * 60_000;
    const shown = this.points.filter((point) => point.at >= from - 1_000 && point.spanMs >= SHORT_MS);
    const x = (at) => PAD.left + (width - PAD.left - PAD.right) * (at - from) / (until - from);

    this.grid(pen, upper, minutes, from, until, x, width, height);
    this.pane(pen, upper, this.spec.upper, 5, 4, shown, x, width, height);
    if (this.spec.lowerIsTime) this.times(pen, lower, shown, x, width, height);
    else this.pane(pen, lower, this.spec.lower, 1, 2, shown, x, width, height);
    this.crosshair(pen, shown, x, upper, lower, width);
  }

  words(pen, width, height) {
    this.tip.hidden = true;
    pen.font = '14px system-ui, sans-serif';
    pen.fillStyle = this.ink.muted;
    pen.textAlign = 'center';
    pen.textBaseline = 'middle';
    pen.fillText(this.nothing, width / 2, height / 2);
  }

  /** Series on one scale from zero, with about `lines` level lines. */
  pane(pen, pane, series, least, lines, shown, x, width, height) {
    const most = Math.max(least, ...shown.flatMap((point) => series.map(({ value }) => value(point) ?? 0)));
    const top = this.axis(pen, pane, most, lines, width);
    this.clipped(pen, width, height, () => {
      for (const { ink, filled, value } of series) this.series(pen, shown, x, pane, top, value, this.ink[ink], filled);
    });
  }

  /** Answer times, in decades: one slow answer must not flatten all the others. */
  times(pen, pane, shown, x, width, height) {
    const series = this.spec.lower;
    const slowest = Math.max(10, ...shown.flatMap((point) => series.map(({ value }) => (value(point) ?? 0) / 1000)));
    const decades = Math.ceil(Math.log10(slowest * 1.001)) - FLOOR;
    const level = (us) => (us == null ? null : Math.max(0, Math.log10(us / 1000) - FLOOR));
    this.decades(pen, pane, decades, width);
    this.clipped(pen, width, height, () => {
      for (const { ink, value } of series) this.series(pen, shown, x, pane, decades, (point) => level(value(point)), this.ink[ink], false);
    });
  }

  clipped(pen, width, height, draw) {
    pen.save();
    pen.beginPath();
    pen.rect(PAD.left, 0, width - PAD.left - PAD.right + 1, height);
    pen.clip();
    draw();
    pen.restore();
  }

  /** Upright lines on whole minutes, with the time under them. */
  grid(pen, upper, minutes, from, until, x, width, height) {
    const step = (minutes > 5 ? 2 : minutes > 2 ? 1 : 0.5) * 60_000;
    pen.strokeStyle = this.ink.line;
    pen.fillStyle = this.ink.muted;
    pen.textAlign = 'center';
    pen.textBaseline = 'alphabetic';
    pen.lineWidth = 1;
    for (let at = Math.ceil(from / step) * step; at <= until; at += step) {
      const where = Math.round(x(at)) + 0.5;
      pen.beginPath();
      pen.moveTo(where, upper.top);
      pen.lineTo(where, height - PAD.bottom);
      pen.stroke();
      if (where > PAD.left + 16 && where < width - PAD.right - 16) {
        pen.fillText(step < 60_000 ? time(at) : minute(at), where, height - 7);
      }
    }
  }

  /** Level lines with their values; answers the value at the top. */
  axis(pen, pane, most, lines, width) {
    const step = niceStep(most / lines);
    const top = Math.max(step, Math.ceil(most / step) * step);
    for (let value = 0; value <= top + step / 2; value += step) {
      this.level(pen, pane, value / top, width, compact(value));
    }
    return top;
  }

  /** Level lines at 0.1, 1, 10, … ms; the lowest without its value, where there are many. */
  decades(pen, pane, decades, width) {
    for (let i = 0; i <= decades; i += 1) {
      const ms = 10 ** (i + FLOOR);
      const label = decades > 3 && i % 2 === 0 ? '' : ms < 1000 ? `${ms} ms` : `${ms / 1000} s`;
      this.level(pen, pane, i / decades, width, label);
    }
  }

  level(pen, pane, share, width, label) {
    const y = Math.round(pane.top + pane.height * (1 - share)) + 0.5;
    pen.strokeStyle = this.ink.line;
    pen.beginPath();
    pen.moveTo(PAD.left, y);
    pen.lineTo(width - PAD.right, y);
    pen.stroke();
    pen.fillStyle = this.ink.muted;
    pen.textAlign = 'right';
    pen.textBaseline = 'middle';
    pen.fillText(label, PAD.left - 8, y);
  }

  series(pen, points, x, pane, top, value, colour, filled) {
    const y = (n) => pane.top + pane.height * (1 - n / top);
    pen.lineJoin = 'round';
    let run = [];
    const flush = () => {
      if (run.length > 1) {
        pen.beginPath();
        run.forEach(([px, py], i) => (i ? pen.lineTo(px, py) : pen.moveTo(px, py)));
        pen.strokeStyle = colour;
        pen.lineWidth = 1.6;
        pen.stroke();
        if (filled) {
          pen.lineTo(run.at(-1)[0], y(0));
          pen.lineTo(run[0][0], y(0));
          pen.closePath();
          const shade = pen.createLinearGradient(0, pane.top, 0, pane.top + pane.height);
          shade.addColorStop(0, `${colour}55`);
          shade.addColorStop(1, `${colour}08`);
          pen.fillStyle = shade;
          pen.fill();
        }
      }
      run = [];
    };
    let before = null;
    for (const point of points) {
      const n = value(point);
      const began = point.at - point.spanMs;
      // A silence is a gap, not a slope.
      if (n == null || (before && began - before > GAP_MS)) flush();
      if (n != null) {
        // After a hold-up: so much on average, all the time.
        if (point.spanMs > GAP_MS) run.push([x(began), y(n)]);
        run.push([x(point.at), y(n)]);
      }
      before = point.at;
    }
    flush();
  }

  crosshair(pen, points, x, upper, lower, width) {
    const { tip, pointer } = this;
    if (pointer == null || points.length === 0) { tip.hidden = true; return; }
    let nearest = points[0];
    for (const point of points) if (Math.abs(x(point.at) - pointer) < Math.abs(x(nearest.at) - pointer)) nearest = point;
    const where = x(nearest.at);
    pen.strokeStyle = this.ink.muted;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(Math.round(where) + 0.5, upper.top);
    pen.lineTo(Math.round(where) + 0.5, lower.top + lower.height);
    pen.stroke();
    tip.replaceChildren();
    const lines = [['', time(nearest.at)], ...this.spec.tip(nearest)];
    for (const [name, line] of lines) {
      const row = document.createElement('div');
      row.className = name;
      row.textContent = line;
      tip.append(row);
    }
    tip.hidden = false;
    const left = where + 14 + tip.offsetWidth > width ? where - 14 - tip.offsetWidth : where + 14;
    tip.style.setProperty('left', `${Math.max(0, left)}px`);
  }
}

/** 1, 2 or 5 times a power of ten, at least `least`. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least * 0.999);
}

function palette(canvas) {
  const style = getComputedStyle(canvas);
  const ink = {};
  for (const name of ['in', 'out', 'no', 'p99', 'line', 'muted']) ink[name] = style.getPropertyValue(`--${name}`).trim();
  return ink;
}

const SVG = 'http://www.w3.org/2000/svg';

/** The last `seconds` of a gate or vendor, of as many points as `admitted` and `rejected` have values: what went well in
 * green, what was refused in red, both on the same scale. Makes it once, then updates it. */
export function sparkline(svg, points, admitted, rejected, seconds) {
  if (!svg) {
    svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('class', 'spark');
    svg.setAttribute('viewBox', '0 0 120 28');
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    for (const name of ['area', 'in', 'no']) {
      const path = document.createElementNS(SVG, 'path');
      path.setAttribute('class', name);
      svg.append(path);
    }
  }
  const until = points.at(-1)?.at ?? 0;
  const most = Math.max(1, ...admitted, ...rejected);
  const x = (at) => Math.max(0, 120 - 120 * (until - at) / (1000 * seconds)).toFixed(1);
  const y = (n) => (26 - 24 * n / most).toFixed(1);
  // After a hold-up: so much on average, all the time.
  const step = ({ at, spanMs }, level) => `${spanMs > GAP_MS ? `${x(at - spanMs)} ${level}L` : ''}${x(at)} ${level}`;
  // As in the chart, where nothing was measured nothing is drawn.
  const runs = [];
  points.forEach(({ at, spanMs }, i) => {
    if (i === 0 || at - spanMs - points[i - 1].at > GAP_MS) runs.push([]);
    runs.at(-1).push(i);
  });
  const line = (values) => (values.length ? runs.map((run) => `M${run.map((i) => step(points[i], y(values[i]))).join('L')}`) : []);
  const [area, green, red] = svg.children;
  const upper = line(admitted);
  green.setAttribute('d', upper.join(''));
  red.setAttribute('d', line(rejected).join(''));
  area.setAttribute('d', upper.map((d, n) => `${d}L${x(points[runs[n].at(-1)].at)} 28L${x(points[runs[n][0]].at)} 28Z`).join(''));
  return svg;
}
