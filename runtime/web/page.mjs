// The page: pictures are chosen or dropped, and each gets a card with its verdict and heat map.

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
status.textContent = `Ready. ${bank.rows} patches of ${bank.pictures.length} good pictures; ` +
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

// The picture with the map over it: from nothing at 0 to full colour at twice the pixel threshold.
async function heat(file, { map, height, width }) {
  const canvas = Object.assign(document.createElement('canvas'), { height, width });
  const context = canvas.getContext('2d');
  context.drawImage(await createImageBitmap(file), 0, 0);
  const full = 2 * (model.manifest.pixel_threshold ?? map.reduce((a, b) => (b > a ? b : a), 0) / 2) || 1;
  const layer = new ImageData(width, height);
  map.forEach((value, at) => {
    const share = Math.min(Math.max(value / full, 0), 1) || 0; // NaN, outside a crop, becomes 0
    layer.data.set([255, 220 * Math.max(0, 2 * share - 1), 0, 200 * share * share], 4 * at);
  });
  context.drawImage(await createImageBitmap(layer), 0, 0);
  return canvas;
}
