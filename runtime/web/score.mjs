// Scores images in a browser with a folder that `patchcore export --format onnx` wrote. Everything between pixels and
// verdict is in the graph, so that it cannot differ here.

import * as ort from './node_modules/onnxruntime-web/dist/ort.wasm.min.mjs';

ort.env.wasm.wasmPaths = new URL('./node_modules/onnxruntime-web/dist/', import.meta.url).href;
const MAX_PIXELS = 100e6; // as in Python
const VERDICTS = ['pass', 'unsure', 'fail'];

// `folder`: where the export is served, relative to the page.
export async function load(folder) {
  const base = new URL(folder.endsWith('/') ? folder : `${folder}/`, document.baseURI);
  if (!globalThis.crypto?.subtle) {
    throw new Error('a browser checks files by SHA-256 only on https pages, and on those of this machine (localhost).');
  }
  const sums = new TextDecoder().decode(await bytes(new URL('SHA256SUMS', base)));
  const manifest = JSON.parse(new TextDecoder().decode(await checked(base, 'manifest.json', sums)));
  if (manifest.kind !== 'patchcore-export' || manifest.format !== 1 || manifest.engine !== 'onnx') {
    throw new Error(`${base}: expected an export of format 1 for onnx; make one with patchcore export --format onnx.`);
  }
  if (manifest.threshold !== null && !Number.isFinite(manifest.threshold)) {
    throw new Error('manifest.json: damaged (a threshold that is no number). Copy the whole folder again.');
  }
  const graph = await checked(base, manifest.graph, sums);
  const session = await ort.InferenceSession.create(graph, { executionProviders: ['wasm'] });
  return { manifest, predict: (given) => predict(session, manifest, given) };
}

// A file of the export, as SHA256SUMS lists it.
async function checked(base, name, sums) {
  const file = await bytes(new URL(name, base));
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', file));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (!sums.split(/\r?\n/).includes(`${hex}  ${name}`)) {
    throw new Error(`${name}: altered or damaged (SHA-256). Copy the whole folder again, or export again.`);
  }
  return file;
}

async function bytes(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}.`);
  return new Uint8Array(await answer.arrayBuffer());
}

// `given`: a File or Blob, or {values: Float32Array, height, width, channels, type: 'uint8', 'uint16' or 'float32'}.
async function predict(session, manifest, given) {
  const { values, height, width, channels, type } = given instanceof Blob ? await decode(given) : given;
  const [tall, wide] = manifest.static ?? [height, width];
  if (height !== tall || width !== wide) {
    throw new Error(`of ${height} x ${width} pixels; this model was exported for ${tall} x ${wide} only (--static).`);
  }
  const image = new ort.Tensor('float32', values, [1, height, width, channels]);
  const range = new ort.Tensor('float32', Float32Array.from(manifest.value_ranges[type]), [2]);
  const begin = performance.now();
  const out = await session.run({ image, value_range: range });
  return {
    score: out.score.data[0],
    normalised: out.normalised.data[0],
    decision: VERDICTS[Number(out.decision.data[0])],
    threshold: manifest.threshold,
    lowerThreshold: manifest.lower_threshold ?? manifest.threshold,
    map: out.map.data, // height x width; NaN outside a crop
    coverage: out.coverage.data[0],
    height,
    width,
    milliseconds: performance.now() - begin,
  };
}

// The pixels of a file, R, G, B. A browser decodes into 8 bits and multiplies by alpha, so that images with more, or
// with transparency, would score otherwise than in Python: they are refused.
export async function decode(blob) {
  const head = new DataView(await blob.slice(0, 26).arrayBuffer());
  const start = head.byteLength > 24 ? head.getUint32(0).toString(16).padStart(8, '0') : '';
  if (!/^(89504e47|ffd8|424d|52494646)/.test(start)) {
    throw new Error('not a PNG, JPEG, BMP or WebP image. Others, such as TIFF, are read by Python.');
  }
  if (start === '89504e47' && head.getUint8(24) === 16) {
    throw new Error('a PNG of 16 bits, of which a browser keeps 8. Score it with Python or C++.');
  }
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' }).catch(() => {
    throw new Error('not an image that this browser can read.');
  });
  const { height, width } = bitmap;
  if (height * width > MAX_PIXELS) throw new Error(`of ${height} x ${width} pixels; the limit is ${MAX_PIXELS} in all.`);
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const values = new Float32Array(height * width * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    if (rgba[from + 3] !== 255) throw new Error('an image with transparency, whose colours a browser does not keep.');
    for (let channel = 0; channel < 3; channel += 1) values[to++] = rgba[from + channel];
  }
  return { values, height, width, channels: 3, type: 'uint8' };
}
