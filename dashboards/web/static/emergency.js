// @ts-check
/**
 * The emergency screen goes on by itself. The server paints it whole; when the picture has changed the new painting takes the
 * old one's place, never under a finger, and what somebody is writing is left alone. Ages run by the server's clock.
 */
import { run } from "./act.js";
import { formats } from "./format.js";
import { hooks } from "./page.js";

const LEAST_MS = 2000; // a phone at a shaft has a weak link: no more than one painting in two seconds
const PARTS = ["screen", "brief-now"];
let painted = "";
let last = 0;
let pressed = false;
addEventListener("pointerdown", () => (pressed = true), true);
for (const up of ["pointerup", "pointercancel", "blur"]) addEventListener(up, () => (pressed = false), true);

async function paint() {
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok || pressed) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of PARTS) {
    const [old, now] = [document.getElementById(id), fresh.getElementById(id)];
    if (!old || !now) continue;
    const open = [...old.querySelectorAll("details")].map((d) => d.open);
    old.replaceWith(now);
    now.querySelectorAll("details").forEach((d, i) => (d.open = open[i] ?? d.open));
  }
  age();
}

function age() {
  const ways = { since: formats.elapsed, age: formats.age, left: formats.left };
  for (const [name, show] of Object.entries(ways))
    for (const el of document.querySelectorAll(`[data-${name}]`)) el.textContent = show(Number(el.getAttribute(`data-${name}`)));
}

hooks.derive.push((model) => {
  const { banner: _, ...shown } = model;
  const said = JSON.stringify(shown);
  if (said === painted || performance.now() - last < LEAST_MS) return age();
  const first = painted === "";
  [painted, last] = [said, performance.now()];
  if (first) age();
  else paint();
});

document.addEventListener("submit", async (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  if (!form.matches("[data-report]")) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const fields = new FormData(form);
  const texts = [...fields].filter(([name]) => name !== "done");
  const body = { done: fields.getAll("done"), by_hand: Object.fromEntries(texts) };
  const button = /** @type {HTMLElement} */ (/** @type {SubmitEvent} */ (event).submitter ?? form);
  const answer = await run(button, form.dataset.post ?? "", body);
  if (answer?.state !== "done") return;
  for (const box of form.querySelectorAll("input")) box.checked = false;
  paint();
}, true);

setInterval(age, 1000);
