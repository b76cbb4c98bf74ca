// Models: versions, which one judges, and which one only tries.
import "./shell.js";
import { failed, get, send, upload } from "./api.js";
import * as events from "./events.js";
import { $, called, chip, el, moment, number, percentAbove, t } from "./page.js";

/** @typedef {import("./page.js").Verdict} Verdict @typedef {import("./page.js").Model} Model @typedef {import("./page.js").Line} Line @typedef {import("./page.js").Result} Result */

const VERDICTS = /** @type {const} */ (["pass", "unsure", "fail"]);
const COMPARED = 500; // parts, the last ones

/** @param {{name: string, version: number}} one */
const named = (one) => `${one.name} ${one.version}`;

async function refresh() {
  try {
    /** @type {[Model[], Line[]]} */
    const [models, lines] = await Promise.all([get("/models"), get("/lines")]);
    $("no-versions").hidden = models.length > 0;
    $("versions").replaceChildren(...models.slice(0, 200).map((one) => version(one, lines)));
    $("lines").replaceChildren(...lines.map((one) => lineTile(one, models)));
    offer(models, lines);
    await compare(lines.find((one) => one.shadow && one.model));
  } catch (error) {
    failed(error);
  }
}

/** @param {Line} line @param {Model[]} models */
function lineTile(line, models) {
  const model = line.model;
  const used = models.find((one) => one.id === model?.id);
  const parent = models.find((one) => one.id === used?.parent_id);
  return el("div", { class: "tile" },
    el("span", {}, `${t("common.line")} ${line.name}`), el("b", {}, model ? named(model) : t("models.line_none")),
    line.shadow && el("span", {}, `${t("models.shadow")}: ${named(line.shadow)}`),
    el("p", { class: "row" },
      parent && el("button", { type: "button", onclick: () => act(parent, false, t("models.rollback", { model: named(parent) }), line.name) }, t("models.rollback", { model: named(parent) })),
      line.shadow && el("button", { type: "button", onclick: () => endShadow(line.name) }, t("models.end_shadow"))));
}

/** @param {Model} one @param {Line[]} lines */
function version(one, lines) {
  const used = lines.filter((line) => line.model?.id === one.id).map((line) => line.name);
  const shadow = lines.filter((line) => line.shadow?.id === one.id).map((line) => line.name);
  const rate = percentAbove(one.enough ? one.false_reject_rate : 1 / (one.good_images + 1));
  const guarantee = t(one.enough ? "models.guarantee" : "models.guarantee_few", { rate, have: one.good_images });
  const figures = [t("models.images", { count: one.images }), t("models.rows", { count: number(one.rows, 6) }), `${t("common.threshold")} ${number(one.threshold)}`];
  return el("li", { class: used.length ? "in-use" : "" },
    el("div", {},
      el("p", { class: "name" }, named(one), used.length > 0 && el("span", { class: "tag" }, t("models.active", { line: used.join(", ") })), shadow.length > 0 && el("span", { class: "tag" }, t("models.shadow_of", { line: shadow.join(", ") }))),
      el("p", { class: "quiet" }, `${t(`models.how.${one.how}`)} · ${one.who} · ${moment(one.created)}`),
      one.why && el("p", {}, `“${one.why}”`)),
    el("div", {}, el("p", {}, guarantee), el("p", { class: "quiet" }, figures.join(" · "))),
    el("div", { class: "row end" },
      used.length === 0 && lines.some((line) => line.model) && el("button", { type: "button", onclick: () => pair(one, lines) }, t("models.pair_go")),
      used.length === 0 && el("button", { type: "button", onclick: () => act(one, false, t("models.activate")) }, t("models.activate")),
      used.length + shadow.length === 0 && el("button", { type: "button", onclick: () => act(one, true, t("models.shadow_start")) }, t("models.shadow_start")),
      el("a", { class: "button", href: `/api/v1/models/${one.id}/file`, download: "" }, t("models.download"))));
}

/** Ask why, then do it. @param {Model} model @param {boolean} shadow @param {string} title @param {string} [line] */
function act(model, shadow, title, line) {
  const dialog = $("act", HTMLDialogElement);
  const form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
  form.reset();
  $("act-title").textContent = title;
  $("act-about").textContent = t(shadow ? "models.shadow_about" : "models.activate_about", { model: named(model) });
  const choice = /** @type {HTMLSelectElement} */ (form.elements.namedItem("line"));
  if (line) choice.value = line;
  $("act-line").hidden = choice.options.length < 2;
  dialog.returnValue = "";
  dialog.onclose = async () => {
    if (dialog.returnValue !== "go") return;
    const given = new FormData(form);
    await send("POST", `/models/${model.id}/activate`, { line: choice.value, shadow, why: given.get("why") }).catch(failed);
    refresh();
  };
  dialog.showModal();
}

/** @param {string} line */
async function endShadow(line) {
  await send("DELETE", `/lines/${encodeURIComponent(line)}/shadow`).catch(failed);
  refresh();
}

/** The same parts, judged by both. @param {Line | undefined} line */
async function compare(line) {
  $("compare").hidden = !line;
  if (!line?.model || !line.shadow) return;
  const shadow = line.shadow;
  $("compare-title").textContent = t("models.compare", { model: named(line.model), shadow: named(shadow) });
  /** @type {Result[]} */
  const results = await get(`/results?limit=${COMPARED}&model_id=${line.model.id}&line=${encodeURIComponent(line.name)}`);
  const both = results.filter((one) => one.shadow?.model_id === shadow.id);
  const place = $("compared");
  if (!both.length) return place.replaceChildren(el("p", { class: "quiet" }, `${t("models.compare_about")} ${t("models.compare_wait")}`));
  const pairs = both.map((one) => ({ id: one.id, text: called(one), before: one.verdict, after: /** @type {Verdict} */ (one.shadow?.verdict), about: "" }));
  place.replaceChildren(...verdicts(pairs, named(line.model), named(shadow)));
}

