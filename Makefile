# make demo   real solar cells, from pictures to verdicts, in a virtual environment of its own
# make test   the whole suite, offline, after installing
# make check  formatting, lint and types
# make wheel  builds the wheel and the source archive, and uses the wheel in a clean environment
# make docs   docs/reference from the code
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check wheel docs clean

demo: .venv/installed
	$(BIN)/python -m patchcore demo -o demo_out

test: .venv/tested
	$(BIN)/python -m pytest

check: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: .venv/tested
	rm -rf dist .wheel-env
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv .wheel-env
	.wheel-env/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	.wheel-env/bin/patchcore fit tests/pictures/hazelnut -o dist/check.patchcore --set ratio=0.02
	.wheel-env/bin/patchcore predict dist/check.patchcore tests/pictures/hazelnut/test/colour -o dist/check --json
	rm -rf .wheel-env dist/check dist/check.patchcore

docs: .venv/tested
	$(BIN)/python docs/generate.py

# pip, and not a faster installer: it takes the CPU and CUDA builds that the machine's own
# configuration offers. constraints.txt pins what has been tested together.
.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	touch $@

.venv/tested: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@ .venv/installed

clean:
	rm -rf .venv .wheel-env dist demo_out
