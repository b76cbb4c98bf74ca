# make demo   real solar cells, from images to verdicts, in a virtual environment of its own
# make demo-station   a running station with a model and live images from a folder
# make quick  a few tests of everything, in less than a minute after installing
# make test   the whole suite, offline, after installing
# make cover  the same, and how much of src/ it runs: up to twice the time before Python 3.12
# make check  formatting, lint and types
# make hooks  checks of what changes, before each commit
# make wheel  builds both distributions, twice to the same bytes, and uses each wheel in a clean environment
# make release   a dry run of a release: what is missing for it, and dist/ with all that would be published
# make web    what the browser page needs, from npm
# make pages  the station's scripts: what checks them, from npm, and their types
# make docs   docs/reference, and the drawing of the rooms, from the code
# make site   the documentation as pages, in site/
PYTHON ?= python3
BIN := .venv/bin

# The main path: a rule or property of each room, then fit, predict, save and load by every interface, one command
# of each kind, and one export.
QUICK := \
  tests/test_imports.py::test_imports_point_from_faces_to_the_detector_along_the_pipeline_to_maths \
  tests/test_imports.py::test_nothing_imports_a_face_but_the_face_itself \
  tests/recipe/test_recipe.py \
  tests/test_result.py \
  tests/lightning/test_v0.py::test_a_stock_trainer_fits_and_tests_it \
  tests/export/test_axes.py::test_short_forms_are_never_farther_apart_than_their_points \
  tests/maths/test_embedding.py \
  tests/maths/test_maps.py \
  tests/maths/test_resize.py \
  tests/maths/test_scoring.py \
  tests/maths/test_thresholds.py \
  tests/maths/test_tiling.py::test_an_image_that_is_cut_and_merged_is_the_image \
  tests/maths/test_coreset.py::test_picks_are_those_of_the_plain_greedy \
  tests/maths/test_neighbours.py::test_the_nearest_rows_are_those_of_brute_force \
  tests/contract/test_interfaces.py::test_a_defect_scores_higher_than_a_good_part_and_the_map_shows_it \
  tests/contract/test_interfaces.py::test_saved_and_loaded_it_gives_the_same_scores \
  tests/cli/test_fit.py::test_fit_writes_the_detector_that_the_library_makes \
  tests/cli/test_predict.py::test_every_image_gets_a_line_of_json \
  tests/cli/test_export.py::test_a_detector_is_exported_and_verified

.PHONY: demo demo-station quick test cover check hooks wheel release web pages docs site clean

demo: .venv/installed
	$(BIN)/python -m patchcore demo -o demo_out

# With a browser at http://127.0.0.1:8000/ ; the password of admin is printed once.
demo-station: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,station]'
	$(BIN)/python -m patchcore serve --demo --data demo_station

# GOMP_SPINCOUNT as the commands set it: docs/decisions/0006. Most of the suite waits for one core, so it runs twice;
# a process that is done takes tests from the other. PYTHONDONTWRITEBYTECODE, where it is set, would have the hundred
# processes that tests start compile all of src/ again.
quick: .venv/tested
	GOMP_SPINCOUNT=1000 $(BIN)/python -m pytest $(QUICK)

SUITE := GOMP_SPINCOUNT=1000 OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest \
  --numprocesses=2 --dist=worksteal --durations=30

test: .venv/tested
	$(SUITE)

cover: .venv/tested
	$(SUITE) --cov=src/patchcore

check: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

hooks: .venv/tested
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pre-commit
	$(BIN)/pre-commit install

wheel: .venv/tested
	rm -rf dist .wheel-env
	$(BIN)/python tools/release.py --build -o dist
	$(PYTHON) -m venv .wheel-env
	.wheel-env/bin/python -m pip install --quiet --constraint constraints.txt dist/patchcore-*.whl
	.wheel-env/bin/patchcore fit tests/images/hazelnut -o dist/check.patchcore --set ratio=0.02
	.wheel-env/bin/patchcore predict dist/check.patchcore tests/images/hazelnut/test/colour -o dist/check --json
	rm -rf .wheel-env
	# Exported here, run where there is no torch, by each engine.
	set -e; for engine in onnx:onnxruntime openvino:openvino; do \
	  $(BIN)/patchcore export dist/check.patchcore -o dist/check.$${engine%:*} --format $${engine%:*}; \
	  $(PYTHON) -m venv .wheel-env; \
	  wheel="$$(ls $$PWD/dist/patchcore_runtime-*.whl)[$${engine#*:}]"; \
	  .wheel-env/bin/python -m pip install --quiet --constraint constraints.txt "$$wheel"; \
	  .wheel-env/bin/python -m patchcore_runtime dist/check.$${engine%:*} --verify tests/images/hazelnut/test/colour/*; \
	  if .wheel-env/bin/python -c "import torch" 2>/dev/null; then echo "torch is there"; exit 1; fi; \
	  rm -rf .wheel-env dist/check.$${engine%:*}; \
	done
	rm -rf dist/check dist/check.patchcore

release: .venv/tested
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[release]'
	$(BIN)/python tools/release.py

web: runtime/web/node_modules/.package-lock.json

runtime/web/node_modules/.package-lock.json: runtime/web/package-lock.json
	cd runtime/web && npm ci --ignore-scripts --no-audit --no-fund

pages: tests/station/pages/node_modules/.package-lock.json
	cd tests/station/pages && npm run --silent types

tests/station/pages/node_modules/.package-lock.json: tests/station/pages/package-lock.json
	cd tests/station/pages && npm ci --ignore-scripts --no-audit --no-fund

docs: .venv/tested
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/rooms.py
	$(BIN)/python docs/drawings.py

# Strict: a page that a link leads to must be there. Nothing in it comes from outside.
site: .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt 'zensical>=0.0.73,<0.1'
	$(BIN)/zensical build --strict --clean

# pip, and not a faster installer: it takes the CPU and CUDA builds that the machine's own
# configuration offers. constraints.txt pins what has been tested together.
.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	touch $@

.venv/tested: .venv/bin/python pyproject.toml runtime/pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]' --editable runtime
	touch $@ .venv/installed

clean:
	rm -rf .venv .wheel-env dist demo_out demo_station site .cache runtime/web/node_modules tests/station/pages/node_modules
