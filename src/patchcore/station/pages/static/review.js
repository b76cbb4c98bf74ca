// Review: a queue of parts that people decide, by keys if they like. Two people never decide the same one.
import "./shell.js";
import { failed, get, Refused, send } from "./api.js";
import * as events from "./events.js";
import { clearEvidence, showEvidence } from "./evidence.js";
import { load } from "./loading.js";
import { $, called, chip, data, el, moment, note, number, t } from "./page.js";
import { alt, Viewer } from "./viewer.js";

/** @typedef {import("./page.js").Result} Result */

const MOST = 40; // parts in the list
const FAR = 1.2; // times the threshold: few good parts score so high
const DECIDED = 12; // rows of what was decided last

const viewer = new Viewer();
const why = $("why", HTMLInputElement);
/** @type {Result[]} */
let queue = [];
/** @type {Result | null} */
let here = null;
/** @type {Result | null} */
let undoable = null; // what this person has decided last
let busy = false;
let done = () => {}; // takes the note of the last decision away
let undoNext = false; // asked for while the last decision was on its way

async function refresh() {
  try {
    /** @type {Result[]} */
    const found = await get(`/results?review=open&limit=${MOST}`);
    queue = found;
    const wanted = here?.id ?? Number(location.hash.slice(1));
    let next = queue.find((one) => one.id === wanted);
    if (!next && wanted && !here) {
      const linked = await get(`/results/${wanted}`).catch(() => null); // further down than the list goes
      if (linked?.review === "open") queue.unshift((next = linked));
    }
    choose(next ?? (here && held() ? here : queue[0]) ?? null);
  } catch (error) {
    failed(error);
  }
  refreshDecided();
}

/** Whether the desk shows what somebody else has decided, for the person to see. */
const held = () => !$("taken").hidden;

async function refreshDecided() {
  const lists = await Promise.all(["confirmed", "good", "taught"].map((state) => get(`/results?review=${state}&limit=${DECIDED}`))).catch(() => null);
  if (!lists) return;
  /** @type {Result[]} */
  const all = lists.flat();
  all.sort((a, b) => (b.reviewed ?? "").localeCompare(a.reviewed ?? ""));
  $("decided").replaceChildren(...all.slice(0, DECIDED).map(row));
  undoable ??= all.find((one) => one.reviewed_by === data.name) ?? null;
  showUndo();
}

/** @param {Result} one */
function row(one) {
  const cells = [el("a", { href: `/results/${one.id}` }, called(one)), t(`review.state.${one.review}`), one.reviewed_by, one.reviewed && moment(one.reviewed), one.note];
  return el("tr", {}, ...cells.map((cell) => el("td", {}, cell)));
}

function showUndo() {
  $("undo", HTMLButtonElement).disabled = undoable === null;
  $("undo-about").textContent = undoable ? t("review.undo_about", { part: called(undoable), what: t(`review.state.${undoable.review}`) }) : t("review.undo_none");
}

function list() {
  const rows = queue.slice(0, MOST).reverse().map((one) => { // the first is the last whose image is asked for, and so the first that gets it
    const known = /** @type {HTMLElement | null} */ (document.getElementById(`open-${one.id}`));
    const item = known ?? entry(one);
    const button = /** @type {HTMLElement} */ (item.firstElementChild);
    if (one.id === here?.id) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    return item;
  });
  $("queue").replaceChildren(...rows.reverse());
  $("left").textContent = queue.length < MOST ? String(queue.length) : `${MOST}+`;
  $("queue-more").hidden = queue.length < MOST;
}

/** @param {Result} one */
function entry(one) {
  const image = el("img", { alt: "", width: 76, height: 76 });
  if (one.kept) load(image, `/api/v1/results/${one.id}/image.png?side=160`);
  const text = el("span", {}, el("b", {}, called(one)), chip(one.verdict), el("small", {}, ` ${moment(one.time, false)}`));
  return el("li", { id: `open-${one.id}` }, el("button", { type: "button", onclick: () => choose(one) }, image, text));
}

