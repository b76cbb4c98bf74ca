// History: times are asked for in the person's own zone.
import "./shell.js";
import { $ } from "./page.js";

const form = $("search", HTMLFormElement);

/** @param {string} name */
const hidden = (name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name));

for (const input of form.querySelectorAll("input")) {
  const name = input.dataset.moment;
  if (!name) continue;
  const at = new Date(hidden(name).value);
  if (!Number.isNaN(at.getTime())) {
    input.value = new Date(at.getTime() - 60_000 * at.getTimezoneOffset()).toISOString().slice(0, 16);
  }
  input.addEventListener("change", () => (hidden(name).value = input.value ? new Date(input.value).toISOString() : ""));
}
form.addEventListener("submit", () => {
  for (const one of form.elements) {
    if ((one instanceof HTMLInputElement || one instanceof HTMLSelectElement) && !one.value) one.disabled = true; // addresses stay short
  }
});
addEventListener("pageshow", () => {
  for (const one of form.elements) if (one instanceof HTMLInputElement || one instanceof HTMLSelectElement) one.disabled = false;
});
