// Models: versions, which one judges, and which one only tries.
import "./shell.js";
import { failed, get, send, upload } from "./api.js";
import * as events from "./events.js";
import { $, called, chip, el, moment, number, percentAbove, t } from "./page.js";

/** @typedef {import("./page.js").Model} Model @typedef {import("./page.js").Line} Line @typedef {import("./page.js").Result} Result */

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
  const count = (/** @type {string} */ mine, /** @type {string} */ other) => both.filter((one) => one.verdict === mine && one.shadow?.verdict === other).length;
  const differ = both.filter((one) => one.verdict !== one.shadow?.verdict);
  const head = el("tr", {}, el("th", {}, `${named(line.model)} ↓  ${named(shadow)} →`), ...VERDICTS.map((one) => el("th", {}, chip(one))));
  const rows = VERDICTS.map((mine) => el("tr", {}, el("th", {}, chip(mine)), ...VERDICTS.map((other) => el("td", { class: mine === other ? "same" : "" }, String(count(mine, other))))));
  place.replaceChildren(
    el("p", {}, el("b", {}, t("models.agree", { count: both.length - differ.length, all: both.length }))),
    el("div", { class: "scroll" }, el("table", { class: "matrix" }, el("thead", {}, head), el("tbody", {}, ...rows))),
    el("h3", { hidden: !differ.length }, t("models.differ")),
    el("ul", { class: "alarms" }, ...differ.slice(0, 20).map((one) => el("li", {}, el("a", { href: `/results/${one.id}` }, called(one)), el("span", { class: "row" }, chip(one.verdict), "→", one.shadow && chip(one.shadow.verdict))))));
}

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
