// Region: where to look, drawn on an image as polygons by mouse, touch or keys.
import { get, failed, send } from "./api.js";
import { $, el, note, t } from "./page.js";

/** @typedef {[number, number]} Corner @typedef {{kind: "include" | "exclude", corners: Corner[]}} Polygon */

const NEAR = 0.025; // of a side: this near to the first corner, a click closes the polygon
const SIZE = 1000; // units of the drawing's view box, of either side

export class Region {
  constructor() {
    this.svg = /** @type {SVGSVGElement} */ (/** @type {unknown} */ ($("region-svg", SVGElement)));
    this.image = $("region-image", HTMLImageElement);
    this.product = "";
    /** @type {Polygon[]} */
    this.polygons = [];
    /** @type {Corner[]} */
    this.open_ = []; // corners of the polygon that is not closed yet
    this.chosen = -1;
    /** @type {Corner} */
    this.cursor = [0.5, 0.5];
    /** @type {{polygon: number, corner: number} | null} */
    this.dragged = null;

    this.svg.addEventListener("pointerdown", (event) => this.#down(event));
    this.svg.addEventListener("pointermove", (event) => this.#move(event));
    this.svg.addEventListener("pointerup", () => (this.dragged = null));
    this.svg.addEventListener("keydown", (event) => this.#key(event));
    for (const kind of ["focus", "blur"]) this.svg.addEventListener(kind, () => this.draw());
    $("region-close").addEventListener("click", () => this.close());
    $("region-back").addEventListener("click", () => this.back());
    $("region-delete").addEventListener("click", () => this.remove());
    $("region-save").addEventListener("click", () => this.save());
    $("region-download").addEventListener("click", () => this.download());
    $("region-file", HTMLInputElement).addEventListener("change", (event) => {
      const file = /** @type {HTMLInputElement} */ (event.target).files?.[0];
      if (file) this.#show(URL.createObjectURL(file));
    });
  }

  /** The saved region of a product, on the last image of it. @param {string} product */
  async open(product) {
    if (product === this.product) return;
    this.product = product;
    /** @type {{include: Corner[][], exclude: Corner[][]}} */
    const saved = await get(`/regions/${encodeURIComponent(product)}`);
    this.polygons = /** @type {const} */ (["include", "exclude"]).flatMap((kind) => saved[kind].map((corners) => ({ kind, corners })));
    this.open_ = [];
    this.chosen = -1;
    const good = await get("/results?limit=1&verdict=pass"); // a part as it should be, if there is one
    const last = good.length ? good : await get("/results?limit=1");
    if (last.length && !this.image.src.startsWith("blob:")) this.#show(`/api/v1/results/${last[0].id}/image.png?side=1200`);
    this.draw();
  }

  /** @param {string} address */
  #show(address) {
    if (this.image.src.startsWith("blob:")) URL.revokeObjectURL(this.image.src);
    this.image.src = address;
    this.image.hidden = false;
    $("region-empty").hidden = true;
  }

  /** @param {PointerEvent} event @returns {Corner} */
  #at(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (/** @type {number} */ value) => Math.round(10000 * Math.min(1, Math.max(0, value))) / 10000;
    return [share((event.clientX - box.left) / box.width), share((event.clientY - box.top) / box.height)];
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button) return;
    event.preventDefault();
    this.svg.focus({ preventScroll: true });
    const target = /** @type {SVGElement} */ (event.target);
    const { polygon, corner } = target.dataset;
    if (corner !== undefined && !this.open_.length) {
      this.svg.setPointerCapture(event.pointerId);
      this.dragged = { polygon: Number(polygon), corner: Number(corner) };
      this.chosen = Number(polygon);
      return this.draw();
    }
    this.cursor = this.#at(event);
    if (polygon !== undefined && !this.open_.length && Number(polygon) !== this.chosen) {
      this.chosen = Number(polygon);
      return this.draw();
    }
    this.put();
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (!this.dragged) return;
    this.polygons[this.dragged.polygon].corners[this.dragged.corner] = this.#at(event);
    this.draw();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 0.1 : 0.01;
    const by = (/** @type {number} */ x, /** @type {number} */ y) => () => {
      this.cursor = [Math.min(1, Math.max(0, this.cursor[0] + x)), Math.min(1, Math.max(0, this.cursor[1] + y))];
      this.draw();
    };
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowLeft: by(-step, 0), ArrowRight: by(step, 0), ArrowUp: by(0, -step), ArrowDown: by(0, step),
      Enter: () => this.put(), " ": () => this.put(), c: () => this.close(), Backspace: () => this.back(), Delete: () => this.remove(),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** A corner where the cursor is; on the first one, the polygon is closed. */
  put() {
    const [first] = this.open_;
    if (this.open_.length > 2 && Math.hypot(first[0] - this.cursor[0], first[1] - this.cursor[1]) < NEAR) return this.close();
    this.chosen = -1;
    this.open_.push([Math.round(this.cursor[0] * 10000) / 10000, Math.round(this.cursor[1] * 10000) / 10000]);
    this.draw();
  }

  close() {
    if (this.open_.length < 3) return;
    const kind = document.querySelector('input[name="kind"]:checked');
    this.polygons.push({ kind: kind instanceof HTMLInputElement && kind.value === "exclude" ? "exclude" : "include", corners: this.open_ });
    this.chosen = this.polygons.length - 1;
    this.open_ = [];
    this.draw();
  }

  back() {
    this.open_.pop();
    this.draw();
  }

  remove() {
    if (this.chosen >= 0) this.polygons.splice(this.chosen, 1);
    this.chosen = -1;
    this.draw();
  }

  /** As `patchcore fit --roi` takes it. */
  told() {
    const of = (/** @type {string} */ kind) => this.polygons.filter((one) => one.kind === kind).map((one) => one.corners);
    return { include: of("include"), exclude: of("exclude") };
  }

  async save() {
    try {
      await send("PUT", `/regions/${encodeURIComponent(this.product)}`, this.told());
      note(t("region.saved", { name: this.product }));
    } catch (error) {
      failed(error);
    }
  }

  download() {
    const address = URL.createObjectURL(new Blob([JSON.stringify(this.told(), null, 1)], { type: "application/json" }));
    el("a", { href: address, download: "region.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  draw() {
    /** @type {(tag: string, given: Record<string, string | number>) => SVGElement} */
    const make = (tag, given) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(given)) made.setAttribute(name, String(value));
      return made;
    };
    const points = (/** @type {Corner[]} */ corners) => corners.map(([x, y]) => `${x * SIZE},${y * SIZE}`).join(" ");
    const box = this.svg.getBoundingClientRect();
    const radius = { rx: (7 / (box.width || SIZE)) * SIZE, ry: (7 / (box.height || SIZE)) * SIZE }; // round in a stretched box
    const parts = this.polygons.map((one, number) => make("polygon", { points: points(one.corners), class: number === this.chosen ? `${one.kind} chosen` : one.kind, "data-polygon": number }));
    for (const [number, one] of this.polygons.entries()) {
      if (number !== this.chosen) continue;
      parts.push(...one.corners.map(([x, y], corner) => make("ellipse", { cx: x * SIZE, cy: y * SIZE, ...radius, "data-polygon": number, "data-corner": corner })));
    }
    if (this.open_.length) {
      parts.push(make("polyline", { points: points(this.open_), class: "open" }));
      parts.push(...this.open_.map(([x, y]) => make("ellipse", { cx: x * SIZE, cy: y * SIZE, ...radius })));
    }
    if (document.activeElement === this.svg) {
      const [x, y] = [this.cursor[0] * SIZE, this.cursor[1] * SIZE];
      const [dx, dy] = [radius.rx * 2, radius.ry * 2];
      parts.push(make("path", { d: `M${x - dx} ${y}H${x + dx}M${x} ${y - dy}V${y + dy}`, class: "cursor" }));
    }
    this.svg.replaceChildren(...parts);
    $("region-close", HTMLButtonElement).disabled = this.open_.length < 3;
    $("region-back", HTMLButtonElement).disabled = !this.open_.length;
    $("region-delete", HTMLButtonElement).disabled = this.chosen < 0;
    $("region-told").textContent = this.open_.length ? t("region.drawing", { count: this.open_.length }) : this.polygons.length ? "" : t("region.none");
    this.#list();
  }

  #list() {
    const rows = this.polygons.map((one, number) => {
      const choose = () => ((this.chosen = number), this.draw());
      const button = el("button", { type: "button", "aria-pressed": String(number === this.chosen), onclick: choose }, el("span", {}, t(`region.${one.kind}`)), el("span", {}, t("region.corners", { count: one.corners.length })));
      return el("li", {}, button);
    });
    const list = $("region-list");
    const focused = [...list.querySelectorAll("button")].indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    list.replaceChildren(...rows);
    list.querySelectorAll("button")[focused]?.focus();
  }
}
