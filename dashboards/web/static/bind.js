// @ts-check
/**
 * Fills marked elements from a view model and, later, touches only what changed.
 *
 * data-bind="path|format"   text            data-show="path"              hidden unless true
 * data-class-NAME="path"    class           data-attr-NAME="path"         attribute; "/alarms/{id}" is filled in
 * data-each="path"          one <template> child makes one row per item, kept by data-key; data-where="itemKey=outerPath" filters
 * data-scope                left alone until bound by itself (dialogs)
 * A path starts at the row's item; "$.x" starts at the model, "$item" is the item. "!x", "x=word", "x>1" are conditions.
 */
import { formats } from "./format.js";

/** @typedef {{item: any, root: any}} Scope */
/** @typedef {{el: Element, kind: string, arg: string, name: string, last: unknown}} Binding */

/** @type {WeakMap<Element, Binding[]>} */
const compiled = new WeakMap();
/** @type {WeakMap<Element, Map<string, Element>>} */
const rows = new WeakMap();
const CHEMICAL = /\b(H2S|O2|CO2|CH4|NH3|SO2|NO2)\b/;
let pointerDown = false;
addEventListener("pointerdown", () => (pointerDown = true), true);
for (const up of ["pointerup", "pointercancel", "blur"]) addEventListener(up, () => (pointerDown = false), true);

/**
 * Binds an element and everything below it to a model.
 * @param {Element} root @param {any} model
 */
export function bind(root, model) {
  apply(root, { item: model, root: model });
}

/** @param {Element} root @param {Scope} scope */
function apply(root, scope) {
  let found = compiled.get(root);
  if (!found) compiled.set(root, (found = compile(root, root, [])));
  for (const b of found) {
    if (b.kind === "each") each(b, scope);
    else {
      const value = b.arg.includes("{") ? fill(b.arg, scope) : evaluate(b.arg, scope);
      const key = b.kind === "attr" ? value : b.kind === "bind" ? String(value ?? "—") : truth(value);
      if (key !== b.last) put(b, (b.last = key));
    }
  }
}

/** @param {Element} el @param {Element} root @param {Binding[]} out @returns {Binding[]} */
function compile(el, root, out) {
  if (el !== root && el.hasAttribute("data-scope")) return out;
  for (const { name, value } of [...el.attributes]) {
    const [, kind, rest] = /^data-(bind|show|class|attr)(?:-(.+))?$/.exec(name) ?? [];
    if (kind) out.push({ el, kind, arg: value, name: rest ?? "", last: undefined });
  }
  const list = el.getAttribute("data-each");
  if (list !== null) out.push({ el, kind: "each", arg: list, name: "", last: undefined });
  else for (const child of el.children) compile(child, root, out);
  return out;
}

/** @param {Binding} b @param {any} value */
function put({ el, kind, name }, value) {
  if (kind === "show") /** @type {HTMLElement} */ (el).hidden = !value;
  else if (kind === "class") el.classList.toggle(name, value);
  else if (kind === "bind") write(el, value);
  else if (value === null || value === undefined || value === false || value === "") el.removeAttribute(name);
  else el.setAttribute(name, value === true ? "" : String(value));
}

/** Writes text; the digits of a gas formula stand low. @param {Element} el @param {string} words */
function write(el, words) {
  if (!CHEMICAL.test(words)) return void (el.textContent = words);
  const parts = words
    .split(CHEMICAL)
    .flatMap((part, i) => (i % 2 ? part.split(/(\d)/) : [part]).map((bit) => ({ low: i % 2 && /^\d$/.test(bit), bit })));
  el.replaceChildren(
    ...parts.map(({ low, bit }) => (low ? Object.assign(document.createElement("sub"), { textContent: bit }) : bit)),
  );
}

/** @param {string} path @param {Scope} scope */
function look(path, scope) {
  if (path === "$item") return scope.item;
  const [from, keys] = path.startsWith("$.") ? [scope.root, path.slice(2)] : [scope.item, path];
  return keys.split(".").reduce((/** @type {any} */ at, key) => at?.[key], from);
}

/** @param {any} v */
const truth = (v) => (Array.isArray(v) ? v.length > 0 : Boolean(v));

/** @param {string} expression @param {Scope} scope */
function evaluate(expression, scope) {
  if (expression.startsWith("!")) return !truth(look(expression.slice(1), scope));
  const [, path, op, other] = /^([^=>|]+)(?:([=>|])(.+))?$/.exec(expression) ?? ["", expression];
  const value = look(path, scope);
  if (op === "|") return formats[other](value);
  if (op === ">") return value > Number(other);
  if (op === "=") return String(value ?? null) === String(other.startsWith("$.") ? look(other, scope) : other);
  return value;
}

/** @param {string} pattern @param {Scope} scope @returns {string | null} null when a part is missing */
function fill(pattern, scope) {
  let whole = true;
  const text = pattern.replace(/\{([^{}"]+)\}/g, (_, path) => {
    const value = look(path, scope);
    whole &&= value !== null && value !== undefined;
    return String(value);
  });
  return whole ? text : null;
}

/** @param {Binding} b @param {Scope} scope */
function each({ el, arg }, scope) {
  const template = /** @type {HTMLTemplateElement} */ (el.querySelector(":scope > template"));
  const [own, outer] = (el.getAttribute("data-where") ?? "").split("=");
  const items = (look(arg, scope) ?? []).filter((/** @type {any} */ item) => !own || item[own] === look(outer, scope));
  const key = el.getAttribute("data-key");
  const before = rows.get(el) ?? new Map();
  const after = new Map();
  /** @type {Element} */
  let previous = template;
  for (const [i, item] of items.entries()) {
    const id = String(key ? item[key] : i);
    const known = before.get(id);
    const row = known ?? /** @type {Element} */ (template.content.firstElementChild?.cloneNode(true));
    apply(row, { item, root: scope.root });
    // The order holds while a pointer is down, so that a button never moves away under the finger.
    if (previous.nextElementSibling !== row && !(known && pointerDown)) previous.after(row);
    after.set(id, (previous = row));
  }
  for (const [id, row] of before) if (!after.has(id)) row.remove();
  rows.set(el, after);
}
