# Two commands: `make run` and `make test`. Everything they need is fetched into .tools and .venv; the system's
# Python is only asked to begin. The work itself is in tools/.

PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$each" && exit; done; \
	echo no-python)
SETUP = $(PYTHON) tools/bootstrap.py

.DEFAULT_GOAL := help
.PHONY: help run setup test quick console clean python-3.11
.NOTPARALLEL:

help: ## this list
	@echo "Paifang: gates, tickets and evacuation of a scenic area. First try 'make run'."
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' Makefile | while IFS='@' read -r name does; do \
		printf '%-16s%s\n' "$$name" "$$does"; done

run: setup ## set up, then start the server with a simulated site; ARGS="--seconds 30" is passed on
	@PYTHONUNBUFFERED=1 exec .venv/bin/paifang run $(ARGS)

setup: python-3.11 ## set up only: .tools, .venv and the console page; later starts see that nothing changed
	@$(SETUP) run

test: python-3.11 ## set up what the tests need, then run every check and every test (under an hour)
	@$(PYTHON) tools/debian.py
	@$(SETUP) test
	@.venv/bin/python tools/lanes.py all

quick: python-3.11 ## the everyday part: linters, types, contracts and the quick tests (under 10 minutes)
	@$(SETUP) test
	@.venv/bin/python tools/lanes.py quick

console: python-3.11 ## build the console page again when its sources changed
	@$(SETUP) run

clean: ## remove everything that make has made; your site's data is elsewhere and stays
	rm -rf .tools .venv admin_ws/static admin_ws/console/node_modules dist
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python-3.11:
	@if [ "$(PYTHON)" = no-python ]; then \
		echo "Python 3.11 or later is needed and none was found; on Debian: apt-get install python3" >&2; exit 1; fi
