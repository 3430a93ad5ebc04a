SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

ARGS ?=
FUZZTIME ?= 30s
TOOL := go tool -modfile=tools/go.mod
BUILD := go build -o bin/ ./cmd/{ledger,commandsvc,projector,querysvc} github.com/nats-io/nats-server/v2

# Sources of the UI build; directories count too, so that a deletion shows.
UI_SOURCES := $(shell find ui/src ui/public ui/index.html ui/*.json ui/*.ts ui/*.js 2>/dev/null)
NODE_OK := $(shell npm --version >/dev/null 2>&1 && node -p 'parseInt(process.versions.node) >= 20')

STARTED := $(shell date +%s)
heading = @printf '\n\033[1m== %s\033[0m\n' '$(1)'

.PHONY: help setup ui build run test bench chaos lint generate fuzz clean FORCE

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

setup: ## Install what running and testing need (as root; else says what is missing)
	scripts/setup.sh test

# --- Building and running ----------------------------------------------------

run: run-setup $(if $(filter true,$(NODE_OK)),ui) bin/ledger ## Start everything on http://127.0.0.1:8080, data in ./data (ARGS=... for more)
	bin/ledger up $(ARGS)

build: ## Build every program into bin/
	$(BUILD)

ui: .stamps/ui ## Build the web UI into ui/dist, if its sources changed

.PHONY: run-setup bin/ledger
run-setup:
	@scripts/setup.sh run

bin/ledger:
	go build -o bin/ ./cmd/ledger

# A stamp counts only while what it stands for is still there.
.stamps/npm: ui/package.json ui/package-lock.json $(if $(wildcard ui/node_modules/.package-lock.json),,FORCE)
	$(call heading,UI: packages)
	cd ui && npm ci --no-audit --no-fund
	@mkdir -p $(@D) && touch $@

.stamps/ui: .stamps/npm $(UI_SOURCES) $(if $(wildcard ui/dist/index.html),,FORCE)
	$(call heading,UI: build)
	cd ui && npm run build
	@mkdir -p $(@D) && touch $@ ui/dist/.gitkeep

# --- Checking ----------------------------------------------------------------

test: test-setup lint test-generated test-ui ui test-build test-go test-e2e ## Check everything: lint, generated code, UI, Go (race detector), browser
	@printf '\nAll passed in %d s\n' $$(($$(date +%s) - $(STARTED)))

.PHONY: test-setup test-generated test-ui test-build test-go test-e2e
test-setup:
	$(call heading,Setup)
	@scripts/setup.sh test

lint: ## Check formatting, go vet, staticcheck
	$(call heading,Lint)
	@unformatted=$$(find . -name '*.go' -not -path './ui/node_modules/*' -exec gofmt -l {} +); \
	if [[ -n $$unformatted ]]; then printf 'not gofmt-ed:\n%s\n' "$$unformatted"; exit 1; fi
	go vet ./...
	$(TOOL) staticcheck ./...

test-generated: .stamps/npm
	$(call heading,Generated code is up to date)
	scripts/check-generated.sh

test-ui: .stamps/npm
	$(call heading,UI: types and unit tests)
	cd ui && npm run check && npm test

test-build:
	$(call heading,Build)
	$(BUILD)

test-go:
	$(call heading,Go tests with the race detector)
	go test -race -timeout 15m ./...

test-e2e: .stamps/ui
	$(call heading,Browser tests)
	cd ui && npm run e2e

fuzz: ## Run each fuzz target for FUZZTIME (default 30s)
	@go test -list '^Fuzz' ./... | \
	awk '/^Fuzz/ { names[n++] = $$1 } /^ok/ { while (n) print $$2, names[--n] }' | \
	while read -r package name; do \
		go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$package" </dev/null; \
	done

# Has a change made it slower? go build -o before ./bench; then, with the change: go run ./bench --against=before
# Five million events projected and rebuilt: make bench ARGS='--only="projecting and rebuilding" --scale=10 --rounds=1'
bench: ## Measure throughput, latency, memory and starts against peers; writes bench/results.md
	@scripts/setup.sh bench || echo "Going on without Redis: its rows will say so."
	go run ./bench $(ARGS)
	go run ./bench/queries

chaos: ## The ledger under faults, the long form: power cuts, kills, pauses, lost connections (an hour)
	CHAOS=long go test -timeout 90m -count=1 -v -p 1 ./internal/chaos/...

# --- Housekeeping ------------------------------------------------------------

generate: .stamps/npm ## Regenerate the Go and TypeScript types from api/openapi.yaml
	$(TOOL) oapi-codegen -config api/oapi-codegen.yaml api/openapi.yaml
	cd ui && npm run generate

clean: ## Remove what was built and installed; data/ stays
	rm -rf bin .stamps ui/node_modules
	find ui/dist -mindepth 1 -not -name .gitkeep -delete
