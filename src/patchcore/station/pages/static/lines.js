// Lines: what brings images to each, and what machines are told.
import "./shell.js";
import { failed, get, send } from "./api.js";
import * as events from "./events.js";
import { $, el, note, t } from "./page.js";

/**
 * @typedef {import("./page.js").Line} Line
 * @typedef {{state: string, why?: string | null, failed?: number, bad?: {name: string, error: string}[]}} State
 * @typedef {{kind: string, path?: string, address?: string | number, every?: number | null, afterwards?: string}} Source
 */

/** @type {Record<string, string>} */
const PLACES = { folder: "lines.place.folder", camera: "lines.place.camera", video: "lines.place.video" };
/** @type {Record<string, number>} */
const TYPICAL = { folder: 5, camera: 1, video: 0 }; // seconds

/** @template {Element} T @param {Element} root @param {string} where @param {new () => T} kind @returns {T} */
function find(root, where, kind) {
  const found = root.querySelector(where);
  if (!(found instanceof kind)) throw new Error(`There is no ${where}.`);
  return found;
}

async function refresh() {
  try {
    /** @type {Line[]} */
    const lines = await get("/lines");
    const cards = await Promise.all(lines.map(card));
    $("lines").replaceChildren(...cards);
    await Promise.all([states(), outputs()]);
  } catch (error) {
    failed(error);
  }
}

/** @param {Line} line */
async function card(line) {
  const made = /** @type {HTMLElement} */ ($("line", HTMLTemplateElement).content.firstElementChild?.cloneNode(true));
  const path = `/lines/${encodeURIComponent(line.name)}`;
  /** @type {{source: Source, running: boolean}} */
  const { source, running } = await get(`${path}/source`);
  made.dataset.line = line.name;
  find(made, "h2", HTMLElement).textContent = line.name;
  const form = find(made, "form", HTMLFormElement);
  const field = (/** @type {string} */ name) => /** @type {HTMLInputElement | HTMLSelectElement} */ (form.elements.namedItem(name));
  field("kind").value = source.kind ?? "none";
  field("place").value = String(source.path ?? source.address ?? "");
  field("every").value = String(source.every ?? "");
  field("afterwards").value = source.afterwards ?? "leave";
  const fit = () => {
    const kind = field("kind").value;
    find(form, ".place", HTMLElement).hidden = find(form, ".every", HTMLElement).hidden = kind === "none";
    find(form, ".afterwards", HTMLElement).hidden = kind !== "folder";
    find(form, ".place span", HTMLElement).textContent = kind in PLACES ? t(PLACES[kind]) : "";
    field("every").setAttribute("placeholder", String(TYPICAL[kind] ?? ""));
  };
  form.addEventListener("change", fit);
  fit();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const kind = field("kind").value;
    const place = field("place").value.trim();
    const former = kind === source.kind ? source : {}; // what this form does not show stays
    const where = kind === "camera" ? { address: /^\d+$/.test(place) ? Number(place) : place } : { path: place };
    const every = field("every").value ? { every: Number(field("every").value) } : {};
    const wanted = kind === "none" ? { kind } : { ...former, kind, ...where, ...every, ...(kind === "folder" ? { afterwards: field("afterwards").value } : {}) };
    send("PUT", `${path}/source`, wanted).then(refresh, failed);
  });
  const power = find(made, ".switch", HTMLButtonElement);
  power.hidden = !source.kind;
  power.textContent = t(running ? "lines.off" : "lines.on");
  power.addEventListener("click", () => send("POST", `${path}/switch`, { running: !running }).then(refresh, failed));
  const shoot = find(made, ".shoot", HTMLButtonElement);
  shoot.hidden = source.kind !== "camera" || !running;
  shoot.addEventListener("click", () => send("POST", `${path}/shoot`, {}).then((told) => note(t(`verdict.${told.verdict}`)), failed));
  return made;
}

/** How the sources are, as it changes. */
async function states() {
  /** @type {Record<string, State>} */
  const known = await get("/sources").catch(() => ({}));
  for (const one of document.querySelectorAll(".line-card")) {
    const state = known[/** @type {HTMLElement} */ (one).dataset.line ?? ""] ?? { state: "off" };
    find(one, ".state", HTMLElement).textContent = t(`lines.state.${state.state}`);
    const bad = state.bad?.slice(-5).map((file) => `${file.name}: ${file.error}`) ?? [];
    const lines = [state.why ?? "", ...(bad.length ? [t("lines.bad", { count: state.failed ?? bad.length }), ...bad] : [])];
    find(one, ".why-not", HTMLElement).replaceChildren(...lines.filter(Boolean).map((line) => el("span", { class: "line" }, line)));
  }
}

async function outputs() {
  /** @type {(Record<string, any> & {name: string, kind: string, now: State | null})[]} */
  const found = await get("/outputs");
  $("outputs").replaceChildren(...found.map((one) => el("li", { class: one.now?.state === "running" ? "seen" : "" },
    el("b", {}, `${one.name} (${one.kind})`), el("span", {}, one.now ? `${t(`lines.state.${one.now.state}`)} ${one.now.why ?? ""}` : ""))));
  const field = document.querySelector("#set-outputs textarea");
  if (field instanceof HTMLTextAreaElement && document.activeElement !== field) {
    field.value = JSON.stringify(found.map(({ now: _, ...one }) => one), null, 2);
  }
}

$("add", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  const form = $("add", HTMLFormElement);
  send("POST", "/lines", { name: String(new FormData(form).get("name")).trim() }).then(() => (form.reset(), refresh()), failed);
});

const form = document.getElementById("set-outputs");
form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await send("PUT", "/outputs", JSON.parse(String(new FormData(/** @type {HTMLFormElement} */ (form)).get("outputs"))));
    note(t("common.saved"));
    await outputs();
  } catch (error) {
    failed(error);
  }
});

events.on("hello", refresh);
events.on("source", states);
setInterval(states, 10_000); // files that could not be read are no other state
