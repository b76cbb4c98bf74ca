// Verdict: the threshold, and what it promises.
import "./shell.js";
import { draw, failed, get, send } from "./api.js";
import * as events from "./events.js";
import { $, el, note, number, percent, percentAbove, t } from "./page.js";
import { Region } from "./region.js";

/**
 * @typedef {{name: string, score: number, threshold_without: number | null}} Deciding
 * @typedef {import("./page.js").Model & {deciding: Deciding[]}} Model
 */

const RATES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2];

/** Everything on the page but what there is without a model. @param {HTMLSelectElement} choice */
function begin(choice) {
  const form = $("promise", HTMLFormElement);
  const rate = $("rate", HTMLInputElement);
  const region = new Region();
  /** @type {Model | null} */
  let model = null;
  let asking = 0;

  const asked = () => {
    const given = new FormData(form);
    const number = (/** @type {string} */ name) => (given.get(name) ? Number(given.get(name)) : null);
    return { false_reject_rate: RATES[Number(rate.value)], confidence: number("confidence"), unsure: number("unsure") };
  };

  /** @param {Deciding} one */
  function deciding(one) {
    const without = one.threshold_without === null ? "" : t("verdict.without", { threshold: number(one.threshold_without) });
    return el("li", {}, el("b", {}, one.name), el("span", {}, number(one.score)), el("span", { class: "quiet" }, without));
  }

  /** What the model has now, also where the page would not offer it. @param {string} name @param {number | null | undefined} value */
  function select(name, value) {
    const field = /** @type {HTMLSelectElement} */ (form.elements.namedItem(name));
    const known = [...field.options].find((one) => (one.value ? Number(one.value) : null) === (value ?? null));
    if (!known && value) field.append(el("option", { value: String(value) }, percent(value, 3)));
    field.value = known ? known.value : String(value);
  }

  async function choose() {
    try {
      model = await get(`/models/${choice.value}`);
      if (!model) return;
      const nearest = RATES.map((one) => Math.abs(Math.log(one / (model?.false_reject_rate ?? 0.01))));
      rate.value = String(nearest.indexOf(Math.min(...nearest)));
      $("deciding-title").hidden = !model.deciding.length;
      $("deciding").replaceChildren(...model.deciding.map(deciding));
      select("confidence", model.confidence);
      select("unsure", model.unsure);
      await Promise.all([draw(`/models/${model.id}/histogram`, $("histogram")), region.open(model.name)]);
      await state();
    } catch (error) {
      failed(error);
    }
  }

  /** What the rate would mean, said while the slider moves. */
  async function state() {
    const rates = asked();
    const told = percent(rates.false_reject_rate);
    $("rate-value").textContent = told;
    rate.setAttribute("aria-valuetext", told);
    const mine = (asking += 1);
    const promise = await send("POST", `/models/${choice.value}/promise`, rates);
    if (mine !== asking) return; // it has moved on
    const values = { rate: told, threshold: number(promise.threshold), parts: promise.parts, rejected: promise.good_rejected,
      lowest: percentAbove(promise.lowest_rate), missing: promise.missing, lower: number(promise.lower_threshold) };
    const first = promise.enough ? t(rates.confidence ? "verdict.states" : "verdict.states_average", values) : t("verdict.states_few", values);
    const lines = [
      rates.confidence && promise.enough ? t("verdict.states_sure", { confidence: percent(rates.confidence) }) : "",
      t("verdict.states_basis", values),
      promise.lower_threshold !== null && promise.lower_threshold < promise.threshold ? t("verdict.states_unsure", values) : "",
    ];
    const place = $("statement");
    place.classList.toggle("few", !promise.enough);
    for (const button of form.querySelectorAll("button")) button.disabled = !promise.enough; // a promise that is not kept
    place.replaceChildren(el("b", {}, first), ...lines.filter(Boolean).map((line) => el("p", {}, line)));
    move(promise.threshold, promise.lower_threshold);
  }

  /** The line in the histogram. @param {number | null} threshold @param {number | null} lower */
  function move(threshold, lower) {
    const chart = document.querySelector("#histogram svg");
    const line = chart?.querySelector(".new-threshold");
    if (!(chart instanceof SVGElement) || !line || threshold === null) return;
    const [low, high, left, right] = ["low", "high", "left", "right"].map((name) => Number(chart.dataset[name]));
    const at = (/** @type {number} */ score) => Math.min(right, Math.max(left, left + ((score - low) / (high - low)) * (right - left)));
    const x = at(threshold);
    for (const name of ["x1", "x2"]) line.querySelector("line")?.setAttribute(name, String(x));
    const text = line.querySelector("text");
    text?.setAttribute("x", String(x < (left + right) / 2 ? x + 4 : x - 4));
    text?.setAttribute("text-anchor", x < (left + right) / 2 ? "start" : "end");
    const band = chart.querySelector(".band");
    const from = lower === null || lower >= threshold ? x : at(lower);
    band?.setAttribute("x", String(from));
    band?.setAttribute("width", String(x - from));
  }

  choice.addEventListener("change", choose);
  form.addEventListener("input", (event) => {
    if (/** @type {HTMLInputElement} */ (event.target).name !== "why") state().catch(failed);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      /** @type {import("./page.js").Version} */
      const after = await send("POST", `/models/${choice.value}/rate`, { ...asked(), why: new FormData(form).get("why") });
      const name = `${after.name} ${after.version}`;
      choice.prepend(el("option", { value: String(after.id) }, name));
      choice.value = String(after.id);
      note(t("verdict.applied", { model: name }));
      await choose();
    } catch (error) {
      failed(error);
    }
  });

  (async () => {
    const wanted = new URLSearchParams(location.search).get("model");
    /** @type {import("./page.js").Line[]} */
    const lines = await get("/lines").catch(() => []);
    const used = wanted ?? lines.find((one) => one.model)?.model?.id;
    if (used && [...choice.options].some((one) => one.value === String(used))) choice.value = String(used);
    await choose();
  })();
  events.on("review", () => model && draw(`/models/${model.id}/histogram`, $("histogram")).then(state).catch(() => {}));
}

if (document.getElementById("promise")) begin($("model", HTMLSelectElement));
