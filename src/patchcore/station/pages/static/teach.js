// Teach: good images in, a model out.
import "./shell.js";
import { failed, get, send, upload } from "./api.js";
import { onFiles } from "./drop.js";
import * as events from "./events.js";
import { $, bytes, data, el, number, percent, percentAbove, t } from "./page.js";

/**
 * @typedef {{id: number, who: string, kind: string, state: string, progress: number, step: string, message: string,
 *   found: any, wanted: Record<string, any>}} Job
 * @typedef {{images: string, count: number, bytes: number, sizes: Record<string, number>, refused: string[], folder: boolean}} Chosen
 */

const TOGETHER = 8; // images in one request
/** What the engine calls its steps, and the text for it. @type {Record<string, string>} */
const STEPS = { starting: "step.starting", "Looking at good images": "step.looking", "Reading good images": "step.reading", "Choosing patches": "step.choosing" };
const KEPT = "patchcore-set"; // what is chosen survives a reload

const form = $("train", HTMLFormElement);
/** @type {Chosen | null} */
let chosen = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
let sending = Promise.resolve();

/** @param {Chosen | null} now */
function keep(now) {
  chosen = now;
  if (now) sessionStorage.setItem(KEPT, JSON.stringify({ ...now, refused: now.refused.slice(-50) }));
  else sessionStorage.removeItem(KEPT);
  show();
}

function show() {
  $("set").hidden = chosen === null;
  $("go", HTMLButtonElement).disabled = chosen === null || chosen.count < 1;
  if (chosen === null) return advise();
  const sizes = Object.entries(chosen.sizes).sort((a, b) => b[1] - a[1]);
  $("set-count").textContent = number(chosen.count, 9);
  $("set-bytes").textContent = bytes(chosen.bytes);
  $("set-size").textContent = sizes.length > 1 ? t("teach.sizes", { count: sizes.length }) : (sizes[0]?.[0] ?? "–");
  $("set-refused").textContent = String(chosen.refused.length);
  $("refused").replaceChildren(...chosen.refused.slice(-20).map((one) => el("li", {}, one)));
  $("set-advice").textContent = chosen.folder ? t("teach.folder_used", { path: chosen.images }) : "";
  advise();
}

/** How many good parts the wanted rate needs: one of n more is rejected by chance in 1 of n + 1. */
function advise() {
  const place = $("needs");
  const rate = Number(new FormData(form).get("rate"));
  place.textContent = "";
  if (chosen === null || !chosen.count) return;
  const needed = Math.ceil(1 / rate - 1e-9) - 1;
  const missing = Math.max(0, needed - chosen.count);
  const told = { count: chosen.count, rate: percent(rate), needed, missing };
  place.className = `banner ${missing ? "few" : "ok"}`;
  place.textContent = t(missing ? "teach.few" : "teach.enough", told);
}

/** @param {File[]} files */
function add(files) {
  sending = sending.then(() => sendAll(files)).catch(failed);
}

/** @param {File[]} files */
async function sendAll(files) {
  const bar = $("upload", HTMLProgressElement);
  let now = chosen && !chosen.folder ? chosen : null;
  now ??= { images: (await send("POST", "/sets")).images, count: 0, bytes: 0, sizes: {}, refused: [], folder: false };
  bar.hidden = false;
  for (let done = 0; done < files.length; done += TOGETHER) {
    const some = files.slice(done, done + TOGETHER);
    const form = new FormData();
    for (const one of some) form.append("images", one, one.name);
    /** @type {{count: number, refused: {name: string, reason: string}[]}} */
    const told = await upload(`/sets/${now.images}`, form);
    const refused = told.refused.map((one) => `${one.name}: ${one.reason}`);
    const size = some.reduce((sum, one) => sum + one.size, 0);
    now = { ...now, count: told.count, bytes: now.bytes + size, refused: [...now.refused, ...refused], sizes: await sized(now.sizes, some) };
    keep(now);
    bar.value = Math.min(1, (done + some.length) / files.length);
  }
  bar.hidden = true;
}

/** @param {Record<string, number>} known @param {File[]} files */
async function sized(known, files) {
  const found = { ...known };
  for (const file of files) {
    const image = await createImageBitmap(file).catch(() => null); // some formats only the station can read
    if (!image) continue;
    const size = `${image.width} × ${image.height}`;
    found[size] = (found[size] ?? 0) + 1;
    image.close();
  }
  return found;
}

onFiles("drop", add);
document.getElementById("from-folder")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const path = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get("path") ?? "").trim();
  if (!path) return;
  send("POST", "/folders", { images: path }).then((/** @type {{count: number, bytes: number}} */ found) => keep({ images: path, count: found.count, bytes: found.bytes, sizes: {}, refused: [], folder: true }), failed);
});
$("forget").addEventListener("click", () => {
  keep(null);
});
form.addEventListener("change", advise);

$("check").addEventListener("click", async () => {
  if (!chosen) return;
  try {
    await send("POST", "/checks", { images: chosen.images });
    await refresh();
  } catch (error) {
    failed(error);
  }
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!chosen) return;
  const given = new FormData(form);
  try {
    const body = {
      name: String(given.get("name")).trim(), images: chosen.images, recipe: given.get("recipe"),
      false_reject_rate: Number(given.get("rate")), line: given.get("line") || null, why: given.get("why"),
    };
    await send("POST", "/trainings", body);
    await refresh();
    $("job").scrollIntoView({ block: "nearest" });
  } catch (error) {
    failed(error);
  }
});

const name = /** @type {HTMLInputElement} */ (form.elements.namedItem("name"));
name.addEventListener("change", async () => {
  const region = name.value.trim() ? await get(`/regions/${encodeURIComponent(name.value.trim())}`).catch(() => null) : null;
  $("region-used").textContent = region?.include.length || region?.exclude.length ? t("teach.region_used") : "";
});

