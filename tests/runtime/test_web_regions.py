"""The outline on the page: the same defect as in Python. Node runs the page's module."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from patchcore_runtime import regions
from scipy import ndimage

MODULE = Path(__file__).parents[2] / "runtime" / "web" / "regions.mjs"
SCRIPT = """
const { defect } = await import(process.argv[1]);
const cases = JSON.parse(await new Response(process.stdin).text());
const values = (map) => Float32Array.from(map, (value) => value ?? NaN);
console.log(JSON.stringify(cases.map(([map, width, threshold]) => [...defect(values(map), width, threshold)])));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node on this machine")
def test_a_defect_is_found_as_in_python():
    rng, cases, expected = np.random.default_rng(0), [], []
    for number in range(12):
        noise = ndimage.gaussian_filter(rng.normal(size=(31, 40 + number % 2)), 1 + number / 4)
        values = (noise / noise.std()).astype(np.float32)
        values[:, : number % 3] = np.nan
        for threshold in (0.5, 1.5, 9.0):
            cases.append([np.where(np.isnan(values), None, values).ravel().tolist(), values.shape[1], threshold])
            expected.append(regions.defect(values, threshold).ravel())
    command = ["node", "--input-type=module", "-e", SCRIPT, MODULE.as_uri()]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for found, wanted in zip(json.loads(done.stdout), expected, strict=True):
        assert wanted.any()
        assert (np.array(found, bool) == wanted).mean() > 0.998  # but for rounding
