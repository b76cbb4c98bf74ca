// API: what the station is asked, and how it answers.
import { data, note, t } from "./page.js";

/** The station has said no, and why. */
export class Refused extends Error {
  /** @param {number} status @param {string} detail @param {number} wait seconds, where it says so */
  constructor(status, detail, wait = 0) {
    super(detail);
    this.status = status;
    this.wait = wait;
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
    throw new Refused(0, t("fail.network"));
  }
  const said = Date.parse(answer.headers.get("date") ?? "");
  if (said && Math.abs(said - now()) > 2000) ahead = said - Date.now();
  if (answer.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
  const told = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.ok) return told;
  const detail = typeof told?.detail === "string" ? told.detail : (told?.detail?.[0]?.msg ?? answer.statusText);
  throw new Refused(answer.status, detail, Number(answer.headers.get("retry-after") ?? 0));
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
  if (!answer.ok) throw new Refused(answer.status, (await answer.json().catch(() => null))?.detail ?? answer.statusText);
  place.innerHTML = await answer.text(); // of our own templates, which escape what they show
  place.removeAttribute("aria-busy");
}

/** Tell the person what went wrong. @param {unknown} error */
export function failed(error) {
  const reason = error instanceof Error ? error.message : String(error);
  note(error instanceof Refused && error.status === 0 ? reason : t("fail.other", { reason }), { bad: true });
}
