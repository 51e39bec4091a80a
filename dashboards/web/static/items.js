// @ts-check
/** The check list: one press, one item. What needs a photo takes it first; its sha256 goes with the yes. */
import { run } from "./act.js";
import { text } from "./format.js";

document.addEventListener("click", async (event) => {
  const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest("[data-yes]"));
  if (!button?.dataset.yes) return;
  const evidence = await photo(button);
  if (evidence !== null) await run(button, button.dataset.yes, { answer: "yes", evidence }, "PUT");
});

/** @param {HTMLElement} button @returns {Promise<string | null>} the photo's sha256, "" where none is asked for, null without one */
async function photo(button) {
  if (!button.dataset.photo) return "";
  if (!crypto.subtle) return without(button, "photo.insecure");
  const bytes = button.dataset.photo === "simulated" ? simulated(button) : await taken();
  if (!bytes) return without(button, "photo.none");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((x) => x.toString(16).padStart(2, "0")).join("");
}

/** A training yard has no barrier to photograph: its camera is simulated, and the button says so. @param {HTMLElement} button */
function simulated(button) {
  return new TextEncoder().encode(`${button.dataset.yes} ${Date.now()} ${crypto.getRandomValues(new Uint32Array(4))}`);
}

/** @returns {Promise<ArrayBuffer | null>} what the camera took, null when nobody took anything */
function taken() {
  const input = Object.assign(document.createElement("input"), { type: "file", accept: "image/*", capture: "environment" });
  return new Promise((done) => {
    input.addEventListener("change", async () => done((await input.files?.[0]?.arrayBuffer()) ?? null));
    input.addEventListener("cancel", () => done(null));
    input.click();
  });
}

/** @param {HTMLElement} button @param {string} why @returns {null} */
function without(button, why) {
  const place = button.parentElement?.querySelector(".photo-said");
  if (place) place.textContent = text(why);
  return null;
}