/** @param {Job} job */
const titled = (job) => (job.kind === "audit" ? t("job.audit") : t("job.train", { name: job.wanted.name }));

/** Why there is nothing of it. @param {Job} job */
const ended = (job) => (`job.message.${job.state}` in data.texts ? t(`job.message.${job.state}`) : job.message || t(`job.${job.state}`));

/** The job that the page shows: the last one, whichever page began it. @param {Job} job */
function showJob(job) {
  const running = job.state === "running" || job.state === "waiting";
  $("job").hidden = false;
  $("no-job").hidden = true;
  $("job").dataset.id = String(job.id);
  $("job-title").textContent = titled(job);
  $("job-state").textContent = t(`job.${job.state}`);
  const bar = $("bar", HTMLProgressElement);
  bar.hidden = !running;
  bar.value = job.progress;
  $("job-step").textContent = running && job.step ? `${job.step in STEPS ? t(STEPS[job.step]) : job.step} · ${percent(job.progress)}` : "";
  $("stop").hidden = !running;
  $("found").replaceChildren();
  if (running) return;
  if (job.state !== "done") $("found").replaceChildren(el("p", { class: "banner bad" }, ended(job)));
  else if (job.kind === "train") showFound(job).catch(failed);
  else showChecked(job);
}

/** @param {Job} job */
async function showFound(job) {
  const { found, wanted } = job;
  $("found").replaceChildren(el("p", { class: "quiet loading" }, t("viewer.loading")));
  const made = await get(`/models/${found.model_id}`); // what was not asked for stays as it was
  const rates = { false_reject_rate: wanted.false_reject_rate ?? made.false_reject_rate, confidence: wanted.confidence ?? made.confidence };
  const promise = await send("POST", `/models/${found.model_id}/promise`, rates);
  const figures = [[found.images, t("teach.count")], [number(found.threshold), t("common.threshold")], [percentAbove(Math.max(promise.lowest_rate, 0)), t("teach.lowest")]];
  const rate = percent(rates.false_reject_rate);
  $("found").replaceChildren(
    el("p", { class: "banner ok" }, t("teach.found", { name: wanted.name, version: found.version })),
    el("div", { class: "figures" }, ...figures.map(([value, text]) => el("div", {}, el("b", {}, String(value)), el("span", {}, text)))),
    promise.missing > 0
      ? el("p", { class: "banner few" }, t("teach.missing", { rate, missing: promise.missing }))
      : el("p", { class: "banner ok" }, t("teach.enough", { count: promise.parts, rate })),
    el("p", { class: "quiet" }, [t("teach.bank", { count: found.bank_rows }), found.skipped?.length ? t("teach.skipped", { count: found.skipped.length }) : ""].filter(Boolean).join(" · ")),
    el("p", { class: "row" }, el("a", { class: "button primary", href: "/inspect" }, t("teach.go_inspect")), el("a", { class: "button", href: `/verdict?model=${found.model_id}` }, t("teach.go_verdict"))),
  );
}

/** @param {Job} job */
function showChecked(job) {
  /** @type {{path: string, unlike: number | null, remarks: string[]}[]} */
  const images = job.found.images ?? [];
  const bad = images.filter((one) => one.remarks.length);
  const head = bad.length ? t("teach.checked_rest", { count: images.length, bad: bad.length }) : t("teach.checked_clean", { count: images.length });
  const rows = (bad.length ? bad : images.slice(0, 3)).slice(0, 50).map((one) => el("li", {}, el("b", {}, one.path), el("span", {}, one.unlike === null ? "" : `× ${number(one.unlike, 3)}`), one.remarks.length > 0 && el("small", {}, one.remarks.join(" · "))));
  $("found").replaceChildren(el("p", { class: `banner ${bad.length ? "few" : "ok"}` }, head), el("ol", { class: "suspects" }, ...rows));
}

$("stop").addEventListener("click", async () => {
  try {
    showJob(await send("POST", `/jobs/${$("job").dataset.id}/stop`));
  } catch (error) {
    failed(error);
  }
});

/** @type {Map<number, Job>} */
const waiting = new Map();

/** Those that wait for the one that is shown, in their order. */
function showQueue() {
  const shown = Number($("job").dataset.id ?? 0);
  const rows = [...waiting.values()].filter((one) => one.id !== shown).sort((a, b) => a.id - b.id);
  $("queue-box").hidden = !rows.length;
  $("queue").replaceChildren(...rows.map((one) => el("li", { class: "row between" }, el("span", {}, `${titled(one)} · ${one.who}`),
    el("button", { type: "button", "aria-label": `${t("teach.stop")}: ${titled(one)}`, onclick: () => send("POST", `/jobs/${one.id}/stop`).then(refresh, failed) }, t("teach.stop")))));
}

/** Whatever runs first, else the newest. */
async function refresh() {
  /** @type {Job[]} */
  const jobs = await get("/jobs?limit=100").catch(() => []);
  waiting.clear();
  for (const one of jobs) if (one.state === "waiting") waiting.set(one.id, one);
  const job = jobs.find((one) => one.state === "running") ?? [...jobs].reverse().find((one) => one.state === "waiting") ?? jobs[0];
  if (job) showJob(job);
  showQueue();
}

events.on("hello", refresh);
events.on("job", (/** @type {Job} */ job) => {
  if (job.state === "waiting") waiting.set(job.id, job);
  else waiting.delete(job.id);
  const shown = Number($("job").dataset.id ?? 0);
  const busy = !$("stop").hidden;
  if (job.id === shown || job.state === "running" || (!busy && job.id > shown)) showJob(job);
  showQueue();
});
show();
