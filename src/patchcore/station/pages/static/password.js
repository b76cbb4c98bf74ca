// Password: a new one.
import { failed, Refused, send } from "./api.js";
import { $, t } from "./page.js";

const form = $("password", HTMLFormElement);
const said = /** @type {HTMLElement} */ (form.querySelector("[role=alert]"));

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = new FormData(form);
  said.hidden = given.get("new") === given.get("again");
  said.textContent = t("password.differ");
  if (!said.hidden) return;
  try {
    await send("POST", "/me/password", { old: given.get("old"), new: given.get("new") });
    const next = form.dataset.next ?? "/";
    location.assign(next.startsWith("/") && !next.startsWith("//") && !next.includes("\\") ? next : "/");
  } catch (error) {
    if (!(error instanceof Refused)) return failed(error);
    said.textContent = error.message;
    said.hidden = false;
  }
});
