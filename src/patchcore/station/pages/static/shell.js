// Shell: what is around every page.
import { get, send } from "./api.js";
import * as events from "./events.js";
import { $, data, localizeTimes, moment, said, t } from "./page.js";

/** @param {string} name @param {string} value */
function remember(name, value) {
  document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=strict`;
}

$("theme", HTMLSelectElement).addEventListener("change", (event) => {
  const theme = /** @type {HTMLSelectElement} */ (event.target).value;
  document.documentElement.dataset.theme = theme;
  remember("theme", theme);
});

$("language", HTMLSelectElement).addEventListener("change", async (event) => {
  const language = /** @type {HTMLSelectElement} */ (event.target).value;
  remember("language", language);
  await send("PUT", "/me/language", { language }).catch(() => {});
  location.reload();
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.me[open]")) {
    if (event.target instanceof Node && !menu.contains(event.target)) menu.removeAttribute("open");
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelector("details.me[open]")?.removeAttribute("open");
});

events.onState((state, since) => {
  const place = $("link-state");
  place.dataset.state = state;
  const text = place.querySelector("span");
  if (text) text.textContent = t(`link.${state}`, { time: moment(since, false) });
  document.body.classList.toggle("stale-page", state === "stale");
});

const count = $("open-count");
let counting = 0;

/** How many parts wait for a decision, asked for no more than once a second. */
function askCount() {
  if (counting) return;
  counting = window.setTimeout(async () => {
    counting = 0;
    const open = await get("/results?review=open&limit=100").catch(() => null);
    if (!open) return;
    count.hidden = open.length === 0;
    count.textContent = open.length < 100 ? String(open.length) : "99+";
  }, 1000);
}

async function askTrouble() {
  const state = await get("/state").catch(() => null);
  if (!state) return;
  const teaching = document.body.classList.contains("page-teach"); // where the want of a model is no news
  showTrouble(state.told.filter((/** @type {{about: string}} */ one) => !(teaching && one.about === "models")).map(said).join(" "));
}

/** @param {string} text */
function showTrouble(text) {
  const place = $("trouble");
  place.hidden = !text;
  if (place.textContent !== text) place.textContent = text;
}

if (data.role) {
  events.on("hello", () => (askCount(), askTrouble()));
  events.on("review", askCount);
  events.on("result", (one) => one.review === "open" && askCount());
  events.on("trouble", (told) => showTrouble(said(told)));
  for (const kind of ["model", "line", "source", "output"]) events.on(kind, askTrouble);
  setInterval(() => document.hidden || askTrouble(), 15000);
  // After the page's own script, which is run next, has said what it listens to.
  addEventListener("DOMContentLoaded", events.start);
}
localizeTimes();
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
