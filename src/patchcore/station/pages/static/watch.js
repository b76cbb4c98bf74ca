// Watch: whether the line is as it was.
import "./shell.js";
import { draw, failed, get, send } from "./api.js";
import * as events from "./events.js";
import { $, bytes, data, el, moment, note, number, said, t } from "./page.js";

/**
 * @typedef {{what: string, before: number, now: number, since: string, advice: string, cause?: string, time: string, line: string, by?: string}} Alarm
 * @typedef {{about: string, of: string, text: string, code: string, values: Record<string, any>}} Trouble
 */

const ALARMS = 30;
const line = $("line", HTMLSelectElement);
const hours = $("hours", HTMLSelectElement);
/** @type {number[]} */
let arrived = []; // when parts came, in the last minute
let drawing = false;
let again = false;

const asked = new URLSearchParams(location.search).get("line");
if (asked && [...line.options].some((one) => one.value === asked)) line.value = asked;

/** The chart; what comes while it is drawn is drawn once, afterwards. */
async function chart() {
  again = true;
  if (drawing) return;
  drawing = true;
  while (again) {
    again = false;
    const offset = -new Date().getTimezoneOffset();
    await draw(`/yield?line=${encodeURIComponent(line.value)}&hours=${hours.value}&offset=${offset}&narrow=${innerWidth < 600}`, $("yield")).catch(failed);
    await new Promise((resolve) => setTimeout(resolve, 3000));
  }
  drawing = false;
}

async function state() {
  /** @type {{ok: boolean, told: Trouble[], waiting: number, queue: number, disk_free: number}} */
  const now = await get("/state").catch(() => null);
  if (!now) return;
  const health = $("health");
  health.dataset.ok = now.ok ? "1" : "0";
  /** @type {HTMLElement} */ (health.firstElementChild).textContent = t(now.ok ? "watch.ok" : "watch.bad");
  $("waiting").textContent = `${now.waiting} / ${now.queue}`;
  $("queue", HTMLProgressElement).value = now.waiting / now.queue;
  $("disk").textContent = bytes(now.disk_free);
  $("troubles").replaceChildren(...now.told.map((one) => el("li", { class: "lost" }, said(one), of(one))));
  arrived = arrived.filter((time) => time > performance.now() - 60_000);
  $("pace").textContent = String(arrived.length);
}

/** Where something can be done about a trouble. @param {Trouble} one */
function of(one) {
  const page = { sources: "lines", outputs: "lines", models: "teach" }[one.about];
  return page && data.role !== "operator" && el("a", { href: `/${page}` }, t(`nav.${page}`));
}

/** @param {Alarm} alarm */
function shown(alarm) {
  const advice = alarm.cause && `alarm.advice.${alarm.cause}` in data.texts ? `${t(`alarm.advice.${alarm.cause}`)} ${alarm.cause === "fails" ? "" : t("alarm.stay")}` : alarm.advice;
  const told = { what: `alarm.what.${alarm.what}` in data.texts ? t(`alarm.what.${alarm.what}`) : alarm.what, before: number(alarm.before, 3), now: number(alarm.now, 3), since: alarm.since };
  const about = [`${t("common.line")} ${alarm.line}`, moment(alarm.time), alarm.by && t("watch.seen", { who: alarm.by })].filter(Boolean).join(" · ");
  return el("li", { class: alarm.by ? "seen" : "" }, el("b", {}, t("watch.alarm", told)), el("span", {}, advice), el("span", { class: "quiet" }, about));
}

async function alarms() {
  /** @type {Alarm[]} */
  const found = await get("/alarms").catch(() => []);
  $("alarms").replaceChildren(...found.slice(0, ALARMS).map(shown));
  $("no-alarms").hidden = found.some((one) => !one.by);
  $("restart").hidden = data.role === "operator" || !found.some((one) => !one.by && one.line === line.value);
}

$("restart").addEventListener("click", () => send("POST", `/lines/${encodeURIComponent(line.value)}/watch/restart`).then(alarms, failed));

/** How long images are kept; for those who may say so. @param {HTMLFormElement} form */
async function keeping(form) {
  const rules = await get("/retention").catch(() => ({}));
  const inputs = [...form.querySelectorAll("input")];
  for (const one of inputs) one.value = rules[one.name] ?? "";
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const wanted = Object.fromEntries(inputs.map((one) => [one.name, one.value ? Number(one.value) : null]));
    await send("PUT", "/retention", wanted).then(() => note(t("common.saved")), failed);
  });
}
const form = document.getElementById("keep");
if (form instanceof HTMLFormElement) keeping(form);

events.on("hello", () => (chart(), state(), alarms()));
events.on("result", (one) => {
  arrived.push(performance.now());
  if (arrived.length > 5000) arrived.splice(0, 1000);
  if (one.line === line.value) chart();
});
events.on("alarm", alarms);
for (const kind of ["trouble", "model", "line", "source", "output"]) events.on(kind, state);
for (const choice of [line, hours]) choice.addEventListener("change", chart);
setInterval(() => document.hidden || state(), 3000);
setInterval(() => document.hidden || chart(), 60_000);
