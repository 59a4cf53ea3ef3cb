# Everything runs from .venv, which is built from Python >= 3.10 and a package index alone.
PYTHON ?= python3
RUN := .venv/bin/python
READY := .venv/.ready

.PHONY: help demo test test-host test-browser lint bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo          the demo actor speaks the demo sentence: out/demo.mp4, out/contact_sheet.png"
	@echo "make test          all tests that need no ComfyUI"
	@echo "make test-host     tests that need ComfyUI: COMFYUI_PATH=its checkout, COMFYUI_PYTHON=its interpreter"
	@echo "make test-browser  the same with its frontend in headless Chromium (CHROMIUM_PATH, BROWSER_SHOTS)"
	@echo "make lint          ruff"
	@echo "make bench         time per stage and peak memory"
	@echo "make clean         remove out/ and caches; .venv stays"

.venv: $(READY)

# torch and torchaudio come together from the default index: the CPU-only index has no torchaudio that fits its torch.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed, found " + sys.version)'
	test -x $(RUN) || $(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet torch==2.11.0 torchaudio==2.11.0
	$(RUN) -m pip install --quiet -e ".[dev,eval]"
	@touch $@

demo: $(READY)
	@mkdir -p out
	$(RUN) -m comfyui_mytalk sync demo/actor.mp4 demo/speech.wav -o out/demo.mp4
	$(RUN) -m scripts.contact_sheet demo/actor.mp4 out/demo.mp4 -o out/contact_sheet.png
	@echo "look at out/demo.mp4 and out/contact_sheet.png"

test: $(READY)
	$(RUN) -m pytest -q

# The host's own interpreter runs these, because the node tests import its modules: it needs `pip install -e .[dev]` too.
HOST := REQUIRE_HOST=1 $(or $(COMFYUI_PYTHON),$(RUN)) -m pytest -q

test-host:
	$(HOST) tests/nodes tests/host

test-browser:
	$(HOST) tests/browser

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

bench: $(READY)
	$(RUN) -m benchmarks.stages

clean:
	rm -rf out build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
