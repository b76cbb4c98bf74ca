// Machines: what is asked of each kind of source and output. docs/station-machines.md says what the settings do.
import { t } from "./page.js";

/** @typedef {import("./fields.js").Field} Field */

/** @param {string[]} names @param {(name: string) => string} text @returns {[string, string][]} */
const choices = (names, text) => names.map((name) => [name, text(name)]);

/** @param {string} at @param {Partial<Field>} [when] @returns {Field[]} */
const broker = (at, when = {}) => [
  { name: `${at}.host`, text: "broker_host", needed: true, most: 253, ...when },
  { name: `${at}.port`, text: "broker_port", kind: "number", first: 1883, step: 1, least: 1, most: 65535, ...when },
  { name: `${at}.tls`, text: "tls", kind: "flag", ...when },
  { name: `${at}.user`, text: "user", empty: null, ...when },
  { name: `${at}.password`, text: "password", kind: "secret", empty: null, ...when },
  { name: `${at}.ca`, text: "ca", empty: null, more: true, ...when },
  { name: `${at}.certificate`, text: "certificate", empty: null, more: true, ...when },
  { name: `${at}.key`, text: "key", empty: null, more: true, ...when },
];

/** @type {[string, string]} */
const MQTT = ["trigger.kind", "mqtt"];
/** @type {[string, string]} */
const MODBUS = ["trigger.kind", "modbus"];

/** What is asked of a source. @param {string} kind @returns {Field[]} */
export function ofSource(kind) {
  if (kind === "folder") {
    return [
      { name: "path", text: "folder", needed: true, most: 4096, list: "roots" },
      { name: "part", text: "part_pattern", empty: null, most: 200 },
      { name: "afterwards", kind: "choice", choices: choices(["leave", "move", "delete"], (one) => t(`lines.afterwards.${one}`)), first: "leave" },
      { name: "bad", kind: "choice", choices: choices(["leave", "move"], (one) => t(`lines.unreadable.${one}`)), first: "leave" },
      { name: "every", text: "folder_every", kind: "number", first: 5, least: 0.1, most: 3600, more: true },
    ];
  }
  if (kind === "video") {
    return [
      { name: "path", text: "video", needed: true, most: 4096, list: "roots" },
      { name: "every", text: "video_every", kind: "number", first: 0, least: 0, most: 3600 },
      { name: "step", kind: "number", first: 1, step: 1, least: 1, most: 100000 },
      { name: "repeat", kind: "flag" },
    ];
  }
  if (kind !== "camera") return [];
  return [
    { name: "address", needed: true, most: 500, read: (given) => (/^\d+$/.test(given) ? Number(given) : given) },
    { name: "every", text: "camera_every", kind: "number", first: 1, empty: null, least: 0, most: 86400 },
    { name: "trigger.kind", text: "trigger", kind: "choice", choices: choices(["none", "mqtt", "modbus"], (one) => t(`lines.trigger.${one}`)), first: "none" },
    { name: "trigger.topic", text: "trigger_topic", needed: true, most: 200, only: MQTT },
    ...broker("trigger.broker", { only: MQTT }),
    { name: "trigger.host", text: "plc_host", needed: true, most: 253, only: MODBUS },
    { name: "trigger.port", text: "plc_port", kind: "number", first: 502, step: 1, least: 1, most: 65535, only: MODBUS },
    { name: "trigger.unit", text: "unit", kind: "number", first: 1, step: 1, least: 0, most: 247, only: MODBUS },
    { name: "trigger.table", text: "table", kind: "choice", choices: choices(["coil", "register"], (one) => t(`lines.table.${one}`)), first: "coil", only: MODBUS },
    { name: "trigger.address", text: "plc_address", kind: "number", step: 1, needed: true, least: 0, most: 65535, only: MODBUS },
    { name: "trigger.answer", text: "answer", kind: "number", step: 1, empty: null, least: 0, most: 65535, only: MODBUS },
    { name: "trigger.every", text: "plc_every", kind: "number", first: 0.02, least: 0.005, most: 10, more: true, only: MODBUS },
    { name: "flush", kind: "number", first: 0, step: 1, least: 0, most: 60, more: true },
    { name: "silence", kind: "number", first: 3, least: 0.2, most: 60, more: true },
  ];
}

/** What is asked of an output. @param {string} kind @param {string[]} lines of the station @returns {Field[]} */
export function ofOutput(kind, lines) {
  /** @type {Field[]} */
  const tells = [
    { name: "verdicts", kind: "many", choices: choices(["pass", "unsure", "fail"], (one) => t(`verdict.${one}`)), first: ["pass", "unsure", "fail"] },
    { name: "lines", kind: "many", choices: lines.map((name) => [name, name]), first: [] },
  ];
  /** @type {Field} */
  const name = { name: "name", text: "output_name", needed: true, most: 64 };
  /** @type {Field} */
  const hours = { name: "hours", kind: "number", first: 24, least: 0.01, most: 720, more: true };
  if (kind === "webhook") {
    return [
      name,
      { name: "url", needed: true, most: 1000 },
      { name: "secret", kind: "secret", needed: true, least: 16, most: 200 },
      ...tells,
      { name: "timeout", kind: "number", first: 10, least: 0.1, most: 60, more: true },
      hours,
    ];
  }
  if (kind === "mqtt") return [name, ...broker("broker"), { name: "topic", first: "patchcore", needed: true, most: 200 }, ...tells, hours];
  return [
    name,
    { name: "host", text: "listen_host", first: "127.0.0.1", needed: true, most: 253 },
    { name: "port", text: "listen_port", kind: "number", first: kind === "opcua" ? 4840 : 502, step: 1, needed: true, least: 1, most: 65535 },
    ...tells,
  ];
}
