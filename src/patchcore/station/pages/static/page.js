// Page: what every script needs of the page it is in: its data, its texts, its elements.

/**
 * @typedef {"pass" | "unsure" | "fail"} Verdict
 * @typedef {{id: number, time: string, line: string, name: string, part: string | null, verdict: Verdict,
 *   reason: string | null, score: number, threshold: number | null, seconds: number, waited: number, model: string,
 *   model_id: number, kept: boolean, review: string, reviewed_by: string | null, reviewed: string | null, note: string,
 *   shadow: {model_id: number, score: number, verdict: Verdict} | null}} Result
 * @typedef {{id: number, name: string, version: number}} Version
 * @typedef {{id: number, name: string, model: Version | null, shadow: Version | null, running: boolean,
 *   counts: Record<Verdict, number>}} Line
 * @typedef {Version & {how: string, who: string, why: string, created: string, parent_id: number | null,
 *   images: number, rows: number, threshold: number | null, false_reject_rate: number, confidence: number | null, unsure?: number | null,
 *   good_images: number, enough: boolean, backbone: string[], size: number}} Model
 * @typedef {{language: string, csrf: string, name: string, role: string, texts: Record<string, string>}} PageData
 */

/** @type {PageData} */
export const data = JSON.parse(document.getElementById("page-data")?.textContent ?? "{}");

/**
 * A text of the page, with `{name}` replaced; numbers as the language writes them.
 * @param {string} key
 * @param {Record<string, any>} [values]
 */
export function t(key, values = {}) {
  const shown = (/** @type {any} */ value) => (typeof value === "number" ? number(value, 6) : String(value ?? "–"));
  return data.texts[key].replace(/\{(\w+)\}/g, (all, name) => (name in values ? shown(values[name]) : all));
}

/**
 * What the station says of a trouble or a refusal: in the person's language where there is a text for its code.
 * @param {{of?: string, text: string, code?: string, values?: Record<string, any>}} one
 */
export function said({ of = "", text, code = "", values = {} }) {
  const told = `refused.${code}` in data.texts ? t(`refused.${code}`, values) : text;
  return of ? `${of}: ${told}` : told;
}

/**
 * The element of that id.
 * @template {Element} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [kind]
 * @returns {T}
 */
export function $(id, kind) {
  const found = document.getElementById(id);
  if (!found || (kind && !(found instanceof kind))) throw new Error(`The page has no ${kind?.name ?? "element"} ${id}.`);
  return /** @type {T} */ (/** @type {unknown} */ (found));
}

/**
 * A new element. Text is text: nothing in it is read as HTML.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [given] properties; `class`, `data-*` and `aria-*` are attributes
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "class" || name.includes("-")) made.setAttribute(name, String(value));
    else Reflect.set(made, name, value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined && one !== false));
  return made;
}

/** A figure of the sprite. @param {string} id @param {string} kind */
function figure(id, kind) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", kind);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#${id}`);
  svg.append(use);
  return svg;
}

/** The shape of a verdict. @param {string} verdict */
export const sign = (verdict) => figure(`sign-${verdict}`, "sign");

/** The shape of a verdict and its word. @param {Verdict} verdict */
export const chip = (verdict) => el("span", { class: `chip ${verdict}` }, sign(verdict), t(`verdict.${verdict}`));

const locale = data.language;

/** @param {number | null | undefined} value @param {number} [digits] */
export function number(value, digits = 4) {
  return value === null || value === undefined ? "–" : value.toLocaleString(locale, { maximumSignificantDigits: digits });
}

/** @param {number} share @param {number} [digits] */
export function percent(share, digits = 2) {
  return share.toLocaleString(locale, { style: "percent", maximumSignificantDigits: digits });
}

/** Rounded up: a rate that is promised is never told as lower than it is. @param {number} share */
export function percentAbove(share) {
  const step = share < 0.1 ? 1000 : 100;
  return percent(Math.ceil(share * step - 1e-9) / step, 3);
}

/** As ISO 8601 has it, in the person's zone: the same in every language. @param {string | number | Date} time @param {boolean} [day] */
export function moment(time, day = true) {
  const date = new Date(time);
  return day ? date.toLocaleString("sv") : date.toLocaleTimeString("sv");
}

/** @param {number} seconds */
export function span(seconds) {
  const [unit, size] = seconds < 100 ? ["seconds", 1] : seconds < 6000 ? ["minutes", 60] : seconds < 172800 ? ["hours", 3600] : ["days", 86400];
  return t(`time.${unit}`, { count: Math.round(seconds / Number(size)) });
}

/** @param {number} bytes */
export function bytes(bytes) {
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(bytes, 1)) / 3)));
  return `${number(bytes / 1000 ** power, 3)} ${["B", "kB", "MB", "GB", "TB"][power]}`;
}

/** What a part is called. @param {{id: number, part: string | null, name: string}} one */
export const called = (one) => one.part || one.name || `#${one.id}`;

/**
 * Something for the person, at the edge of the page; `undo` is a button in it. Returns what takes it away.
 * @param {string} text
 * @param {{bad?: boolean, undo?: () => void}} [how]
 */
export function note(text, { bad = false, undo } = {}) {
  const notes = $("notes");
  const made = el("p", { class: bad ? "note bad" : "note" }, el("span", {}, text));
  const away = () => {
    made.remove();
    if (!notes.childElementCount && notes.matches(":popover-open")) notes.hidePopover();
  };
  if (undo) made.append(el("button", { type: "button", onclick: () => (away(), undo()) }, t("review.undo")));
  made.append(el("button", { type: "button", class: "close", "aria-label": t("common.close"), onclick: away }, "×"));
  notes.append(made);
  while (notes.childElementCount > (innerWidth < 600 ? 1 : 3)) notes.firstElementChild?.remove();
  if (notes.matches(":popover-open")) notes.hidePopover(); // shown last, it lies above a dialog
  notes.showPopover();
  setTimeout(away, bad ? 12000 : 7000);
  return away;
}

/** Times of the server's making, in the person's own zone. */
export function localizeTimes() {
  for (const one of document.querySelectorAll("time[datetime]")) {
    one.textContent = moment(one.getAttribute("datetime") ?? "");
  }
}
