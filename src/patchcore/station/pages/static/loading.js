// Loading: images for many places, one at a time, so that neither the station nor a page that runs for weeks is flooded.

/** @type {[HTMLImageElement, string][]} */
const wanted = [];
const MOST = 60;
let busy = false;

/**
 * Load an image when it is its turn: the last one that was wanted first, and none that has left the page.
 * @param {HTMLImageElement} image
 * @param {string} address
 */
export function load(image, address) {
  wanted.push([image, address]);
  if (wanted.length > MOST) wanted.shift();
  if (!busy) next();
}

async function next() {
  busy = true;
  await new Promise((resolve) => setTimeout(resolve, 0)); // so that it is in the page
  for (let one = wanted.pop(); one; one = wanted.pop()) {
    const [image, address] = one;
    if (!image.isConnected) continue;
    const begin = performance.now();
    await put(image, address);
    const took = performance.now() - begin;
    await new Promise((resolve) => setTimeout(resolve, took < 60 ? 0 : Math.min(took, 1500)));
  }
  busy = false;
}

/**
 * Load an image now; whether it came.
 * @param {HTMLImageElement} image
 * @param {string} address
 * @returns {Promise<boolean>}
 */
export function put(image, address) {
  return new Promise((resolve) => {
    image.onload = () => resolve(true);
    image.onerror = () => resolve(false);
    image.src = address;
    setTimeout(() => resolve(false), 20000);
  });
}
