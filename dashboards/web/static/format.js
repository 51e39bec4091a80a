// @ts-check
/** How values become words: clocks, ages, counts. Every age is told by the server's clock; unknown is "—" or "?", never a guess. */

/** @type {{now: () => number, texts: Record<string, string>, lang: string}} what the page lends: server time in Unix seconds, texts, language */
export const env = { now: () => 0, texts: {}, lang: "en" };

/**
 * Returns a text of the catalogue's ui.js part with its placeholders filled.
 * @param {string} key @param {Record<string, string|number>} [params]
 */
export function text(key, params = {}) {
  const raw = env.texts[`ui.js.${key}`] ?? env.texts[key] ?? "";
  return raw.replace(/\{(\w+)\}/g, (_, name) => String(params[name] ?? ""));
}

const SOON_S = 300; // a countdown is red from five minutes before its end

/** @param {number} n */
const two = (n) => String(n).padStart(2, "0");

/** @param {number} seconds */
function span(seconds) {
  const s = Math.max(0, Math.floor(Math.abs(seconds)));
  const tail = `${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  return s >= 3600 ? `${Math.floor(s / 3600)}:${tail}` : tail;
}

/** @param {number} seconds */
export function ageText(seconds) {
  const s = Math.max(0, seconds);
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  return s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

/** @param {number} at @param {Intl.DateTimeFormatOptions} [more] */
function clock(at, more = {}) {
  return new Date(at * 1000).toLocaleTimeString(env.lang, { hour: "2-digit", minute: "2-digit", hour12: false, ...more });
}

const marks = new Map(
  /** @type {[unknown, string][]} */ ([
    [true, "✓"],
    ["passed", "✓"],
    [false, "✕"],
    ["failed", "✕"],
  ]),
);
/** @param {(v: any) => any} f */
const known = (f) => (/** @type {any} */ v) => (v === null || v === undefined ? "—" : f(v));

/** @type {Record<string, (v: any) => any>} one function per name after the bar of a data-bind */
export const formats = {
  word: (v) => (v ? text(`priority.${v}`) : ""),
  lp: (v) => [null, 3, 1, 1, 1][v ?? 0],
  levelword: (v) => (v ? text(`level.${v}`) : ""),
  arrow: (v) => ({ up: "↑", down: "↓", flat: "→" })[/** @type {"up"} */ (v)] ?? "",
  trendword: (v) => (v ? text(`trend.${v}`) : ""),
  bar: (v) => Math.round(Math.min(1.5, Math.max(0, v ?? 0)) * 100),
  count: (v) => (v === null || v === undefined ? "?" : String(v)),
  clock: known((v) => clock(v)),
  clocks: known((v) => clock(v, { second: "2-digit" })),
  age: known((v) => ageText(env.now() - v)),
  elapsed: known((v) => span(env.now() - v)),
  left: known((v) => (v < env.now() ? "−" : "") + span(v - env.now())),
  span: known(span),
  int: known((v) => v.toLocaleString(env.lang)),
  pct: known((v) => `${v} %`),
  list: (v) => (v ?? []).join(env.lang === "en" ? ", " : "、"),
  soon: (v) => typeof v === "number" && v - env.now() < SOON_S,
  lead: (v) => (v ?? "").split(" · ")[0],
  rest: (v) => (v ?? "").split(" · ").slice(1).join(" · "),
  dash: (v) => v || "—",
  tick: (v) => (v ? "✓" : "○"),
  tickword: (v) => text(v ? "tick.done" : "tick.open"),
  mark: (v) => marks.get(v) ?? "?",
  markword: (v) => text(`mark.${marks.get(v) === "✓" ? "passed" : marks.get(v) === "✕" ? "failed" : "unknown"}`),
  tri: (v) => (v === true ? "yes" : v === false ? "no" : "unknown"),
  abnormal: (v) => v || null,
  slack: (v) => (v === 0 || v === false ? 180 : 10), // seconds until a value is struck out: idle instruments send every 60 s
  yesno: (v) => String(Boolean(v)),
  page: (v) => (v ? "page" : null),
  fan: (v) => text(v === true ? "fan.on" : v === false ? "fan.off" : "fan.unknown"),
};
