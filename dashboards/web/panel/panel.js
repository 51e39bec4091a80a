// @ts-check
/** The emergency page works without this script; with it the button wants a hold of 2 s, keys are on the page, and it is live. */

const HOLD_MS = 2000;
const POLL_MS = 1000;
const STALE_MS = 4000;
const HALF_MS = 3000; // an answer that takes longer is none
const html = document.documentElement;

// -- live: the part that changes is fetched every second; what does not come is struck out

const HANDS_MS = 5000; // no list changes its order under a hand that was just there
let heard = performance.now();
let touched = -Infinity;
for (const sign of ["pointerdown", "pointermove", "keydown", "scroll"])
  addEventListener(sign, () => (touched = performance.now()), { capture: true, passive: true });

/** @param {ParentNode} place @returns {string} */
const order = (place) => [...place.querySelectorAll("a.p-go")].map((a) => a.getAttribute("href")).join();
const stale = /** @type {HTMLElement} */ (document.getElementById("stale"));

async function look() {
  const address = new URL(location.href);
  address.searchParams.set("live", "1");
  try {
    const response = await fetch(address, { signal: AbortSignal.timeout(HALF_MS) });
    if (!response.ok) return;
    const words = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("live");
    const place = document.getElementById("live");
    heard = performance.now();
    if (!words || !place || place.innerHTML === words.innerHTML || place.querySelector(":active")) return;
    const moves = order(words) !== order(place);
    if (!moves || performance.now() - touched > HANDS_MS) place.replaceWith(words);
  } catch {
    // said below, by its age
  }
}

async function live() {
  await look();
  const old = performance.now() - heard > STALE_MS;
  html.dataset.live = old ? "stale" : "live";
  stale.hidden = !old;
  stale.textContent = document.body.dataset.stale ?? "";
  setTimeout(live, POLL_MS);
}
setTimeout(live, POLL_MS);

// -- the button: held for two seconds, by finger, mouse or Enter; or pressed three times

const form = /** @type {HTMLFormElement | null} */ (document.getElementById("ask"));
const button = /** @type {HTMLButtonElement | null} */ (form?.querySelector("[data-hold]") ?? null);
const sent = document.getElementById("sent");
const run = /** @type {SVGCircleElement | null} */ (button?.querySelector(".run") ?? null);
let from = 0;
let busy = false;
/** @type {number[]} */
let taps = [];

/** @param {number} part 0 to 1 */
function ring(part) {
  if (run) run.style.strokeDashoffset = String(100 - 100 * part);
}

function grow() {
  if (!from) return;
  const part = (performance.now() - from) / HOLD_MS;
  ring(Math.min(1, part));
  if (part >= 1) ask();
  else requestAnimationFrame(grow);
}

function start() {
  if (from || busy) return;
  from = performance.now();
  button?.classList.add("held");
  requestAnimationFrame(grow);
}

function stop() {
  from = 0;
  ring(0);
  button?.classList.remove("held");
}

async function ask() {
  stop();
  if (!form || !sent || busy) return;
  busy = true;
  taps = [];
  sent.textContent = form.dataset.sending ?? "";
  try {
    const response = await fetch("/rescue", { method: "POST", body: new URLSearchParams(/** @type {any} */ (new FormData(form))) });
    if (!response.ok) throw new Error(String(response.status));
    location.replace(response.url);
  } catch {
    busy = false;
    sent.textContent = form.dataset.failed ?? "";
    sent.dataset.state = "undelivered";
  }
}

if (form && button) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const now = performance.now();
    taps = [...taps.filter((at) => now - at < 2500), now];
    if (taps.length >= 3) ask();
  });
  button.addEventListener("pointerdown", start);
  for (const end of ["pointerup", "pointercancel", "keyup"]) addEventListener(end, stop, true);
  // The press itself takes the focus from a field: only the window's own blur, or the button's, ends it.
  addEventListener("blur", (event) => (event.target === window || event.target === button) && stop(), true);
  button.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (!event.repeat) start();
  });
  button.addEventListener("contextmenu", (event) => event.preventDefault());
}

// -- digits as large as a glove

const code = /** @type {HTMLInputElement | null} */ (document.getElementById("code"));
for (const keys of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".p-keys"))) {
  keys.hidden = false;
  keys.addEventListener("click", (event) => {
    const key = /** @type {HTMLElement} */ (event.target).dataset.key;
    if (!code || !key) return;
    code.value = key === "C" ? "" : key === "B" ? code.value.slice(0, -1) : (code.value + key).slice(0, 12);
  });
}
