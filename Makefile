SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
READY := $(VENV)/.inril-ready
BUILT := $(VENV)/.inril-built
TOOLS := $(VENV)/.inril-tools
INTERFACES := $(wildcard ros2_ws/src/*_msgs/*/*.msg ros2_ws/src/*_msgs/*/*.srv ros2_ws/src/*_msgs/CMakeLists.txt)
PACKAGES := $(wildcard ros2_ws/src/*/package.xml ros2_ws/src/*/setup.py launch/*.launch.py)
EXPERIMENT ?= bench/insert_leg.yaml
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.DEFAULT_GOAL := help
.PHONY: help setup extras readers demo test lint bench bench-graph clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(BUILT)  ## install into .venv and build the ROS packages (a second time: nothing to do)

extras: $(BUILT)  ## also install what others made: Gymnasium, robosuite and furniture-bench (about 260 MB)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[gym,robosuite,furniture]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $$(grep -E '^(robosuite|furniture-bench)==' constraints.txt)

readers:  ## install the readers that check exports, lerobot and robomimic, into .venv-readers (about 2 GB)
	@$(PYTHON) tools/public_readers.py make .venv-readers

demo: $(BUILT)  ## record demos, pre-train, fine-tune on the simulated arm over ROS 2, write a report (OBS=pixels: from pictures)
	@$(BIN)/inril demo $(if $(OBS),--obs $(OBS)) $(if $(PART_NOISE),--part-noise '$(PART_NOISE)')

test: $(BUILT) $(TOOLS) lint  ## run every check and test
	@$(BIN)/python -m pytest tests --numprocesses=auto --maxprocesses=4 --dist=loadfile

lint: $(BUILT) $(TOOLS)  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(BUILT)  ## the slow evidence: simulator speed, experiments (resumes; EXPERIMENT=bench/smoke.yaml for one)
	@$(BIN)/python -m inril_core.bench.cell_speed
	@for file in $(EXPERIMENT); do $(BIN)/inril bench $$file || exit 1; done
	@$(BIN)/python -m inril_core.bench.speed --compile

bench-graph: $(BUILT)  ## what a message costs a node, what a control step costs each node, and how punctual it is
	@$(BIN)/python -m inril_common.executor_benchmark
	@$(BIN)/python -m inril_bringup.graph_benchmark --profile --out docs/results/graph.md
	@$(BIN)/python -m inril_bringup.weights_benchmark

clean:  ## remove the virtual environment and everything built (runs/ stays)
	rm -rf $(VENV) ros2_ws/build ros2_ws/install ros2_ws/log

$(READY): constraints.txt pyproject.toml tools/repair_ros_wheels.py tools/system_packages.sh
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed: sudo apt-get install python3 python3-venv python3-dev"; exit 1; }
	@bash tools/system_packages.sh $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing Python packages into .venv (2 to 4 minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(grep '^setuptools==' constraints.txt)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[ros,bench,data]'
	@$(BIN)/python tools/repair_ros_wheels.py
	@touch $@

$(TOOLS): $(READY)
	@echo "installing what the tests need, devices and drivers among it (about 1 minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

$(BUILT): $(READY) $(INTERFACES) $(PACKAGES)
	@echo "building the ROS packages (about 1 minute)"
	@cd ros2_ws && MAKEFLAGS=-j$$(nproc) PATH="$(BIN):$$PATH" AMENT_PREFIX_PATH=$(VENV) CMAKE_PREFIX_PATH=$(VENV) \
	  $(BIN)/colcon --log-base log build --merge-install --install-base $(VENV) --symlink-install \
	  --event-handlers console_direct- --cmake-args -DBUILD_TESTING=OFF > build.log 2>&1 || { tail -40 build.log; exit 1; }
	@$(BIN)/python tools/link_ros_packages.py
	@touch $@
