// @ts-check
/**
 * Buttons and forms that act. A command is *pending* until its event returns; a refusal lists every failing check; what did not
 * arrive is said plainly. Nothing is queued.
 */
import { bind } from "./bind.js";
import { text } from "./format.js";

const POLL_MS = 500;
const GIVE_UP_MS = 45_000;
const RESCUE_S = 2; // (choice) api or signer silent for longer: a rescue goes to the gateway's own page

/** @typedef {{state: string, text?: string, failures?: object[], title?: string, detail?: string, body?: any}} Answer */

/**
 * Sends one action and follows it to its end; `progress` hears while it is pending.
 * @param {string} url @param {object} body @param {(seconds: number) => void} progress @param {string} [method]
 * @returns {Promise<Answer>}
 */
export async function send(url, body, progress, method = "POST") {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": uuid() };
  const started = performance.now();
  try {
    const response = await fetch(url, { method, headers, body: JSON.stringify(body) });
    let answer = await response.json().catch(() => ({}));
    if (!response.ok) return { state: "refused", title: answer.title, detail: answer.detail, failures: answer.failures };
    if (response.status !== 202) return { state: "done", body: answer };
    while (answer.state === "pending" && performance.now() - started < GIVE_UP_MS) {
      progress(Math.round((performance.now() - started) / 1000));
      await new Promise((wake) => setTimeout(wake, POLL_MS));
      answer = await (await fetch(`/api/v1/commands/${answer.id}`)).json();
    }
    return answer.state === "pending" ? { state: "timed_out" } : answer;
  } catch {
    return { state: "undelivered" };
  }
}

/** @returns {string} randomUUID is missing without a secure context, random bytes are not */
function uuid() {
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 15) | 64;
  b[8] = (b[8] & 63) | 128;
  return [...b]
    .map((x) => x.toString(16).padStart(2, "0"))
    .join("")
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/**
 * Runs an action for a control and shows beside it what became of it.
 * @param {HTMLElement} control @param {string} url @param {object} body @param {string} [method]
 * @returns {Promise<Answer | null>} null while one is running
 */
export async function run(control, url, body, method = "POST") {
  if (control.getAttribute("aria-busy") === "true") return null;
  control.setAttribute("aria-busy", "true");
  const place = said(control);
  place.textContent = text("sending");
  place.dataset.state = "pending";
  const rescue = url.endsWith("/emergency-openings") ? ` · ${text("rescue")}` : "";
  const late = (/** @type {number} */ s) => (s >= RESCUE_S ? rescue : ""); // nobody waits in front of a shut hatch for us
  const answer = await send(url, body, (s) => (place.textContent = text("pending", { s }) + late(s)), method);
  control.removeAttribute("aria-busy");
  place.dataset.state = answer.state;
  const urgent = control.closest("[data-urgent], [data-hold]") !== null;
  const outcome = answer.state === "undelivered" && urgent ? text("undelivered.urgent") : text(answer.state);
  place.textContent = answer.state === "done" ? outcome : outcome + rescue;
  if (answer.state === "done") setTimeout(() => (place.textContent = ""), 6000);
  if (answer.state === "refused") refuse(answer);
  return answer;
}

/** @param {HTMLElement} control @returns {HTMLElement} the place beside a control where its outcome is said */
function said(control) {
  const next = control.nextElementSibling;
  if (next instanceof HTMLElement && next.classList.contains("said")) return next;
  const place = Object.assign(document.createElement("span"), { className: "said", role: "status" });
  control.after(place);
  return place;
}

/** Lists all failing checks. @param {Answer} answer */
export function refuse(answer) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("refusal"));
  const lead = answer.detail ?? answer.text ?? "";
  bind(dialog, { title: answer.title || text("refused"), detail: lead, failures: answer.failures ?? [] });
  if (!dialog.open) dialog.showModal();
}

/** @param {HTMLFormElement} form @returns {object} */
function bodyOf(form) {
  if (form.dataset.body) return JSON.parse(form.dataset.body);
  const numbers = (form.dataset.numbers ?? "").split(" ");
  const fields = [...new FormData(form)].map(([k, v]) => [
    k,
    numbers.includes(k) ? Number(v) : v === "true" || (v === "false" ? false : v),
  ]);
  const body = Object.assign(JSON.parse(form.dataset.fixed ?? "{}"), Object.fromEntries(fields));
  for (const name of (form.dataset.lists ?? "").split(" ").filter(Boolean)) body[name] = new FormData(form).getAll(name);
  return form.dataset.nest ? { [form.dataset.nest]: body } : body;
}

document.addEventListener("click", (event) => {
  const button = /** @type {HTMLElement | null} */ (
    /** @type {Element} */ (event.target).closest("button[data-post], button[data-open]")
  );
  if (!button || button.hasAttribute("data-hold")) return;
  if (button.dataset.post) return void run(button, button.dataset.post, JSON.parse(button.dataset.body ?? "{}"));
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById(button.dataset.open ?? ""));
  const { url, title, name, send: body } = button.dataset;
  dialog.querySelector("form")?.reset();
  for (const old of dialog.querySelectorAll(".said")) old.textContent = "";
  const form = dialog.querySelector("form");
  if (dialog.hasAttribute("data-scope")) bind(dialog, { url, title, name, space: name, body });
  else if (form && url) form.dataset.post = url;
  dialog.showModal();
});

document.addEventListener("submit", async (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  const button = /** @type {HTMLButtonElement | null} */ (event.submitter);
  if (!form.dataset.post || !button || (form.method === "dialog" && button.value === "")) return;
  event.preventDefault();
  const answer = await run(button, form.dataset.post, bodyOf(form));
  if (answer?.state !== "done") return;
  form.closest("dialog")?.close();
  const turn = form.closest("details.turn");
  if (!turn) return;
  form.reset();
  turn.removeAttribute("open");
});