/** @param {Result | null} one */
function choose(one) {
  const changed = one?.id !== here?.id;
  here = one;
  list();
  $("desk").hidden = one === null;
  $("all-done").hidden = one !== null;
  if (one === null) return viewer.clear();
  if (!changed) return;
  $("taken").hidden = true;
  allow(true);
  why.value = "";
  $("desk-chip").replaceChildren(chip(one.verdict));
  $("desk-name").textContent = called(one);
  $("desk-about").textContent = [moment(one.time), `${t("common.score")} ${number(one.score)} / ${number(one.threshold)}`, one.model, one.reason].filter(Boolean).join(" · ");
  viewer.show(one.id, alt(called(one), one.verdict));
  prove();
  document.getElementById(`open-${one.id}`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** @param {boolean} may */
function allow(may) {
  for (const id of ["confirm", "teach", "good"]) $(id, HTMLButtonElement).disabled = !may;
}

function prove() {
  if ($("evidence-box", HTMLDetailsElement).open && here) showEvidence(here.id, 3);
  else clearEvidence();
}

/** @param {number} by */
function step(by) {
  const at = queue.findIndex((one) => one.id === here?.id);
  const next = queue[Math.min(queue.length - 1, Math.max(0, at + by))];
  if (next) choose(next);
}

/** Whether a part is to be taught whose score few good parts have: the person is asked once. @param {Result} one */
async function sure(one) {
  const times = one.threshold ? one.score / one.threshold : 1;
  if (times <= FAR) return true;
  const dialog = $("sure", HTMLDialogElement);
  $("sure-about").textContent = t("review.sure_about", { part: called(one), times: number(times, 3) });
  dialog.returnValue = "";
  dialog.showModal();
  $("sure-go").focus();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "go";
}

/** @param {"confirmed" | "good" | "taught"} what */
async function decide(what) {
  const one = here;
  if (!one || busy || held()) return;
  busy = true;
  if (what === "taught" && !(await sure(one))) {
    busy = false;
    return;
  }
  allow(false);
  $("desk").setAttribute("aria-busy", "true");
  const learning = what === "taught" ? note(`${called(one)}: ${t("review.teaching")}`) : () => {};
  try {
    const [path, body] = what === "taught" ? ["teach", { why: why.value }] : ["review", { says: what, why: why.value }];
    const told = await send("POST", `/results/${one.id}/${path}`, body);
    undoable = what === "taught" ? told.result : told;
    showUndo();
    leave(one.id);
    done();
    done = note(`${called(one)}: ${t(`review.state.${what}`)}`, { undo });
    refreshDecided();
  } catch (error) {
    if (error instanceof Refused && error.status === 409) await taken(one);
    else failed(error);
  } finally {
    busy = false;
    learning();
    $("desk").removeAttribute("aria-busy");
    if (!held()) allow(true);
    if (undoNext) {
      undoNext = false;
      undo();
    }
  }
}

/** Somebody else was first: say who, and what they said. @param {Result} one */
async function taken(one) {
  /** @type {Result} */
  const after = await get(`/results/${one.id}`);
  if (after.review === "open") return note(t("fail.other", { reason: t("review.again") }), { bad: true });
  showTaken(after);
}

/** @param {Result} after */
function showTaken(after) {
  const place = $("taken");
  place.textContent = t("review.taken", { who: after.reviewed_by ?? "", what: t(`review.state.${after.review}`) });
  place.hidden = false;
  allow(false);
  queue = queue.filter((one) => one.id !== after.id);
  list();
}

/** The part is decided: on to the next. @param {number} id */
function leave(id) {
  const at = queue.findIndex((one) => one.id === id);
  queue = queue.filter((one) => one.id !== id);
  choose(here?.id === id ? (queue[at] ?? queue[at - 1] ?? null) : here);
  if (queue.length < 5) refresh();
}

async function undo() {
  if (busy) {
    undoNext = true;
    return;
  }
  const one = undoable;
  if (!one) return;
  busy = true;
  done(); // its button would undo another one
  try {
    const taught = one.review === "taught";
    const body = taught ? { why: why.value, was: "taught" } : { says: "open", was: one.review, why: why.value };
    const told = await send("POST", `/results/${one.id}/${taught ? "unteach" : "review"}`, body);
    undoable = null;
    const back = taught ? told.result : told;
    queue = [back, ...queue.filter((other) => other.id !== back.id)].sort((a, b) => b.id - a.id);
    choose(back);
    note(t("review.undone", { part: called(back) }));
  } catch (error) {
    if (error instanceof Refused && error.status === 409) undoable = null;
    failed(error);
  } finally {
    busy = false;
    refreshDecided();
  }
}

events.on("hello", refresh);
events.on("result", (/** @type {Result} */ one) => {
  if (one.review !== "open" || queue.some((other) => other.id === one.id)) return;
  queue = [one, ...queue].slice(0, MOST);
  if (here === null) choose(one);
  else list();
});
events.on("review", (/** @type {Result} */ one) => {
  if (one.review === "open") {
    if (!queue.some((other) => other.id === one.id)) queue = [one, ...queue].sort((a, b) => b.id - a.id).slice(0, MOST);
    if (here === null) choose(one);
    else list();
  } else if (one.id === here?.id && !busy) showTaken(one);
  else if (one.id !== here?.id) {
    queue = queue.filter((other) => other.id !== one.id);
    list();
  }
  if (!busy) refreshDecided();
});

$("confirm").addEventListener("click", () => decide("confirmed"));
$("teach").addEventListener("click", () => decide("taught"));
$("good").addEventListener("click", () => decide("good"));
$("undo").addEventListener("click", undo);
$("evidence-box").addEventListener("toggle", prove);

document.addEventListener("keydown", (event) => {
  const place = event.target;
  const writing = place instanceof HTMLInputElement && place.type !== "range" && place.type !== "radio";
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || $("sure", HTMLDialogElement).open) return;
  if (writing || place instanceof HTMLSelectElement) {
    if (event.key === "Escape" && place instanceof HTMLElement) place.blur();
    return;
  }
  const range = place instanceof HTMLInputElement; // its arrows are its own
  /** @type {Record<string, () => void>} */
  const keys = {
    c: () => decide("confirmed"), g: () => decide("taught"), G: () => decide("good"), u: undo, n: () => why.focus(),
    ...(range ? {} : { ArrowDown: () => step(1), ArrowUp: () => step(-1), ArrowRight: () => step(1), ArrowLeft: () => step(-1) }),
  };
  const key = event.key === "G" && event.shiftKey ? "G" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!(key in keys)) return;
  event.preventDefault();
  keys[key]();
});
