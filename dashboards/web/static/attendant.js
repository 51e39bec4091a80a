// @ts-check
/** At the opening: the list of checks before an unlock, the pre-entry gas test, and what is next. */
import { refuse, run } from "./act.js";
import { bind } from "./bind.js";
import { formats, text } from "./format.js";
import "./items.js";
import { hooks, model, refresh } from "./page.js";

/** @template {HTMLElement} T @param {string} id @returns {T} */
const byId = (id) => /** @type {T} */ (document.getElementById(id));
const RANK = ["failed", "passed"];
const MARGIN_MS = 300; // a dwell is never short by rounding
const ACTIONS = ["ventilate", "test", "enter", "finish", "close_out", "close"];

hooks.derive.push((m) => {
  const { one, permits } = m;
  m.many = permits.length > 1;
  if (!one) return;
  const next = one.steps.find((/** @type {any} */ s) => !s.done)?.key ?? (one.state !== "closing" ? "work" : one.can.close_out.ok ? "lockup" : "handback");
  m.next = next === "vent" && one.lock.position === "locked" ? "prep" : next; // the law's order: open, ventilate, test, enter
  m.venting = one.ventilation.started_at !== null;
  m.why_enter = one.can.enter.ok ? "" : one.can.enter.why;
  m.whys = ACTIONS.filter((a) => a !== "enter" && !one.can[a].ok && one.can[a].why).map((a) => ({
    name: text(`can.${a}`),
    why: one.can[a].why,
  }));
});

/** How many are ticked, said while ticking: an empty list is a count too, but never a slip of the finger. */
byId("recount").addEventListener("change", () => {
  byId("recount-n").textContent = String(byId("recount").querySelectorAll("input:checked").length);
});
document.addEventListener("click", (event) => {
  if (/** @type {Element} */ (event.target).closest("[data-open=recount]")) byId("recount-n").textContent = "0";
});

let kind = "PREP";
/** @param {any[]} results @param {string} note */
function showChecks(results, note) {
  const count = (/** @type {string} */ outcome) => results.filter((r) => r.outcome === outcome).length;
  const sorted = [...results].sort((a, b) => RANK.indexOf(a.outcome) - RANK.indexOf(b.outcome));
  const ready = model.one.mine && results.length > 0 && count("failed") === 0; // who does not attend may look
  const title = text(kind === "PREP" ? "unlock.prep" : "unlock.entry");
  bind(byId("unlock"), {
    title,
    note,
    ready,
    results: sorted,
    failed: count("failed"),
    passed: count("passed"),
  });
}

document.addEventListener("click", async (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("[data-unlock]"));
  if (!button) return;
  kind = button.dataset.unlock ?? "PREP";
  for (const old of byId("unlock").querySelectorAll(".row .said")) old.textContent = "";
  showChecks([], text("checks.reading"));
  /** @type {HTMLDialogElement} */ (byId("unlock")).showModal();
  try {
    const response = await fetch(`/api/v1/permits/${model.one.id}/checks?kind=${kind}`);
    const answer = await response.json();
    showChecks(answer.results ?? [], response.ok ? "" : (answer.detail ?? text("undelivered")));
  } catch {
    showChecks([], text("undelivered"));
  }
});

byId("unlock-go").addEventListener("click", async (event) => {
  const button = /** @type {HTMLElement} */ (event.currentTarget);
  const answer = await run(button, `/api/v1/permits/${model.one.id}/unlock`, { lock: model.one.lock.device, kind });
  if (answer?.state === "done") /** @type {HTMLDialogElement} */ (byId("unlock")).close();
});

// -- the gas test: at each point the hose dwells, then the instrument's live values are taken over and can be corrected ----------

/** @type {{n: number, distance: number, dwell: number, began: number, took: number, fields: {id: string, gas: string, unit: string}[]}[]} */
let points = [];

function showPoints() {
  const running = points.find((p) => p.began && !p.took);
  bind(byId("test"), {
    residue: model.one.test.residue,
    points: points.map((p) => {
      const left = p.dwell - (performance.now() - p.began) / 1000;
      const label = p.took ? text("dwell.again") : p.began ? formats.span(Math.ceil(left)) : text("dwell.start");
      return { ...p, label, open: !running };
    }),
  });
  if (running && performance.now() - running.began >= running.dwell * 1000 + MARGIN_MS) takeOver(running);
}

/** @param {typeof points[number]} point */
function takeOver(point) {
  point.took = (performance.now() - point.began) / 1000;
  for (const field of point.fields) {
    const live = model.one.gases.find((/** @type {any} */ g) => g.gas === field.gas);
    /** @type {HTMLInputElement} */ (byId(field.id)).value = live?.value ?? "";
  }
  showPoints();
}

byId("test-open").addEventListener("click", () => {
  const { test, gases } = model.one;
  const unit = (/** @type {string} */ gas) => gases.find((/** @type {any} */ g) => g.gas === gas)?.unit ?? "";
  points = test.distances.map((/** @type {number} */ distance, /** @type {number} */ n) => ({
    n,
    distance,
    dwell: test.dwell_s[n],
    began: 0,
    took: 0,
    fields: test.gases.map((/** @type {string} */ gas) => ({ id: `p${n}-${gas}`, gas, unit: unit(gas) })),
  }));
  byId("test").querySelector("form")?.reset();
  showPoints();
  /** @type {HTMLDialogElement} */ (byId("test")).showModal();
});

byId("test").addEventListener("click", (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("[data-dwell]"));
  if (button) Object.assign(points[Number(button.dataset.n)], { began: performance.now(), took: 0 });
  showPoints();
});

byId("test-go").addEventListener("click", async (event) => {
  const dialog = /** @type {HTMLDialogElement} */ (byId("test"));
  const waiting = points.some((p) => !p.took);
  byId("test-error").hidden = !waiting;
  byId("test-error").textContent = text("dwell.first");
  if (waiting || !dialog.querySelector("form")?.reportValidity()) return;
  const body = points.map((p) => ({
    distance_m: p.distance,
    dwell_s: Math.round(p.took * 10) / 10,
    readings: Object.fromEntries(p.fields.map((f) => [f.gas, Number(/** @type {HTMLInputElement} */ (byId(f.id)).value)])),
  }));
  const answer = await run(/** @type {HTMLElement} */ (event.currentTarget), `/api/v1/permits/${model.one.id}/gas-tests`, {
    points: body,
    upwind: /** @type {HTMLInputElement} */ (byId("test-upwind")).checked,
    stirred: /** @type {HTMLInputElement} */ (byId("test-stirred")).checked,
  });
  if (answer?.state !== "done") return;
  dialog.close();
  if (answer.body?.failures?.length) refuse({ state: "refused", title: text("test.failed"), failures: answer.body.failures });
});

setInterval(() => /** @type {HTMLDialogElement} */ (byId("test")).open && showPoints(), 250);
refresh();
