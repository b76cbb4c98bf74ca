// Drop: files that a person drops, pastes or chooses.
import { $ } from "./page.js";

/**
 * Call with the files, whichever way they come. Folders are looked through.
 * @param {string} id of the place
 * @param {(files: File[]) => void} call
 */
export function onFiles(id, call) {
  for (const input of $(id).querySelectorAll("input")) {
    input.addEventListener("change", () => {
      if (input.files?.length) call([...input.files].filter(isImage));
      input.value = "";
    });
  }
  let depth = 0;
  const body = document.body;
  addEventListener("dragenter", () => ((depth += 1), body.classList.add("dropping")));
  addEventListener("dragleave", () => ((depth -= 1), depth || body.classList.remove("dropping")));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    depth = 0;
    body.classList.remove("dropping");
    const entries = [...(event.dataTransfer?.items ?? [])].map((one) => one.webkitGetAsEntry?.() ?? null);
    const files = [...(event.dataTransfer?.files ?? [])];
    const inside = entries.some((one) => one?.isDirectory) ? (await Promise.all(entries.map(within))).flat() : files;
    if (inside.length) call(inside.filter(isImage));
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])].filter(isImage);
    if (files.length) call(files);
  });
}

/** @param {File} file */
const isImage = (file) => file.type.startsWith("image/") || /\.(tiff?|bmp|png|jpe?g|webp)$/i.test(file.name);

/** @param {FileSystemEntry | null} entry @returns {Promise<File[]>} */
async function within(entry) {
  if (entry === null) return [];
  if (entry instanceof FileSystemFileEntry || entry.isFile) {
    return [await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject))];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  const found = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...(await within(one)));
  }
}
