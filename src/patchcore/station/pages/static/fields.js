// Fields: a form made of a list of what is asked, where what is wrong is said at its field.
import { Refused } from "./api.js";
import { data, el, t } from "./page.js";

/**
 * @typedef {{
 *   name: string, kind?: "text" | "number" | "secret" | "choice" | "flag" | "many", text?: string, choices?: [string, string][],
 *   first?: any, needed?: boolean, empty?: any, least?: number, most?: number, step?: number, list?: string,
 *   more?: boolean, only?: [string, string], read?: (given: string) => unknown,
 * }} Field `name`: its place in the settings, with points; `text`: of its label (`field.TEXT`) and its help (`help.TEXT`), the name
 *   by default; `first`: what is there before anybody has said anything; `empty`: what an empty field means, nothing by default;
 *   `least`, `most`: of a number, or of the letters of a text; `more`: it is seldom needed; `only`: the choice that it depends on
 * @typedef {{loc: (string | number)[], type: string, msg: string, ctx?: Record<string, any>}} Fault as the station finds it
 */

let made = 0;

export class Fields {
  /**
   * @param {Element} place whose content they become
   * @param {Field[]} fields
   * @param {Record<string, any>} values
   */
  constructor(place, fields, values) {
    this.fields = fields;
    this.prefix = `f${(made += 1)}-`;
    this.told = el("p", { class: "banner bad", role: "alert" });
    this.told.hidden = true;
    this.rows = new Map(fields.map((one) => [one.name, this.#row(one, at(values, one.name) ?? one.first ?? "")]));
    const usual = fields.filter((one) => !one.more).map((one) => this.#place(one.name));
    const rest = fields.filter((one) => one.more).map((one) => this.#place(one.name));
    this.more = el("details", {}, el("summary", {}, t("field.more")), el("div", { class: "fields" }, ...rest));
    place.replaceChildren(el("div", { class: "fields" }, ...usual), ...(rest.length ? [this.more] : []), this.told);
    place.addEventListener("change", () => this.#fit());
    place.addEventListener("input", (event) => event.target instanceof HTMLElement && this.#fault(event.target.dataset.field ?? "", ""));
    this.#fit();
  }

  /** @param {Field} one @param {any} value */
  #row(one, value) {
    const text = one.text ?? one.name;
    const id = this.prefix + one.name;
    const help = `help.${text}` in data.texts ? el("p", { class: "quiet", id: `${id}-help` }, t(`help.${text}`)) : null;
    const fault = el("p", { class: "fault", id: `${id}-fault`, hidden: true });
    const about = { "aria-describedby": [help && `${id}-help`, `${id}-fault`].filter(Boolean).join(" "), "data-field": one.name };
    const label = t(`field.${text}`);
    const kind = one.kind ?? "text";
    if (kind === "many") {
      const boxes = (one.choices ?? []).map(([key, name]) => el("label", { class: "option" }, el("input", { type: "checkbox", name: one.name, value: key, checked: value.includes(key), ...about }), name));
      return el("fieldset", { class: "field", "data-of": one.name }, el("legend", {}, label), el("div", { class: "row" }, ...boxes), help, fault);
    }
    if (kind === "flag") {
      return el("div", { class: "field", "data-of": one.name }, el("label", { class: "option" }, el("input", { type: "checkbox", id, name: one.name, checked: Boolean(value), ...about }), label), help, fault);
    }
    const input = kind === "choice"
      ? el("select", { id, name: one.name, ...about }, ...(one.choices ?? []).map(([key, name]) => el("option", { value: key, selected: key === value }, name)))
      : el("input", { id, name: one.name, type: kind === "secret" ? "password" : kind, value: String(value), autocomplete: kind === "secret" ? "new-password" : "off", spellcheck: false, ...about });
    if (kind === "number") input.setAttribute("step", String(one.step ?? "any"));
    if (one.list) input.setAttribute("list", one.list);
    if (one.needed) input.setAttribute("aria-required", "true");
    return el("div", { class: "field", "data-of": one.name }, el("label", { htmlFor: id }, label), input, help, fault);
  }

  /** @param {string} name */
  #place(name) {
    const row = this.rows.get(name);
    if (!row) throw new Error(`There is no field ${name}.`);
    return row;
  }

  /** @param {string} name @returns {string} */
  #given(name) {
    const input = this.#place(name).querySelector("input, select");
    return input instanceof HTMLInputElement || input instanceof HTMLSelectElement ? input.value.trim() : "";
  }

  /** @param {Field} one */
  #asked = (one) => !one.only || this.#given(one.only[0]) === one.only[1];

  /** Only what is asked for, as the choices are. */
  #fit() {
    for (const one of this.fields) this.#place(one.name).hidden = !this.#asked(one);
    this.more.hidden = !this.fields.some((one) => one.more && this.#asked(one));
  }

  /** @param {string} name @param {string} text nothing: it is right */
  #fault(name, text) {
    const place = this.rows.get(name)?.querySelector(".fault");
    if (!(place instanceof HTMLElement)) return;
    place.textContent = text;
    place.hidden = !text;
    for (const one of this.#place(name).querySelectorAll("input, select")) {
      if (text) one.setAttribute("aria-invalid", "true");
      else one.removeAttribute("aria-invalid");
    }
  }

  /** @param {Field} one @returns {string} what is wrong with what is in it */
  #wrong(one) {
    const input = this.#place(one.name).querySelector("input");
    const given = this.#given(one.name);
    const { least, most } = one;
    if (input?.validity.badInput) return t("fault.float_parsing");
    if (!given) return one.needed ? t("fault.missing") : "";
    if (one.kind === "number") {
      if (least !== undefined && Number(given) < least) return t("fault.greater_than_equal", { ge: least });
      if (most !== undefined && Number(given) > most) return t("fault.less_than_equal", { le: most });
    } else {
      if (least !== undefined && given.length < least) return t("fault.string_too_short", { min_length: least });
      if (most !== undefined && given.length > most) return t("fault.string_too_long", { max_length: most });
    }
    return "";
  }

  /** The settings, or null where something is wrong, which is then said. @returns {Record<string, any> | null} */
  read() {
    this.told.hidden = true;
    /** @type {Record<string, any>} */
    const found = {};
    /** @type {string[]} */
    const wrong = [];
    for (const one of this.fields.filter(this.#asked)) {
      const text = one.kind === "many" || one.kind === "flag" ? "" : this.#wrong(one);
      this.#fault(one.name, text);
      if (text) wrong.push(one.name);
      const boxes = [...this.#place(one.name).querySelectorAll("input")];
      const given = this.#given(one.name);
      if (one.kind === "many") put(found, one.name, boxes.filter((box) => box.checked).map((box) => box.value));
      else if (one.kind === "flag") put(found, one.name, boxes[0].checked);
      else if (given) put(found, one.name, one.read ? one.read(given) : one.kind === "number" ? Number(given) : given);
      else if (one.empty !== undefined) put(found, one.name, one.empty);
    }
    this.#look(wrong[0]);
    return wrong.length ? null : found;
  }

  /** Say what the station finds wrong: at the field if it is of one, otherwise below all. @param {unknown} error */
  complain(error) {
    const faults = error instanceof Refused ? error.faults : [];
    /** @type {string[]} */
    const rest = [];
    let first;
    for (const one of faults) {
      const name = this.#named(one.loc.filter((part) => typeof part === "string"));
      const text = faultText(one);
      if (!name) rest.push(`${one.loc.slice(1).join(".")}: ${text}`);
      else this.#fault(name, text), (first ??= name);
    }
    if (!faults.length) {
      const name = error instanceof Refused ? this.#named([String(error.values.field ?? "")]) : undefined;
      const text = error instanceof Error ? error.message : String(error);
      if (name) this.#fault(name, text), (first = name);
      else rest.push(text);
    }
    this.told.textContent = rest.join(" ");
    this.told.hidden = !rest.length;
    this.#look(first);
  }

  /** The field that a place in the settings is of; kinds stand between its parts. @param {(string | number)[]} place */
  #named(place) {
    const asked = this.fields.filter(this.#asked).sort((a, b) => b.name.length - a.name.length);
    const within = (/** @type {string[]} */ parts) => {
      let at = 0;
      for (const part of place) if (part === parts[at]) at += 1;
      return at === parts.length && parts.at(-1) === place.at(-1);
    };
    const last = (/** @type {string[]} */ parts) => place.length === 1 && parts.at(-1) === place[0];
    return (asked.find((one) => within(one.name.split("."))) ?? asked.find((one) => last(one.name.split("."))))?.name;
  }

  /** @param {string | undefined} name */
  #look(name) {
    if (!name) return;
    const row = this.#place(name);
    if (this.more.contains(row)) this.more.open = true;
    row.querySelector("input, select")?.scrollIntoView({ block: "nearest" });
    /** @type {HTMLElement | null} */ (row.querySelector("input, select"))?.focus();
  }
}

/** @param {Fault} one */
const faultText = (one) => (`fault.${one.type}` in data.texts ? t(`fault.${one.type}`, one.ctx) : one.msg);

/** @param {Record<string, any>} values @param {string} name with points */
function at(values, name) {
  return name.split(".").reduce((/** @type {any} */ inner, part) => inner?.[part], values);
}

/** @param {Record<string, any>} values @param {string} name with points @param {unknown} value */
function put(values, name, value) {
  const parts = name.split(".");
  const last = parts.pop() ?? "";
  let inner = values;
  for (const part of parts) inner = inner[part] ??= {};
  inner[last] = value;
}
