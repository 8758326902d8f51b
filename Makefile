# All that is needed to build, try and test Rollcall: Go, make, git and a POSIX
# shell (and a C compiler for the race detector, so for `make test`). Nothing is
# installed outside this directory and Go's caches.

ifeq ($(shell command -v go 2>/dev/null),)
$(error Go is not on the PATH: Rollcall needs Go 1.26 or newer, see https://go.dev/dl)
endif

# Everything but the race detector does without cgo, and so shares what it
# compiles: half of the first run is compiling.
export CGO_ENABLED := 0

BIN   := bin
TOOLS := $(BIN)/tools
# Where etcd, kube-apiserver and kubectl are, for what runs them. The choice is
# explained on stderr; see hack/assets.
ASSETS = echo "Looking for etcd and kube-apiserver" >&2 && go run ./hack/assets
# `go build` that shows its progress.
BUILD  = go run ./hack/build
# The container engine that `make image` uses.
ENGINE ?= docker
IMAGE  ?= docker.io/rollcall-dev/rollcall:0.1.0
# Arguments for `make demo`.
ARGS   ?=
# How long each part is away in `make failstatic`.
FOR    ?= 5m
# How often `make e2e-power` powers a node off.
ROUNDS ?= 30

.DEFAULT_GOAL := help

.PHONY: help
help: ## This list.
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/rollcall, and whatever else cmd/ holds.
	@$(BUILD) -what Rollcall -o $(BIN)/ ./cmd/...

.PHONY: demo
demo: ## The story of docs: a server hangs, its clients are moved. ARGS=--once ends by itself.
	@# exec: the demo itself gets the signals, and cleans up.
	@dir=$$($(ASSETS)) && \
		$(BUILD) -what "Rollcall and its demo" -o $(BIN)/ ./cmd/... ./hack/demo && \
		KUBEBUILDER_ASSETS="$$dir" exec $(BIN)/demo $(ARGS)

.PHONY: assets
assets: ## etcd, kube-apiserver and kubectl for the demo and the tests; prints their directory.
	@$(ASSETS)

.PHONY: generate
generate: $(TOOLS)/controller-gen ## Deep copies, CRDs and apply configurations, from api/v1alpha1.
	hack/generate .

.PHONY: verify-generated
verify-generated: $(TOOLS)/controller-gen ## Fails when `make generate` would change something.
	hack/verify-generated

.PHONY: chart
chart: $(TOOLS)/helm ## What charts/ and config/default have from elsewhere: CRDs, roles, the README's values, rendered objects.
	HELM=$(TOOLS)/helm go run ./hack/chart

.PHONY: verify-chart
verify-chart: $(TOOLS)/helm ## Fails when `make chart` would change something.
	HELM=$(TOOLS)/helm go run ./hack/chart -check

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## golangci-lint, with .golangci.yml.
	$(TOOLS)/golangci-lint run

.PHONY: fmt
fmt: $(TOOLS)/golangci-lint ## Formats everything.
	$(TOOLS)/golangci-lint fmt

.PHONY: vet
vet: ## go vet.
	go vet ./...

.PHONY: test-fast
test-fast: ## Unit tests and cheap lint: no API server, no C compiler, no golangci-lint.
	hack/check-format
	go vet ./...
	go test -short ./...

.PHONY: compiler
compiler:
	@command -v "$$(CGO_ENABLED=1 go env CC)" >/dev/null || \
		{ echo "make test needs a C compiler for the race detector: install gcc, or set CC" >&2; exit 1; }

# One package at a time: many of them run processes and watch clocks, and would
# only take the machine from one another.
.PHONY: test
test: compiler lint vet verify-generated verify-chart ## Everything, with -race, against a real etcd and kube-apiserver.
	@CGO_ENABLED=1 go build -race ./...
	@dir=$$($(ASSETS)) && set -x && KUBEBUILDER_ASSETS="$$dir" CGO_ENABLED=1 go test -race -p 1 -timeout 20m ./...

.PHONY: failstatic
failstatic: ## Every part of an installation away for 5 minutes, one after the other (FOR=20s is quicker).
	@dir=$$($(ASSETS)) && set -x && KUBEBUILDER_ASSETS="$$dir" go test ./test/failstatic -count 1 -v -timeout 2h -args -for $(FOR)

.PHONY: bench
bench: ## Every benchmark.
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-server
bench-server: ## Rollcall, Mosquitto and mochi-mqtt under one load; writes docs/benchmarks.md. ARGS="-rounds 1" is quick.
	@dir=$$($(ASSETS)) && \
		$(BUILD) -what "what measures" -o $(BIN)/ ./hack/bench && \
		$(BUILD) -what "mochi-mqtt" -C hack/bench/mochi -o $(BIN)/bench-mochi . && \
		KUBEBUILDER_ASSETS="$$dir" exec $(BIN)/bench -o docs/benchmarks.md $(ARGS)

.PHONY: bench-agent
bench-agent: ## What a node's agent costs at rest, and with its sampler beside 100 pods with 10,000 connections (as root); takes 4 minutes.
	@dir=$$($(ASSETS)) && \
		$(BUILD) -what Rollcall -o $(BIN)/ ./cmd/rollcall && \
		KUBEBUILDER_ASSETS="$$dir" go test ./test/cost -count 1 -run '^$$' -bench . -benchtime 1x -v -timeout 30m $(ARGS)

.PHONY: bench-million
bench-million: ## What a million sessions cost etcd, at rest and coming and going; writes docs/benchmarks.md. ARGS="-sessions 10000" is quick.
	@dir=$$($(ASSETS)) && \
		$(BUILD) -what "what measures" -o $(BIN)/ ./hack/bench && \
		KUBEBUILDER_ASSETS="$$dir" exec $(BIN)/bench -sessions 1000000 -o docs/benchmarks.md $(ARGS)

.PHONY: bench-adaptive
bench-adaptive: ## The adaptive heartbeats on simulated networks; writes docs/assets/adaptive.md and .svg.
	go run ./hack/bench-adaptive

.PHONY: bench-leaving
bench-leaving: ## 10,000 clients leave one server, stopped or drained: arrivals at the others; writes docs/assets/leaving-*.csv.
	@dir=$$($(ASSETS)) && set -x && KUBEBUILDER_ASSETS="$$dir" ROLLCALL_LEAVING="$(CURDIR)/docs/assets" \
		go test ./client -run '^$$' -bench Leaving -benchtime 1x -v
	$(MAKE) docs-heartbeats

.PHONY: docs-heartbeats
docs-heartbeats: ## The table of costs and the plots of docs/heartbeats.md.
	go run ./hack/heartbeats

.PHONY: sim
sim: ## The simulator's library against its bars, other judges beside it, and thousands of random scenarios.
	go run ./hack/sim $(ARGS)
	go test ./internal/sim -count 1 -run TestProperties -rapid.checks 1000

.PHONY: image
image: ## The container image, with the engine (ENGINE=docker), ko, or neither: then bin/rollcall-image.tar. Prints its size.
	@if $(ENGINE) info >/dev/null 2>&1; then set -x; \
		$(ENGINE) build -t $(IMAGE) $(if $(BASE_BUILD),--build-arg BASE_BUILD=$(BASE_BUILD)) \
			$(if $(BASE_RUN),--build-arg BASE_RUN=$(BASE_RUN)) . && \
		$(ENGINE) image inspect --format '$(IMAGE): {{.Size}} bytes' $(IMAGE); \
	elif command -v ko >/dev/null; then set -x; \
		KO_DOCKER_REPO=$${KO_DOCKER_REPO:-rollcall-dev} ko build --base-import-paths --tarball $(BIN)/rollcall-image.tar --push=false ./cmd/rollcall && \
		ls -l $(BIN)/rollcall-image.tar; \
	else \
		go run ./hack/image -o $(BIN)/rollcall-image.tar -t $(IMAGE); \
	fi

.PHONY: e2e
e2e: ## The end-to-end suite, on the cluster of KUBECONFIG or on a lab of its own (docs/e2e.md). ARGS="-loss 20s" is quicker.
	hack/e2e '^TestFaults$$' $(ARGS)

.PHONY: e2e-services
e2e-services: ## Services that are not Rollcall's own, with 300 clients each, whose pods hang in every way.
	hack/e2e '^TestServices$$' $(ARGS)

.PHONY: e2e-power
e2e-power: ## Nodes are powered off 30 times (ROUNDS), and how long each took to be Dead is listed.
	hack/e2e '^TestPower$$' -rounds $(ROUNDS) $(ARGS)

.PHONY: clean
clean: ## Removes what was built, but for the tools, etcd and kube-apiserver.
	find $(BIN) -mindepth 1 -maxdepth 1 ! -name k8s ! -name tools -exec rm -rf {} + 2>/dev/null || true

.PHONY: clean-all
clean-all: ## Removes all of bin/.
	rm -rf $(BIN)

# The tools are pinned by a module of their own, so that their dependencies are
# not ours.
$(TOOLS)/controller-gen: hack/tools/go.mod hack/tools/go.sum
	@$(BUILD) -what controller-gen -C hack/tools -o $@ sigs.k8s.io/controller-tools/cmd/controller-gen

$(TOOLS)/helm: hack/helm/go.mod hack/helm/go.sum
	@$(BUILD) -what Helm -C hack/helm -o $@ -ldflags '-s -w' helm.sh/helm/v4/cmd/helm

$(TOOLS)/golangci-lint: hack/tools/go.mod hack/tools/go.sum
	@$(BUILD) -what golangci-lint -C hack/tools -o $@ -ldflags '-s -w' github.com/golangci/golangci-lint/v2/cmd/golangci-lint
