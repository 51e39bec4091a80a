// @ts-check
/** The worker's request: a few taps, no typing needed. */
import { run } from "./act.js";
import { bind } from "./bind.js";
import { text } from "./format.js";
import "./items.js";
import { hooks, refresh } from "./page.js";

const form = /** @type {HTMLFormElement} */ (document.getElementById("request"));
const RUNNING = ["active", "evacuating"];

hooks.derive.push((m) => {
  m.live_permit = m.permits.find((/** @type {any} */ p) => RUNNING.includes(p.state)) ?? null;
  bind(form, m);
});

/** Own words stand in for the offered ones. */
const own = /** @type {HTMLInputElement} */ (form.elements.namedItem("own"));
own.addEventListener("input", () => {
  for (const radio of form.querySelectorAll("input[name=work]")) {
    const choice = /** @type {HTMLInputElement} */ (radio);
    choice.required = !own.value.trim();
    if (own.value.trim()) choice.checked = false;
  }
});

/** @returns {string[]} what kind of work was chosen; own words have none */
function kinds() {
  const chosen = /** @type {HTMLElement | null} */ (form.querySelector("input[name=work]:checked"));
  return chosen?.dataset.kind ? [chosen.dataset.kind] : [];
}

/** @param {string} name @returns {string[]} what stands between the commas of a field */
function listed(name) {
  const whole = /** @type {HTMLInputElement} */ (form.elements.namedItem(name)).value;
  return whole.split(/[,，;；]/).map((part) => part.trim()).filter(Boolean);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = new FormData(form);
  const entrants = data.getAll("entrants");
  const error = /** @type {HTMLElement} */ (document.getElementById("request-error"));
  error.hidden = entrants.length > 0;
  error.textContent = text("request.entrants");
  if (!entrants.length) return;
  const body = {
    space: data.get("space"),
    work: own.value.trim() || data.get("work"),
    start_in_s: Number(data.get("start_in")),
    minutes: Number(data.get("minutes")),
    attendant: data.get("attendant"),
    tester: data.get("tester"),
    entrants,
    work_kinds: kinds(),
    isolation: listed("isolation"),
    contractor: /** @type {HTMLInputElement} */ (form.elements.namedItem("contractor")).checked,
    submit: true,
  };
  const answer = await run(/** @type {HTMLElement} */ (event.submitter), "/api/v1/permits", body);
  if (answer?.state !== "done") return;
  form.reset();
  /** @type {HTMLDetailsElement} */ (form.closest("details")).open = false;
  scrollTo(0, 0);
});
refresh();
