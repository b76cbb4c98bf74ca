// Inspect: the verdict of the part that is there now. It runs for weeks, and never shows an old one as the present.
import "./shell.js";
import { failed, get, now, Refused, upload } from "./api.js";
import { onFiles } from "./drop.js";
import * as events from "./events.js";
import { clearEvidence, showEvidence } from "./evidence.js";
import { load } from "./loading.js";
import { $, called, chip, el, moment, note, number, percent, span, t } from "./page.js";
import { alt, Viewer } from "./viewer.js";

/** @typedef {import("./page.js").Result} Result @typedef {import("./page.js").Line} Line */

const THUMBS = 24; // parts in the row
const PRESENT = 60_000; // milliseconds after which a verdict is that of the last part, not of this one
const VERDICTS = /** @type {const} */ (["pass", "unsure", "fail"]);

const panel = $("panel");
const viewer = new Viewer();
const choice = $("line", HTMLSelectElement);
/** @type {Result | null} */
let last = null;
let link = /** @type {events.State} */ ("wait");
let since = new Date();
let counts = { pass: 0, unsure: 0, fail: 0 };
let model = "";

/** The panel says what is true now. */
function say() {
  const old = last !== null && now() - Date.parse(last.time) > PRESENT;
  const state = link === "live" ? (last === null ? "none" : old ? "old" : "live") : link;
  const verdict = last && (state === "live" || state === "old") ? last.verdict : "none";
  panel.dataset.state = state;
  panel.dataset.verdict = verdict;
  panel.querySelector(".verdict-main use")?.setAttribute("href", `#sign-${state === "stale" ? "stale" : verdict}`);
  const words = { stale: "inspect.stale", wait: "inspect.wait", none: "inspect.none" };
  write("word", state === "live" || state === "old" ? t(`verdict.${verdict}`) : t(words[state]));
  $("facts").hidden = verdict === "none";
  const name = last ? called(last) : "";
  if (state === "stale") write("told", t("inspect.stale_since", { time: moment(since, false) }));
  else if (state === "none") write("told", model ? t("inspect.none_about") : t("inspect.no_model"));
  else if (state === "wait") write("told", "");
  else if (state === "live" || !last) write("told", last?.reason ? `${name}: ${last.reason}` : name);
  else write("told", `${name} · ${t("inspect.ago", { time: span((now() - Date.parse(last.time)) / 1000) })}`);
}

/** Only what has changed, since changes are read out. @param {string} id @param {string} text */
function write(id, text) {
  const place = $(id);
  if (place.textContent !== text) place.textContent = text;
}

/** @param {Result} result */
function show(result) {
  last = result;
  panel.classList.remove("fresh");
  say();
  requestAnimationFrame(() => panel.classList.add("fresh"));
  write("fact-score", number(result.score));
  write("fact-threshold", number(result.threshold));
  write("fact-latency", `${number(1000 * (result.seconds + result.waited), 3)} ms`);
  write("fact-time", moment(result.time, false));
  const link = $("open-result", HTMLAnchorElement);
  link.href = `/results/${result.id}`;
  link.hidden = false;
  if (result.kept) viewer.show(result.id, alt(called(result), result.verdict));
  else viewer.clear();
  prove(result);
}

let soon = 0;

/** Evidence of a part that stays for a moment: it costs more than the verdict. @param {Result} result */
function prove(result) {
  clearTimeout(soon);
  clearEvidence();
  $("evidence-none").hidden = result.verdict !== "pass";
  if (result.verdict !== "pass" && result.kept) soon = window.setTimeout(() => showEvidence(result.id, 2), 600);
}

/** @param {Result} result */
function thumb(result) {
  const image = el("img", { alt: "", width: 104, height: 96 });
  if (result.kept) load(image, `/api/v1/results/${result.id}/image.png?side=160`);
  return el("li", {}, el("a", { href: `/results/${result.id}`, class: `thumb ${result.verdict}` }, image, chip(result.verdict), el("span", { class: "quiet" }, moment(result.time, false))));
}

/** The newest first, whose images are loaded first too. @param {Result[]} results */
function fill(results) {
  $("thumbs").replaceChildren(...results.slice(0, THUMBS).reverse().map(thumb).reverse());
}

function count() {
  const all = counts.pass + counts.unsure + counts.fail;
  for (const one of VERDICTS) write(`count-${one}`, number(counts[one], 9));
  write("count-yield", all ? percent(counts.pass / all, 3) : "–");
}

async function askLine() {
  /** @type {Line[]} */
  const lines = await get("/lines");
  const line = lines.find((one) => one.name === choice.value);
  if (!line) return;
  counts = line.counts;
  model = line.model ? `${line.model.name} ${line.model.version}` : "";
  write("model-name", model ? `${t("common.model")}: ${model}` : "");
  count();
}

/** Ask for the present state: after each connection, and for another line. */
async function refresh() {
  try {
    const [results] = await Promise.all([get(`/results?limit=${THUMBS}&line=${encodeURIComponent(choice.value)}`), askLine()]);
    if (results.length && results[0].id !== last?.id) show(results[0]);
    if (!results.length) {
      last = null;
      viewer.clear();
    }
    fill(results);
    say();
  } catch (error) {
    failed(error);
  }
}

events.on("hello", refresh);
events.on("result", (/** @type {Result} */ result) => {
  if (result.line !== choice.value) return;
  counts[result.verdict] += 1;
  count();
  show(result);
  const thumbs = $("thumbs");
  thumbs.prepend(thumb(result));
  while (thumbs.childElementCount > THUMBS) thumbs.lastElementChild?.remove();
});
for (const kind of ["model", "line"]) events.on(kind, () => askLine().then(say, () => {}));
events.onState((state, when) => {
  link = state;
  since = when;
  say();
});
choice.addEventListener("change", () => {
  last = null;
  refresh();
});
setInterval(say, 1000);
setInterval(() => link === "live" && askLine().catch(() => {}), 60_000);

/** @param {File[]} files */
async function sendAll(files) {
  for (const [done, file] of files.entries()) {
    write("sending", t("inspect.sending", { done, count: files.length }));
    await sendOne(file);
  }
  write("sending", t("inspect.sent", { count: files.length }));
}

/** @param {File} file */
async function sendOne(file) {
  const key = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`; // sent again, it is inspected once
  for (let tries = 0; tries < 20; tries += 1) {
    const form = new FormData();
    form.append("image", file, file.name || "image.png");
    form.append("line", choice.value);
    try {
      return await upload("/inspect", form, { "Idempotency-Key": key });
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 429) {
        const said = error instanceof Error ? error.message : String(error);
        return note(said.startsWith(file.name) ? said : `${file.name}: ${said}`, { bad: true });
      }
      write("sending", t("fail.limit", { seconds: error.wait || 1 }));
      await new Promise((resolve) => setTimeout(resolve, 1000 * (error.wait || 1)));
    }
  }
}

onFiles("drop", sendAll);
$("full").addEventListener("click", () => document.documentElement.requestFullscreen?.().catch(failed));
document.addEventListener("fullscreenchange", () => document.body.classList.toggle("full-screen", document.fullscreenElement !== null));
