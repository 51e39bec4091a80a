// @ts-check
/** Every signed-in page: first paint, live patches, and what the page says when it is no longer live. */
import "./act.js";
import "./hold.js";
import { bind } from "./bind.js";
import { ageText, env, text } from "./format.js";
import { follow } from "./live.js";

const page = JSON.parse(/** @type {HTMLElement} */ (document.getElementById("page")).textContent ?? "{}");
const STALE_S = 3.5; // three ticks of one second missed
const GATEWAY_MS = 5000;
const html = document.documentElement;
const title = document.title;
let base = page.now;
let baseAt = performance.now();
let ticked = false;
/** @type {Map<string, number | null>} */
let gateways = new Map();
/** @type {string[]} */
let polite = [];

const sinceTick = () => (performance.now() - baseAt) / 1000;
Object.assign(env, { now: () => base + sinceTick(), texts: page.texts, lang: page.lang });

/** The view model as bound: the view's data and the banner, and what a page derives from them. @type {any} */
export const model = {};
/** Functions a page adds: `derive` before binding, `tick` twice a second with the live state. */
export const hooks = { derive: [(/** @type {any} */ _) => {}], tick: [(/** @type {string} */ _) => {}] };

/** Binds the page again, after new data or because time went on. */
export function refresh() {
  for (const derive of hooks.derive) derive(model);
  bind(document.body, model);
  strikeOld();
  const { worst, p1, p2 } = model.banner;
  document.title = worst && p1 + p2 ? `(${p1 + p2}) ${text(`priority.${worst.priority}`)} ${worst.text}` : title;
}

/** Strikes out what is too old to be believed: one reading, or everything of a site whose gateway is silent. */
function strikeOld() {
  for (const el of document.querySelectorAll("[data-at], [data-slack]")) {
    const at = Number(el.getAttribute("data-at") ?? 0);
    el.classList.toggle("old", env.now() - at > Number(el.getAttribute("data-slack") ?? 10));
  }
  /** @param {string} site */
  const silent = (site) => gateways.has(site) && (gateways.get(site) ?? Infinity) + sinceTick() * 1000 > GATEWAY_MS + 1000;
  for (const el of document.querySelectorAll("[data-site]"))
    el.classList.toggle("lost", silent(el.getAttribute("data-site") ?? ""));
  html.classList.toggle("unsupervised", gateways.size > 0 && [...gateways.keys()].every(silent));
}

/** @returns {string} wait, live or stale */
function liveness() {
  const state = sinceTick() > STALE_S ? "stale" : ticked ? "live" : "wait";
  const age = ageText(sinceTick());
  const chip = document.getElementById("live");
  if (chip) chip.textContent = state === "live" ? text("live", { age }) : text(state);
  const bar = /** @type {HTMLElement} */ (document.getElementById("stale"));
  if (html.dataset.live !== state) {
    html.dataset.live = state;
    bar.hidden = state !== "stale";
    bar.textContent = text("stale.bar");
    const fieldsets = /** @type {NodeListOf<HTMLFieldSetElement>} */ (document.querySelectorAll("fieldset[data-needs-live]"));
    for (const set of fieldsets) set.disabled = state === "stale";
  }
  return state;
}

/** @param {import("./live.js").Message} message */
function take({ name, data }) {
  if (name === "reset") location.reload();
  else if (name === "bye") location.assign("/login");
  else if (name === "rows") {
    Object.assign(model, data.data, { banner: data.banner });
    refresh();
  } else if (name === "tick") {
    [base, baseAt, ticked] = [data.now, performance.now(), true];
    gateways = new Map(data.gateways);
    beat();
    refresh();
  } else if (data.type === "alarm.raised") {
    const words = `${text(`priority.${data.priority}`)} ${data.text}`;
    if (data.priority === 1) say("say-now", words);
    else polite.push(words);
  }
}

/** @param {string} id @param {string} words */
function say(id, words) {
  const region = document.getElementById(id);
  if (region) region.textContent = words;
}

function beat() {
  const state = liveness();
  for (const tick of hooks.tick) tick(state);
}

for (const back of document.querySelectorAll("input[name=back]"))
  /** @type {HTMLInputElement} */ (back).value = location.pathname + location.search;
Object.assign(model, page.data, { banner: page.banner });
refresh();
setInterval(beat, 500);
setInterval(() => sinceTick() > 1.5 && refresh(), 1000);
setInterval(() => polite.length && say("say", polite.splice(0).join(". ")), 5000);
follow(new URLSearchParams({ view: page.view, ...page.args }), page.seq, take);
if (location.hash === "#emergency") /** @type {HTMLElement | null} */ (document.querySelector("[data-open=emergency]"))?.click();
