// Result: a past result, as it was.
import "./shell.js";
import { put } from "./loading.js";
import { $ } from "./page.js";
import { Viewer } from "./viewer.js";

const { id, lost } = $("result").dataset;
const viewer = new Viewer();
if (!lost) {
  viewer.show(Number(id), document.querySelector("h1")?.textContent ?? "");
  const evidence = $("evidence", HTMLImageElement);
  put(evidence, `/api/v1/results/${id}/evidence.png`).then((came) => (evidence.hidden = !came));
}
