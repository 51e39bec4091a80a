// @ts-check
/** Panic buttons: hold 1.5 s with a ring that fills, or hold Enter, or tap three times. Never disabled, never confirmed twice. */
import { run } from "./act.js";

const HOLD_MS = 1500;
const TAPS = 3;
const TAP_WINDOW_MS = 2500;

/** @type {WeakMap<HTMLElement, number[]>} */
const taps = new WeakMap();
/** @type {{button: HTMLElement, from: number} | null} */
let held = null;

/** @param {HTMLElement} button @param {number} part 0 to 1 */
function ring(button, part) {
  const circle = /** @type {SVGCircleElement | null} */ (button.querySelector(".run"));
  if (circle) circle.style.strokeDashoffset = String(100 - 100 * part);
}

/** @param {HTMLElement} button */
function fire(button) {
  stop();
  taps.delete(button);
  if (button.dataset.post) run(button, button.dataset.post, JSON.parse(button.dataset.body ?? "{}"));
}

/** @param {HTMLElement} button */
function start(button) {
  if (held) return;
  held = { button, from: performance.now() };
  button.classList.add("held");
  requestAnimationFrame(grow);
}

function grow() {
  if (!held) return;
  const part = (performance.now() - held.from) / HOLD_MS;
  ring(held.button, Math.min(1, part));
  if (part >= 1) fire(held.button);
  else requestAnimationFrame(grow);
}

function stop() {
  if (!held) return;
  ring(held.button, 0);
  held.button.classList.remove("held");
  held = null;
}

/** @param {Event} event @returns {HTMLElement | null} */
const holdable = (event) => /** @type {Element} */ (event.target).closest?.("[data-hold]");

document.addEventListener("pointerdown", (event) => {
  const button = holdable(event);
  if (button) start(button);
});
for (const end of ["pointerup", "pointercancel", "keyup"]) addEventListener(end, stop, true);
// The press itself takes the focus from a field: only the window's own blur, or the held button's, ends it.
addEventListener("blur", (event) => (event.target === window || event.target === held?.button) && stop(), true);
document.addEventListener("keydown", (event) => {
  const button = holdable(event);
  if (!button || event.key !== "Enter") return;
  event.preventDefault(); // a held Enter would click again and again
  if (!event.repeat) start(button);
});
document.addEventListener("contextmenu", (event) => holdable(event) && event.preventDefault());
document.addEventListener("click", (event) => {
  const button = holdable(event);
  if (!button) return;
  const now = performance.now();
  const recent = [...(taps.get(button) ?? []).filter((at) => now - at < TAP_WINDOW_MS), now];
  taps.set(button, recent);
  if (recent.length >= TAPS) fire(button);
});
