// Where the defect of an image that fails is, as the runtime in Python finds it (patchcore_runtime/regions.py): what is
// over the threshold, or if nothing is, the surroundings of the highest pixel that are about as high; each region as far
// as the map is at least half as high, above the image's median, as the region's peak.

const NEAR = 0.75; // as in the library

// A map of height times width values -> 1 where the defect is.
export function defect(map, width, threshold) {
  const known = map.filter((value) => !Number.isNaN(value)).sort();
  const middle = known.length >> 1;
  const base = known.length % 2 ? known[middle] : (known[middle - 1] + known[middle]) / 2;
  const top = known[known.length - 1];
  let inside = map.map((value) => value > threshold);
  if (!inside.includes(1)) {
    const near = base + NEAR * (top - base);
    inside = peaks(map, map.map((value) => value >= near), width).map((peak) => peak === top);
  }
  const highest = peaks(map, inside, width);
  return Uint8Array.from(map, (value, at) => inside[at] && value >= (base + highest[at]) / 2);
}

// The highest value of the region (pixels that share sides) that each pixel inside is in.
function peaks(map, inside, width) {
  const found = new Float32Array(map.length).fill(-Infinity);
  const seen = new Uint8Array(map.length);
  for (let start = 0; start < map.length; start += 1) {
    if (!inside[start] || seen[start]) continue;
    const region = [start];
    seen[start] = 1;
    let peak = -Infinity;
    for (let next = 0; next < region.length; next += 1) {
      const at = region[next];
      peak = Math.max(peak, map[at]);
      const column = at % width;
      for (const [beside, there] of [[at - width, at >= width], [at + width, at + width < map.length],
        [at - 1, column > 0], [at + 1, column + 1 < width]]) {
        if (there && inside[beside] && !seen[beside]) {
          seen[beside] = 1;
          region.push(beside);
        }
      }
    }
    for (const at of region) found[at] = peak;
  }
  return found;
}
