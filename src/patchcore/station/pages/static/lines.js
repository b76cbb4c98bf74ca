// Lines: what brings images to each, and what machines are told.
import "./shell.js";
import { failed, get, send } from "./api.js";
import * as events from "./events.js";
import { Fields } from "./fields.js";
import { ofOutput, ofSource } from "./machines.js";
import { $, data, el, note, said, t } from "./page.js";

/**
 * @typedef {import("./page.js").Line} Line
 * @typedef {{state: string, why?: string | null, code?: string, values?: Record<string, any>, failed?: number, images?: number,
 *   bad?: {name: string, error: string}[], trigger?: State, missed?: string}} State
 * @typedef {Record<string, any> & {name: string, kind: string, now: State & {waiting?: number, given_up?: number, given_up_why?: string} | null}} Output
 */

const BAD = 5; // files that could not be read are named
/** @type {string[]} */
let names = []; // of lines

/** @template {Element} T @param {Element} root @param {string} where @param {new () => T} kind @returns {T} */
function find(root, where, kind) {
  const found = root.querySelector(where);
  if (!(found instanceof kind)) throw new Error(`There is no ${where}.`);
  return found;
}

/** @param {string} name @returns {HTMLElement | undefined} */
const cardOf = (name) => [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".line-card"))].find((one) => one.dataset.line === name);

async function refresh() {
  try {
    /** @type {Line[]} */
    const lines = await get("/lines");
    names = lines.map((one) => one.name);
    const cards = await Promise.all(lines.map((one) => {
      const known = cardOf(one.name);
      return known?.dataset.changed ? known : card(one); // what somebody is writing stays
    }));
    $("lines").replaceChildren(...cards);
    await Promise.all([states(), outputs()]);
  } catch (error) {
    failed(error);
  }
}

/** @param {Line} line @returns {Promise<HTMLElement>} */
async function card(line) {
  const made = /** @type {HTMLElement} */ ($("line", HTMLTemplateElement).content.firstElementChild?.cloneNode(true));
  const path = `/lines/${encodeURIComponent(line.name)}`;
  /** @type {{source: Record<string, any>, running: boolean}} */
  const { source, running } = await get(`${path}/source`);
  made.dataset.line = line.name;
  find(made, "h2", HTMLElement).textContent = line.name;
  const where = String(source.path ?? source.address ?? "");
  find(made, "summary", HTMLElement).textContent = source.kind ? `${t("lines.kind")}: ${t(`lines.kind.${source.kind}`)} ${where}` : t("lines.source_choose");
  find(made, "details", HTMLDetailsElement).open = !source.kind;
  const form = find(made, "form", HTMLFormElement);
  const kind = find(form, "select", HTMLSelectElement);
  /** @type {Record<string, any>} */
  const given = { ...source, trigger: { kind: "none", ...source.trigger } };
  if (source.kind === "camera" && source.every === null) given.every = "";
  kind.value = source.kind ?? "none";
  /** @type {Fields} */
  let fields;
  const ask = () => (fields = new Fields(find(form, ".asked", HTMLElement), ofSource(kind.value), kind.value === source.kind ? given : {}));
  form.addEventListener("input", () => (made.dataset.changed = "1"));
  kind.addEventListener("change", () => ask());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const read = fields.read();
    if (!read) return;
    if (read.trigger?.kind === "none") read.trigger = null;
    try {
      await send("PUT", `${path}/source`, { ...read, kind: kind.value });
      delete made.dataset.changed;
      note(t("common.saved"));
      await refresh();
    } catch (error) {
      fields.complain(error);
    }
  });
  const power = find(made, ".switch", HTMLButtonElement);
  power.hidden = !source.kind;
  power.textContent = t(running ? "lines.off" : "lines.on");
  power.addEventListener("click", () => send("POST", `${path}/switch`, { running: !running }).then(refresh, failed));
  const shoot = find(made, ".shoot", HTMLButtonElement);
  shoot.hidden = source.kind !== "camera" || !running;
  shoot.addEventListener("click", () => send("POST", `${path}/shoot`, {}).then((told) => note(t(`verdict.${told.verdict}`)), failed));
  ask();
  return made;
}

/** A state as a word. @param {Element} place @param {State} state */
function tag(place, state) {
  place.textContent = t(`lines.state.${state.state}`);
  place.setAttribute("data-state", state.state);
}

/** Why something does not run, as an item of a list; nothing where it does. @param {State} state @param {string} [of] */
function reason(state, of = "") {
  return state.why ? [el("li", { class: state.state === "lost" ? "lost" : "" }, said({ of, text: state.why, code: state.code, values: state.values }))] : [];
}

