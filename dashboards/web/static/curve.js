// @ts-check
/** The gas curve: mean as a line, lowest to highest as a band, every limit drawn. A gap stays a gap. */
import { env, text } from "./format.js";
import { hooks, model, refresh } from "./page.js";

/** @typedef {{t: number[], lo: (number|null)[], hi: (number|null)[], mean: (number|null)[], unit: string, limits: {level: string, side: string, value: number}[]}} Telemetry */
const box = /** @type {HTMLElement} */ (document.getElementById("curve"));
const uPlot = /** @type {any} */ (globalThis).uPlot;
const POINTS = 300;
const REFRESH_MS = 5000;
/** @type {any} */
let plot = null;
/** @type {Telemetry | null} */
let shown = null;
let wanted = "";

/** @param {string} name */
const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Draws the limits beneath the curve: a line each, and the forbidden side of the entry limit shaded. @param {any} u */
function limits(u) {
  const { ctx, bbox } = u;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.font = `${12 * ratio}px ${getComputedStyle(box).fontFamily}`;
  for (const { level, side, value } of shown?.limits ?? []) {
    const y = u.valToPos(value, "y", true);
    const below = side === "below";
    ctx.strokeStyle = ctx.fillStyle = token(level === "pre" ? "--dim" : "--t1");
    if (level === "low") {
      ctx.globalAlpha = 0.09;
      ctx.fillRect(bbox.left, below ? y : bbox.top, bbox.width, below ? bbox.top + bbox.height - y : y - bbox.top);
      ctx.globalAlpha = 1;
    }
    ctx.lineWidth = ratio * (level === "high" || level === "idlh" ? 2 : 1);
    ctx.setLineDash(level === "pre" ? [2 * ratio, 4 * ratio] : level === "low" ? [8 * ratio, 4 * ratio] : []);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    const [right, under] = [level === "pre", below || y - bbox.top < 16 * ratio];
    Object.assign(ctx, { textAlign: right ? "right" : "left", textBaseline: under ? "top" : "bottom" });
    const [x, lift] = [right ? bbox.left + bbox.width - 6 * ratio : bbox.left + 6 * ratio, (under ? 2 : -2) * ratio];
    ctx.fillText(`${below ? "<" : side === "over" ? ">" : "≥"} ${value} ${text(`limit.${level}`)}`, x, y + lift);
  }
  ctx.restore();
}

/** The y range holds the data and every limit but the farthest two, so that a calm curve stays readable. @param {any} _ @param {number} min @param {number} max */
function range(_, min, max) {
  const marks = (shown?.limits ?? []).filter((l) => l.level !== "high" && l.level !== "idlh").map((l) => l.value);
  const [low, high] = [Math.min(min ?? 0, ...marks), Math.max(max ?? 1, ...marks)];
  const room = (high - low || 1) * 0.12;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

/** @param {Telemetry} data */
function draw(data) {
  shown = data;
  const ink = token("--ink");
  const size = { width: box.clientWidth, height: Math.max(200, Math.min(320, box.clientWidth * 0.42)) };
  const axis = {
    stroke: token("--dim"),
    grid: { stroke: token("--line"), width: 0.5 },
    ticks: { show: false },
    font: "12px system-ui",
  };
  const hour = (/** @type {number} */ at) =>
    new Date(at * 1000).toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit", hour12: false });
  plot?.destroy();
  plot = new uPlot(
    {
      ...size,
      legend: { show: false },
      cursor: { show: false },
      scales: { y: { range } },
      axes: [
        { ...axis, size: 26, space: 70, values: (/** @type {any} */ _, /** @type {number[]} */ at) => at.map(hour) },
        { ...axis, label: data.unit.replace("m3", "m³"), labelFont: "12px system-ui", labelSize: 20, size: 44 },
      ],
      series: [
        {},
        { stroke: "transparent", points: { show: false } },
        { stroke: "transparent", points: { show: false } },
        { stroke: ink, width: 2, points: { show: false } },
      ],
      bands: [{ series: [2, 1], fill: `${ink}2e` }],
      hooks: { drawAxes: [limits] },
    },
    [data.t, data.lo, data.hi, data.mean],
    box,
  );
}

async function load() {
  const now = env.now();
  const { device, gas, from, to } = curve();
  if (!device) return;
  const [start, end] = [from ?? now - 900, to ?? now];
  const query = new URLSearchParams({
    device,
    gas,
    from: start.toFixed(0),
    to: end.toFixed(0),
    step: String(Math.max(1, Math.ceil((end - start) / POINTS))),
  });
  const response = await fetch(`/api/v1/spaces/${curve().space}/telemetry?${query}`).catch(() => null);
  if (response?.ok) draw(await response.json());
}

/** @returns {any} the curve of the alarm, or the one chosen among the space's */
function curve() {
  if (model.curve) return model.curve;
  const chosen = model.curves?.find((/** @type {any} */ c) => `${c.device} ${c.gas}` === wanted) ?? model.curves?.[0];
  return { ...chosen, space: model.id };
}

hooks.derive.push((m) => {
  if (m.curves) for (const c of m.curves) c.shown = c.device === curve().device && c.gas === curve().gas;
});
document.addEventListener("click", (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("[data-curve]"));
  if (!button) return;
  wanted = `${button.dataset.device} ${button.dataset.gas}`;
  refresh();
  load();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown && draw(shown));
addEventListener("resize", () => shown && draw(shown));
refresh();
load();
setInterval(load, REFRESH_MS);
