// @ts-check
/** Locks on their way into the records. A secret is sent once and then forgotten by the page too. */
import { run } from "./act.js";
import { text } from "./format.js";
import "./page.js";

const SECRET_DIGITS = 32;
if (matchMedia("(min-width: 1000px)").matches) document.querySelector(".enrol > details")?.setAttribute("open", "");

/** @param {string} words @returns {string} its hexadecimal digits, whatever a person or a scanner put between them */
const digitsOf = (words) => words.toLowerCase().replace(/[^0-9a-f]/g, "");

document.addEventListener("input", (event) => {
  const field = /** @type {HTMLInputElement} */ (event.target);
  if (field.name === "address") field.value = field.value.toUpperCase();
  if (field.name === "secret") count(field);
});

/** Says how many digits there are; at the end of the line they stand in groups of four, as they are printed. @param {HTMLInputElement} field */
function count(field) {
  const digits = digitsOf(field.value);
  const atEnd = field.selectionStart === field.value.length;
  if (atEnd) field.value = (digits.match(/.{1,4}/g) ?? []).join(" ");
  const place = field.closest("label")?.querySelector(".digits");
  if (place) place.textContent = `${digits.length} / ${SECRET_DIGITS}`;
}

/** @param {HTMLFormElement} form @param {string} name */
const valueOf = (form, name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name)).value.trim();

/** @param {HTMLFormElement} form @param {HTMLElement} button */
async function present(form, button) {
  const secret = digitsOf(valueOf(form, "secret"));
  const error = /** @type {HTMLElement} */ (form.querySelector(".error"));
  error.hidden = secret.length === SECRET_DIGITS;
  error.textContent = text("enrol.digits", { count: secret.length });
  if (!error.hidden) return;
  const answer = await run(button, form.dataset.url ?? "", { secret, passkey: valueOf(form, "passkey") });
  if (!answer || answer.state === "undelivered") return;
  form.reset();
  count(/** @type {HTMLInputElement} */ (form.elements.namedItem("secret")));
}

/** @param {HTMLFormElement} form @param {HTMLElement} button */
async function propose(form, button) {
  const place = /** @type {HTMLSelectElement} */ (form.elements.namedItem("place")).selectedOptions[0];
  const { space, entrance } = place.dataset;
  const body = { space, entrance, device: valueOf(form, "device"), address: valueOf(form, "address") };
  const answer = await run(button, "/api/v1/locks/enrolments", body);
  if (answer?.state !== "done") return;
  form.reset();
  scrollTo(0, 0);
}

document.addEventListener("submit", (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  const button = /** @type {HTMLElement} */ (/** @type {SubmitEvent} */ (event).submitter);
  if (form.matches(".at-lock")) void present(form, button);
  else if (form.id === "propose") void propose(form, button);
  else return;
  event.preventDefault();
});
