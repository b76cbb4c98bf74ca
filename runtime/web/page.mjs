// The page: images are chosen or dropped, and each gets a card with its verdict and heat map.

import { defect } from './regions.mjs';
import { load } from './score.mjs';

const status = document.querySelector('#status');
const cards = document.querySelector('#cards');
const input = document.querySelector('input');
const folder = new URLSearchParams(location.search).get('model') ?? 'model';
let queue = Promise.resolve();

const model = await load(folder).catch((error) => {
  status.textContent = `No model: ${error.message}`;
  throw error;
});
const { bank, threshold } = model.manifest;
const sources = bank.images ?? bank.pictures; // exports of 0.1.0 call them so
status.textContent = `Ready. ${bank.rows} patches of ${sources.length} good images; ` +
  (threshold === null ? 'no threshold.' : `threshold ${threshold.toPrecision(4)}.`);
input.disabled = false;

input.addEventListener('change', () => add(input.files));
document.addEventListener('dragover', (event) => event.preventDefault());
document.addEventListener('drop', (event) => {
  event.preventDefault();
  add(event.dataTransfer.files);
});

function add(files) {
  for (const file of files) queue = queue.then(() => show(file)); // one after the other, in order
}

async function show(file) {
  const card = cards.appendChild(document.createElement('figure'));
  const caption = document.createElement('figcaption');
  try {
    const result = await model.predict(file);
    card.append(await heat(file, result));
    card.className = result.decision;
    const verdict = document.createElement('strong');
    verdict.textContent = result.decision;
    const figures = [`score ${result.score.toPrecision(4)}`];
    if (!Number.isNaN(result.normalised)) figures.push(`normalised ${result.normalised.toFixed(3)}`);
    if (result.coverage < 1) figures.push(`${(100 * result.coverage).toFixed(0)} % looked at`);
    caption.append(verdict, ` ${file.name}: ${figures.join(', ')}, ${result.milliseconds.toFixed(0)} ms`);
  } catch (error) {
    card.className = 'unread';
    caption.textContent = `${file.name}: ${error.message}`;
  }
  card.append(caption);
}

// The image, almost grey, under the map, in the colours and on the scale of `Result.overlay`: from the pixel threshold to
// full colour at 1.6 times, with a line around the defect if it fails.
const COLOURS = [[255, 237, 120], [253, 150, 40], [215, 48, 31], [120, 0, 40]];

async function heat(file, { map, height, width, decision }) {
  const canvas = Object.assign(document.createElement('canvas'), { height, width });
  const context = canvas.getContext('2d');
  context.drawImage(await createImageBitmap(file), 0, 0);
  const image = context.getImageData(0, 0, width, height);
  const threshold = model.manifest.pixel_threshold ?? Infinity;
  const region = decision === 'fail' ? defect(map, width, threshold) : new Uint8Array(map.length);
  const over = (x, y) => x >= 0 && y >= 0 && x < width && y < height && region[y * width + x] === 1;
  const line = Math.max(1, Math.round(Math.min(width, height) / 200));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = 4 * (y * width + x);
      const strength = Math.min(Math.max((map[y * width + x] / threshold - 1) / 0.6, 0), 1) || 0; // NaN becomes 0
      const stop = Math.min(Math.floor(3 * strength), 2);
      const alpha = 0.75 * Math.sqrt(strength);
      const grey = 0.25 * (image.data[at] + image.data[at + 1] + image.data[at + 2]);
      const around = [[line, 0], [-line, 0], [0, line], [0, -line]].map(([dx, dy]) => over(x + dx, y + dy));
      const edge = over(x, y) ? around.includes(false) && 0 : around.includes(true) && 255;
      for (let c = 0; c < 3; c += 1) {
        const colour = COLOURS[stop][c] + (3 * strength - stop) * (COLOURS[stop + 1][c] - COLOURS[stop][c]);
        const calm = grey + 0.25 * image.data[at + c];
        image.data[at + c] = edge === false ? calm * (1 - alpha) + colour * alpha : edge;
      }
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
