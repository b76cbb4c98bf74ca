// Viewer: an image under its heat map, with opacity, outlines and zoom, by mouse, touch and keys.
import { put } from "./loading.js";
import { $, percent, t } from "./page.js";

const SIDE = 1200; // pixels of the longer side that are asked for
const MOST = 16; // times

export class Viewer {
  constructor() {
    const root = $("viewer");
    /** @template {Element} T @param {string} where @param {new () => T} kind @returns {T} */
    const find = (where, kind) => {
      const found = root.querySelector(where);
      if (!(found instanceof kind)) throw new Error(`The viewer has no ${where}.`);
      return found;
    };
    this.stage = find(".stage", HTMLElement);
    this.canvas = find(".canvas", HTMLElement);
    this.base = find(".base", HTMLImageElement);
    this.heat = find(".heat", HTMLImageElement);
    this.empty = find(".stage-empty", HTMLElement);
    this.told = find(".stage-told", HTMLElement);
    this.value = find(".zoom-value", HTMLElement);
    this.opacity = find(".opacity", HTMLInputElement);
    this.outline = find(".outline", HTMLButtonElement);
    this.zoom = 1;
    this.x = 0;
    this.y = 0;
    this.id = 0;
    this.label = "";
    this.loading = false;
    /** @type {Map<number, {x: number, y: number}>} */
    this.fingers = new Map();

    this.opacity.addEventListener("input", () => this.#fade());
    this.outline.addEventListener("click", () => {
      this.outline.setAttribute("aria-pressed", String(this.outline.getAttribute("aria-pressed") !== "true"));
      if (this.id) this.#load();
    });
    find(".zoom-in", HTMLElement).addEventListener("click", () => this.zoomBy(1.5));
    find(".zoom-out", HTMLElement).addEventListener("click", () => this.zoomBy(1 / 1.5));
    find(".zoom-fit", HTMLElement).addEventListener("click", () => this.fit());
    this.stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.stage.addEventListener("keydown", (event) => this.#key(event));
    this.stage.addEventListener("dblclick", (event) => this.zoomBy(2, event));
    for (const kind of /** @type {const} */ (["pointerdown", "pointermove", "pointerup", "pointercancel"])) {
      this.stage.addEventListener(kind, (event) => this.#pointer(event));
    }
    this.#fade();
  }

  /** Show a result. What comes while one is loading replaces those between. @param {number} id @param {string} label */
  show(id, label) {
    if (id === this.id) return;
    this.id = id;
    this.label = label;
    this.fit();
    this.base.style.opacity = this.heat.style.opacity = "0.15"; // not yet that of this part
    this.empty.hidden = true;
    this.#tell(t("viewer.loading"));
    if (!this.loading) this.#load();
  }

  /** Show nothing. */
  clear() {
    this.id = 0;
    this.base.hidden = this.heat.hidden = true;
    this.empty.hidden = false;
    this.#tell("");
  }

  /** @param {string} text nothing: all is there */
  #tell(text) {
    this.told.textContent = text;
    this.told.hidden = !text;
    this.stage.setAttribute("aria-busy", String(text === t("viewer.loading")));
  }

  async #load() {
    this.loading = true;
    let shown = 0;
    while (this.id && (shown !== this.id || this.drawn !== this.#over())) {
      const over = this.#over();
      shown = this.id;
      this.#tell(t("viewer.loading"));
      const where = `/api/v1/results/${shown}`;
      const came = await Promise.all([put(this.base, `${where}/image.png?side=${SIDE}`), put(this.heat, `${where}/${over}.png?side=${SIDE}`)]);
      this.drawn = over;
      if (shown !== this.id) continue;
      this.base.hidden = !came[0];
      this.heat.hidden = !came[1];
      this.empty.hidden = came[0];
      this.base.alt = this.label;
      this.base.style.opacity = "1";
      this.#fade();
      this.#tell(came[0] && !came[1] ? t("viewer.no_heat") : "");
    }
    this.loading = false;
  }

  #over() {
    return this.outline.getAttribute("aria-pressed") === "true" ? "overlay" : "heat";
  }

  #fade() {
    this.heat.style.opacity = String(Number(this.opacity.value) / 100);
    this.opacity.setAttribute("aria-valuetext", percent(Number(this.opacity.value) / 100));
  }

  fit() {
    this.zoom = 1;
    this.x = this.y = 0;
    this.#place();
  }

  /** @param {number} factor @param {{clientX: number, clientY: number}} [about] what stays where it is */
  zoomBy(factor, about) {
    const box = this.stage.getBoundingClientRect();
    const at = about ? { x: about.clientX - box.left, y: about.clientY - box.top } : { x: box.width / 2, y: box.height / 2 };
    const zoom = Math.min(MOST, Math.max(1, this.zoom * factor));
    this.x = at.x - ((at.x - this.x) * zoom) / this.zoom;
    this.y = at.y - ((at.y - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.#place();
  }

  #place() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    this.x = Math.min(0, Math.max(width * (1 - this.zoom), this.x));
    this.y = Math.min(0, Math.max(height * (1 - this.zoom), this.y));
    this.canvas.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.zoom})`;
    this.stage.classList.toggle("zoomed", this.zoom > 4);
    this.value.textContent = percent(this.zoom, 3);
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    if (this.zoom === 1 && event.deltaY > 0) return; // the page scrolls on
    event.preventDefault();
    this.zoomBy(2 ** (-event.deltaY / 300), event);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = 60;
    /** @type {Record<string, () => void>} */
    const keys = { "+": () => this.zoomBy(1.5), "=": () => this.zoomBy(1.5), "-": () => this.zoomBy(1 / 1.5), 0: () => this.fit() };
    if (this.zoom > 1) {
      const by = (/** @type {number} */ x, /** @type {number} */ y) => () => ((this.x += x), (this.y += y), this.#place());
      Object.assign(keys, { ArrowLeft: by(step, 0), ArrowRight: by(-step, 0), ArrowUp: by(0, step), ArrowDown: by(0, -step) });
    }
    if (!(event.key in keys)) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  }

  /** @param {PointerEvent} event */
  #pointer(event) {
    const before = this.fingers.get(event.pointerId);
    if (event.type === "pointerdown") {
      this.stage.setPointerCapture(event.pointerId);
      this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    } else if (event.type !== "pointermove") {
      this.fingers.delete(event.pointerId);
    } else if (before) {
      const [first, second] = [...this.fingers.values()];
      const spread = () => Math.hypot(first.x - second.x, first.y - second.y) || 1;
      const was = second ? spread() : 0;
      this.x += (event.clientX - before.x) / this.fingers.size;
      this.y += (event.clientY - before.y) / this.fingers.size;
      before.x = event.clientX;
      before.y = event.clientY;
      if (second) this.zoomBy(spread() / was, { clientX: (first.x + second.x) / 2, clientY: (first.y + second.y) / 2 });
      else this.#place();
    }
  }
}

/** What an image shows, for those who do not see it. @param {string} name @param {string} verdict */
export const alt = (name, verdict) => t("viewer.alt", { name, verdict: t(`verdict.${verdict}`) });