/** How the sources are, as it changes. */
async function states() {
  /** @type {[Record<string, State>, {line: string, by?: string}[]]} */
  const [known, alarms] = await Promise.all([get("/sources").catch(() => ({})), get("/alarms").catch(() => [])]);
  for (const one of document.querySelectorAll(".line-card")) {
    const name = /** @type {HTMLElement} */ (one).dataset.line ?? "";
    const state = known[name] ?? { state: "off" };
    tag(find(one, ".state", HTMLElement), state);
    const bad = state.bad?.slice(-BAD).map((file) => el("span", {}, `${file.name}: ${file.error}`)) ?? [];
    const open = alarms.filter((alarm) => alarm.line === name && !alarm.by).length;
    find(one, ".why-not", HTMLElement).replaceChildren(
      ...reason(state), ...(state.trigger ? reason(state.trigger, t("field.trigger")) : []),
      ...(bad.length ? [el("li", {}, el("b", {}, t("lines.bad", { count: state.failed ?? bad.length })), ...bad)] : []),
      ...(open ? [el("li", {}, el("a", { href: `/watch?line=${encodeURIComponent(name)}` }, t("lines.alarms", { count: open })))] : []));
  }
}

async function outputs() {
  /** @type {Output[]} */
  const found = await get("/outputs");
  $("outputs").replaceChildren(...found.map(shown));
}

/** @param {Output} one */
function shown(one) {
  const now = one.now ?? { state: "off" };
  const state = el("span", { class: "tag" });
  tag(state, now);
  const figures = [
    now.waiting ? t("lines.waiting", { count: now.waiting }) : "",
    now.given_up ? t("lines.given_up", { count: now.given_up, why: now.given_up_why ?? "" }) : "",
  ];
  return el("li", { class: now.state === "running" ? "seen" : now.state === "lost" ? "lost" : "" },
    el("div", { class: "row between" }, el("p", { class: "row" }, el("b", {}, one.name), el("span", { class: "quiet" }, `${t(`lines.kind.${one.kind}`)} ${one.url ?? one.broker?.host ?? `${one.host}:${one.port}`}`), state),
      data.role === "admin" && el("span", { class: "row" },
        el("button", { type: "button", "aria-label": `${t("lines.output_change")}: ${one.name}`, onclick: () => edit(one) }, t("lines.output_change")),
        el("button", { type: "button", "aria-label": `${t("lines.output_remove")}: ${one.name}`, onclick: () => remove(one) }, t("lines.output_remove")))),
    now.why && el("span", {}, said({ text: now.why, code: now.code, values: now.values })),
    ...figures.filter(Boolean).map((text) => el("span", { class: "quiet" }, text)));
}

const dialog = $("output", HTMLDialogElement);
/** @type {{former: string, kind: string, fields: Fields} | null} */
let editing = null;

/** @param {Partial<Output> & {kind: string}} one */
function edit(one) {
  $("output-title").textContent = one.name ? `${one.name} (${t(`lines.kind.${one.kind}`)})` : t(`lines.kind.${one.kind}`);
  const known = [...new Set([...names, ...(one.lines ?? [])])];
  const asked = ofOutput(one.kind, known).filter((field) => field.name !== "lines" || known.length > 1 || one.lines?.length);
  editing = { former: one.name ?? "", kind: one.kind, fields: new Fields($("output-fields"), asked, one) };
  dialog.showModal();
}

/** All outputs as they are now, but one. @param {string} name */
async function others(name) {
  /** @type {Output[]} */
  const found = await get("/outputs");
  return found.filter((one) => one.name !== name).map(({ now: _, ...one }) => one);
}

$("output-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const read = editing?.fields.read();
  if (!editing || !read) return;
  try {
    await send("PUT", "/outputs", [...(await others(editing.former)), { ...read, kind: editing.kind }]);
    dialog.close();
    note(t("common.saved"));
    await outputs();
  } catch (error) {
    editing.fields.complain(error);
  }
});
$("output-close").addEventListener("click", () => dialog.close());

const asking = $("remove", HTMLDialogElement);

/** @param {Output} one */
function remove(one) {
  $("remove-title").textContent = t("lines.output_remove_title", { name: one.name });
  asking.returnValue = "";
  asking.onclose = async () => {
    if (asking.returnValue !== "go") return;
    try {
      await send("PUT", "/outputs", await others(one.name));
      await outputs();
    } catch (error) {
      failed(error);
    }
  };
  asking.showModal();
}

$("add", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  const form = $("add", HTMLFormElement);
  send("POST", "/lines", { name: String(new FormData(form).get("name")).trim() }).then(() => (form.reset(), refresh()), failed);
});
const adding = document.getElementById("new-output");
if (adding instanceof HTMLFormElement) {
  adding.addEventListener("submit", (event) => {
    event.preventDefault();
    edit({ kind: String(new FormData(adding).get("kind")) });
  });
}

events.on("hello", refresh);
for (const kind of ["source", "alarm"]) events.on(kind, states);
events.on("output", () => outputs().catch(() => {}));
setInterval(() => document.hidden || Promise.all([states(), outputs()]).catch(() => {}), 10_000); // what is no other state: files, what waits
