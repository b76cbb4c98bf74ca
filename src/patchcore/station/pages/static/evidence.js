// Evidence: the most unusual places of a part, each beside the good place that is most like it.
import { $, el, number, t } from "./page.js";

/** @typedef {{distance: number, p_value: number | null, x: number, y: number, source: string | null, part: string, good: string | null}} Place */

/** @type {string[]} */
let addresses = []; // of the images that are shown now
let wanted = 0;

/** Show nothing. */
export function clearEvidence() {
  wanted = 0;
  for (const one of addresses) URL.revokeObjectURL(one);
  addresses = [];
  $("evidence").replaceChildren();
}

/** Show that of a result, unless another one is wanted before it has come. @param {number} id @param {number} count */
export async function showEvidence(id, count) {
  clearEvidence();
  wanted = id;
  const answer = await fetch(`/fragments/results/${id}/evidence?n=${count}`).catch(() => null);
  if (!answer?.ok || wanted !== id) return;
  /** @type {Place[]} */
  const places = await answer.json();
  if (wanted === id) $("evidence").replaceChildren(...places.map(shown));
}

/** @param {Place} place @param {number} index */
function shown(place, index) {
  const p = place.p_value === null ? "" : ` · p ${number(place.p_value, 2)}`;
  return el("li", {},
    figure(place.part, t("evidence.part", { number: index + 1 }), `${t("evidence.distance", { distance: number(place.distance) })}${p} · x ${place.x}, y ${place.y}`),
    place.good ? figure(place.good, t("evidence.good"), place.source ?? "") : el("p", { class: "quiet" }, `${t("evidence.unknown")} ${place.source ?? ""}`));
}

/** @param {string} png in base 64 @param {string} title @param {string} about */
function figure(png, title, about) {
  const address = URL.createObjectURL(new Blob([Uint8Array.from(atob(png), (one) => one.charCodeAt(0))], { type: "image/png" }));
  addresses.push(address);
  return el("figure", {}, el("img", { src: address, alt: title }), el("figcaption", {}, el("b", {}, title), el("span", { class: "quiet" }, about)));
}
