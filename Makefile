# make demo   real solar cells, from images to verdicts, in a virtual environment of its own
# make test   the whole suite, offline, after installing
# make check  formatting, lint and types
# make wheel  builds both distributions, and uses each wheel in a clean environment
# make web    what the browser page needs, from npm
# make docs   docs/reference, and the drawing of the rooms, from the code
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check wheel web docs clean

demo: .venv/installed
	$(BIN)/python -m patchcore demo -o demo_out

test: .venv/tested
	GOMP_SPINCOUNT=1000 $(BIN)/python -m pytest  # as the commands do: docs/decisions/0006

check: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: .venv/tested
	rm -rf dist .wheel-env
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m build --wheel --outdir dist runtime
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

web: runtime/web/node_modules/.package-lock.json

runtime/web/node_modules/.package-lock.json: runtime/web/package-lock.json
	cd runtime/web && npm ci --ignore-scripts --no-audit --no-fund

docs: .venv/tested
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/rooms.py

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
	rm -rf .venv .wheel-env dist demo_out runtime/web/node_modules
