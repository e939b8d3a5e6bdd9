PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo app web test lint style licences sbom locks clean

demo: .venv/installed-demo  ## animate a sample portrait: out/demo.mp4 and out/contact-sheet.png
	$(BIN)/liveportrait demo -o out --overwrite

app: .venv/installed-web  ## the web page: animate and edit portraits in a browser
	$(BIN)/liveportrait app

web: .venv/installed-onnx  ## dist/: the page that animates in the browser itself, for any static host (needs npm)
	npm ci --ignore-scripts --no-audit --no-fund --prefix web
	$(BIN)/python -m liveportrait.apps.web.build dist --packages web/node_modules

test: style  ## everything that runs without a GPU; takes minutes
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: style
	$(BIN)/mypy

style: .venv/installed-test
	$(BIN)/ruff check src tests scripts benchmarks integrations docs/notebooks
	$(BIN)/ruff format --check src tests scripts benchmarks integrations docs/notebooks

licences: .venv/installed-web  ## every installed package and its licence; fails if one is not allowed
	$(BIN)/python scripts/list_licences.py web --check

sbom: .venv/installed-web  ## out/sbom.json: every installed package, as CycloneDX
	$(PYTHON) -m venv .venv-tools && .venv-tools/bin/pip install --quiet cyclonedx-bom
	mkdir -p out && .venv-tools/bin/cyclonedx-py environment $(BIN)/python --output-file out/sbom.json

locks:  ## regenerate locks/*.txt after the pins change
	$(PYTHON) -m venv .venv-tools && .venv-tools/bin/pip install --quiet uv
	PATH="$(CURDIR)/.venv-tools/bin:$$PATH" $(PYTHON) scripts/make_lock.py

.venv/installed-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv .venv-tools out build dist web/node_modules
