// Events: what happens, as it happens; and whether anything is heard at all.
import { get } from "./api.js";

const QUIET = 2000; // milliseconds without a word after which nothing here may be taken for the present
const AGAIN = 1500; // milliseconds between two tries to connect
const KINDS = ["result", "review", "model", "line", "job", "source", "output", "alarm", "trouble"];

/** @typedef {"wait" | "live" | "stale"} State */

/** @type {Map<string, ((data: any) => void)[]>} */
const listeners = new Map();
/** @type {((state: State, since: Date) => void)[]} */
const watchers = [];
/** @type {EventSource | null} */
let source = null;
/** @type {State} */
let state = "wait";
let heard = performance.now();
let tried = 0;
let number = 0;
let since = new Date();

/**
 * Call when something of that kind happens. `hello` comes with each connection, and whenever events were missed:
 * then ask for the present state.
 * @param {string} kind
 * @param {(data: any) => void} call
 */
export function on(kind, call) {
  listeners.set(kind, [...(listeners.get(kind) ?? []), call]);
}

/** Call now and whenever the connection comes or goes. @param {(state: State, since: Date) => void} call */
export function onState(call) {
  watchers.push(call);
  call(state, since);
}

/** @param {State} next */
function become(next) {
  if (next === state) return;
  state = next;
  for (const call of watchers) call(state, since);
}

/** @param {string} kind @param {any} data */
function tell(kind, data) {
  for (const call of listeners.get(kind) ?? []) call(data);
}

function hear() {
  heard = performance.now();
  since = new Date();
  become("live");
}

function close() {
  source?.close();
  source = null;
}

function open() {
  close();
  tried = performance.now();
  const mine = new EventSource("/api/v1/events");
  source = mine;
  mine.onerror = () => {
    mine.close();
    if (source === mine) source = null;
  };
  mine.addEventListener("hello", (event) => {
    number = 0;
    hear();
    tell("hello", JSON.parse(event.data));
  });
  mine.addEventListener("beat", hear);
  for (const kind of KINDS) {
    mine.addEventListener(kind, (event) => {
      hear();
      const next = Number(event.lastEventId);
      const missed = number > 0 && next > number + 1;
      number = next;
      tell(kind, JSON.parse(event.data));
      if (missed) tell("hello", {});
    });
  }
}

function watch() {
  if (document.hidden) return;
  const quiet = performance.now() - heard;
  if (quiet > QUIET) become("stale");
  const waited = performance.now() - tried;
  if (source === null && waited > AGAIN) {
    tried = performance.now();
    get("/lines").then(open, () => {}); // asked first, since it says whether somebody must log in again
  } else if (source !== null && quiet > 3 * QUIET && waited > 3 * QUIET) {
    open(); // connected, and yet silent
  }
}

/** A page that nobody sees needs no connection: a browser has few of them. */
function see() {
  if (document.hidden) {
    close();
    return;
  }
  heard = performance.now();
  become("wait");
  open();
}

/** Begin to listen; after all `on`. */
export function start() {
  document.addEventListener("visibilitychange", see);
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && see());
  setInterval(watch, 250);
  if (!document.hidden) open();
}