/**
 * What two versions say of the same parts: how often which verdicts, and where they differ.
 * @param {{id: number, text: string, before: Verdict, after: Verdict, about: string}[]} both
 * @param {string} before @param {string} after
 */
function verdicts(both, before, after) {
  const count = (/** @type {Verdict} */ mine, /** @type {Verdict} */ other) => both.filter((one) => one.before === mine && one.after === other).length;
  const differ = both.filter((one) => one.before !== one.after);
  const head = el("tr", {}, el("th", { scope: "col" }, el("span", {}, `${before} ↓`), " ", el("span", {}, `${after} →`)), ...VERDICTS.map((one) => el("th", { scope: "col" }, chip(one))));
  const rows = VERDICTS.map((mine) => el("tr", {}, el("th", { scope: "row" }, chip(mine)), ...VERDICTS.map((other) => el("td", { class: mine === other ? "same" : count(mine, other) ? "differs" : "" }, number(count(mine, other), 6)))));
  return [
    el("p", {}, el("b", {}, t("models.agree", { count: both.length - differ.length, all: both.length }))),
    el("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": `${before} ↓ ${after} →` }, el("table", { class: "matrix" }, el("thead", {}, head), el("tbody", {}, ...rows))),
    ...(differ.length ? [el("h3", {}, t("models.differ"))] : []),
    el("ul", { class: "alarms" }, ...differ.slice(0, 20).map((one) => el("li", {}, el("a", { href: `/results/${one.id}` }, one.text), el("span", { class: "row" }, chip(one.before), "→", chip(one.after), one.about)))),
  ];
}

const pairing = $("pair-form", HTMLFormElement);
let offered = false;

/** @param {string} name */
const choice = (name) => /** @type {HTMLSelectElement} */ (pairing.elements.namedItem(name));

/** The versions that can be compared, while they come and go: the one in use with the newest other one at first. @param {Model[]} models @param {Line[]} lines */
function offer(models, lines) {
  $("pair").hidden = models.length < 2;
  for (const one of [choice("before"), choice("after")]) {
    const chosen = one.value;
    one.replaceChildren(...models.slice(0, 200).map((model) => el("option", { value: String(model.id) }, named(model))));
    if ([...one.options].some((option) => option.value === chosen)) one.value = chosen;
  }
  if (offered || models.length < 2) return;
  offered = true;
  const used = lines.find((line) => line.model)?.model?.id ?? models[1].id;
  choice("before").value = String(used);
  choice("after").value = String((models.find((one) => one.id !== used) ?? models[0]).id);
}

/** Compare a version with the one in use. @param {Model} one @param {Line[]} lines */
function pair(one, lines) {
  const line = lines.find((other) => other.model?.name === one.name) ?? lines.find((other) => other.model);
  choice("before").value = String(line?.model?.id);
  choice("after").value = String(one.id);
  if (pairing.elements.namedItem("line")) choice("line").value = line?.name ?? "";
  $("pair").scrollIntoView({ block: "start" });
  pairing.requestSubmit();
}

pairing.addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = new FormData(pairing);
  const place = $("paired");
  const [before, after] = ["before", "after"].map((name) => choice(name).selectedOptions[0]?.textContent ?? "");
  const button = /** @type {HTMLButtonElement} */ (pairing.querySelector("button"));
  button.disabled = true;
  place.replaceChildren(el("p", { class: "quiet loading" }, t("models.pair_wait")));
  try {
    const query = new URLSearchParams({ limit: String(given.get("limit")), ...(given.get("line") ? { line: String(given.get("line")) } : {}) });
    /** @type {{learned: Record<string, any>, all: {id: number, name: string, before: Verdict, after: Verdict, scores: number[]}[]}} */
    const { learned, all } = await get(`/models/${given.get("before")}/compare/${given.get("after")}?${query}`);
    const pairs = all.map((one) => ({ id: one.id, text: one.name, before: one.before, after: one.after, about: one.scores.map((score) => number(score)).join(" → ") }));
    const change = (/** @type {string} */ text, /** @type {[number | null, number | null]} */ [was, is]) => (was === is ? "" : `${text} ${number(was)} → ${number(is)}`);
    const added = learned.images.added.length, removed = learned.images.removed.length;
    const facts = [
      change(t("common.threshold"), learned.threshold), change(t("models.pair_rows"), learned.rows),
      added ? t("models.pair_added", { count: added }) : "", removed ? t("models.pair_removed", { count: removed }) : "",
      Object.keys(learned.recipe).length ? `${t("teach.recipe")}: ${Object.keys(learned.recipe).join(", ")}` : "",
    ].filter(Boolean);
    place.replaceChildren(
      ...(all.length ? verdicts(pairs, before, after) : [el("p", { class: "banner few" }, t("models.pair_none"))]),
      el("p", { class: "quiet" }, facts.length ? facts.join(" · ") : t("models.pair_same")));
  } catch (error) {
    place.replaceChildren(el("p", { class: "banner bad" }, error instanceof Error ? error.message : String(error)));
  } finally {
    button.disabled = false;
  }
});

const dialog = $("import", HTMLDialogElement);
const form = $("import-form", HTMLFormElement);
$("import-open").addEventListener("click", () => dialog.showModal());
$("import-close").addEventListener("click", () => dialog.close());
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await upload("/models", new FormData(form));
    form.reset();
    dialog.close();
    await refresh();
  } catch (error) {
    failed(error);
  }
});

for (const kind of ["hello", "model", "line"]) events.on(kind, refresh);
