// Result: a past result, as it was.
import "./shell.js";
import { showEvidence } from "./evidence.js";
import { $ } from "./page.js";
import { Viewer } from "./viewer.js";

const { id, lost } = $("result").dataset;
const viewer = new Viewer();
if (!lost) {
  viewer.show(Number(id), document.querySelector("h1")?.textContent ?? "");
  showEvidence(Number(id), 3);
}
