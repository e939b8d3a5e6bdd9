PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo app test lint clean

demo: .venv/installed-demo  ## animate a sample portrait: out/demo.mp4 and out/contact-sheet.png
	$(BIN)/liveportrait demo -o out --overwrite

app: .venv/installed-web  ## the web page: animate and edit portraits in a browser
	$(BIN)/liveportrait app

test: lint  ## everything that runs without a GPU, in minutes
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: .venv/installed-test
	$(BIN)/ruff check src tests scripts benchmarks integrations docs/notebooks
	$(BIN)/ruff format --check src tests scripts benchmarks integrations docs/notebooks
	$(BIN)/mypy

.venv/installed-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv out build dist
