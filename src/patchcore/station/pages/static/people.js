// People: accounts, keys of machines, and the audit trail.
import "./shell.js";
import { failed, get, Refused, send } from "./api.js";
import * as events from "./events.js";
import { $, data, el, moment, note, t } from "./page.js";

/**
 * @typedef {{id: number, name: string, role: string, active: boolean, sessions: number}} Person
 * @typedef {{id: number, name: string, role: string, used: string | null, revoked: string | null}} Key
 * @typedef {{number: number, time: string, who: string, action: string, subject: string, why: string}} Row
 */

const ROLES = ["operator", "engineer", "admin"];
const PAGE = 50;
let last = 0; // the lowest row that is shown

/** @param {string} text @param {() => Promise<any>} call */
const button = (text, call) => el("button", { type: "button", onclick: () => call().then(refresh, failed) }, text);

async function refresh() {
  try {
    /** @type {[Person[], Key[]]} */
    const [people, keys] = await Promise.all([get("/people"), get("/keys")]);
    $("accounts").replaceChildren(...people.map(person));
    $("keys").replaceChildren(...keys.map(key));
    hosts((await get("/hosts")).hosts);
    await trail();
  } catch (error) {
    if (error instanceof Refused && error.status === 404) $("checked").textContent = t("people.missing");
    else failed(error);
  }
}

/** @param {Person} one */
function person(one) {
  const role = el("select", { "aria-label": `${t("people.role")}: ${one.name}`, disabled: !one.active || one.name === data.name },
    ...ROLES.map((name) => el("option", { value: name, selected: name === one.role }, t(`role.${name}`))));
  role.addEventListener("change", () => send("PATCH", `/people/${one.id}`, { role: role.value }).then(refresh, (error) => (failed(error), refresh())));
  return el("tr", { class: one.active ? "" : "shut" },
    el("td", {}, el("b", {}, one.name)), el("td", {}, role), el("td", {}, String(one.sessions)),
    el("td", {}, el("span", { class: "row end" },
      button(t("people.reset"), async () => secret(await send("POST", `/people/${one.id}/password`, {}))),
      one.sessions > 0 && button(t("people.logout"), () => send("POST", `/people/${one.id}/logout`, {})),
      one.name !== data.name && button(t(one.active ? "people.shut" : "people.open"), () => send("PATCH", `/people/${one.id}`, { active: !one.active })))));
}

/** @param {Key} one */
function key(one) {
  return el("tr", { class: one.revoked ? "shut" : "" },
    el("td", {}, el("b", {}, one.name)), el("td", {}, t(`role.${one.role}`)), el("td", {}, one.used ? moment(one.used) : t("people.never")),
    el("td", {}, one.revoked ? t("people.revoked") : button(t("people.revoke"), () => send("POST", `/keys/${one.id}/revoke`, {}))));
}

/** Something that is shown once. @param {{name: string, secret: string}} made */
function secret(made) {
  $("secret-name").textContent = made.name;
  $("secret-text").textContent = made.secret;
  $("secret", HTMLDialogElement).showModal();
}

$("copy").addEventListener("click", () => navigator.clipboard?.writeText($("secret-text").textContent ?? "").catch(failed));
$("secret").addEventListener("close", () => ($("secret-text").textContent = ""));

/** @param {string} id @param {string} path */
function maker(id, path) {
  const form = $(id, HTMLFormElement);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = new FormData(form);
    try {
      secret(await send("POST", path, { name: given.get("name"), role: given.get("role") }));
      form.reset();
      await refresh();
    } catch (error) {
      failed(error);
    }
  });
}
/** @param {string[]} names */
function hosts(names) {
  const field = /** @type {HTMLInputElement} */ ($("hosts", HTMLFormElement).elements.namedItem("hosts"));
  if (document.activeElement !== field) field.value = names.join(" ");
}

$("hosts").addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = String(new FormData($("hosts", HTMLFormElement)).get("hosts") ?? "");
  try {
    hosts((await send("PUT", "/hosts", { hosts: given.split(/[\s,;]+/).filter(Boolean) })).hosts);
    note(t("people.hosts_saved"));
  } catch (error) {
    failed(error);
  }
});

maker("make-person", "/people");
maker("make-key", "/keys");

/** @param {boolean} [more] older rows, below those that are there */
async function trail(more = false) {
  const query = new URLSearchParams({ limit: String(PAGE) });
  for (const [name, value] of new FormData($("trail-search", HTMLFormElement))) query.set(name, String(value));
  if (more) query.set("before", String(last));
  /** @type {Row[]} */
  const rows = await get(`/trail?${query}`);
  const made = rows.map((one) => el("tr", {}, ...[String(one.number), moment(one.time), one.who, one.action, one.subject, one.why].map((cell) => el("td", {}, cell))));
  if (more) $("trail").append(...made);
  else $("trail").replaceChildren(...made);
  last = rows.at(-1)?.number ?? last;
  $("trail-more").hidden = rows.length < PAGE;
}

$("trail-search").addEventListener("submit", (event) => {
  event.preventDefault();
  trail().catch(failed);
});
$("trail-more").addEventListener("click", () => trail(true).catch(failed));
$("check").addEventListener("click", async () => {
  try {
    const found = await get("/trail/check");
    const place = $("checked");
    place.className = `banner ${found.ok ? "ok" : "bad"}`;
    place.textContent = found.ok ? t("people.ok", { rows: found.rows }) : t("people.bad", { number: found.number, problem: found.problem });
  } catch (error) {
    failed(error);
  }
});

events.on("hello", refresh);
