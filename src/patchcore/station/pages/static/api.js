// API: what the station is asked, and how it answers.
import { data, note, said, t } from "./page.js";

/** The station has said no, and why. */
export class Refused extends Error {
  /** @param {number} status @param {any} told what the station answered @param {number} wait seconds, where it says so */
  constructor(status, told, wait = 0) {
    const detail = told?.detail ?? t("fail.status", { status: String(status) });
    super(typeof detail === "string" ? said({ text: detail, code: told.code, values: told.values }) : detail[0]?.msg);
    this.status = status;
    this.wait = wait;
    /** @type {import("./fields.js").Fault[]} */
    this.faults = typeof detail === "string" ? [] : detail;
    /** @type {Record<string, any>} */
    this.values = told?.values ?? {};
  }
}

let ahead = 0; // milliseconds of the station's clock before this one

/** The station's clock, to a second. */
export const now = () => Date.now() + ahead;

/**
 * @param {string} path below /api/v1
 * @param {RequestInit} [how]
 * @returns {Promise<any>}
 */
async function ask(path, how = {}) {
  const headers = { Accept: "application/json", "X-CSRF-Token": data.csrf, ...how.headers };
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, { ...how, headers });
  } catch {
    throw new Refused(0, { detail: t("fail.network") });
  }
  const said = Date.parse(answer.headers.get("date") ?? "");
  if (said && Math.abs(said - now()) > 2000) ahead = said - Date.now();
  if (answer.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
  const told = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.ok) return told;
  throw new Refused(answer.status, told, Number(answer.headers.get("retry-after") ?? 0));
}

/** @param {string} path */
export const get = (path) => ask(path);

/** @param {string} method @param {string} path @param {unknown} [body] */
export const send = (method, path, body) =>
  ask(path, { method, ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }) });

/** @param {string} path @param {FormData} form @param {Record<string, string>} [headers] */
export const upload = (path, form, headers = {}) => ask(path, { method: "POST", body: form, headers });

/**
 * A piece of a page that the station has drawn.
 * @param {string} path below /fragments
 * @param {HTMLElement} place
 */
export async function draw(path, place) {
  const answer = await fetch(`/fragments${path}`);
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => null));
  place.innerHTML = await answer.text(); // of our own templates, which escape what they show
  place.removeAttribute("aria-busy");
}

/** Tell the person what went wrong. @param {unknown} error */
export function failed(error) {
  const reason = error instanceof Error ? error.message : String(error);
  note(error instanceof Refused && error.status === 0 ? reason : t("fail.other", { reason }), { bad: true });
}
