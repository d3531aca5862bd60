# Certwright. `make help` lists what there is.

SHELL := /bin/bash -o pipefail
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X github.com/certwright/certwright/version.version=$(VERSION)
TOOL := go tool -modfile=hack/tools/go.mod
KUBERNETES ?= 1.37
export CERTWRIGHT_KUBERNETES := $(KUBERNETES)
export CERTWRIGHT_KUBELET := $(KUBELET)

# Go modules beside the main one that have tests, so that what they depend on stays out of it.
MODULES := cmd/certwright-dns cmd/certwright-kms hack/alerts hack/cluster hack/images

.DEFAULT_GOAL := help

##@ The two commands to know

.PHONY: demo
demo: images bin/cluster ## Show the main job on a local cluster, or on the one of KUBECONFIG
	hack/with-cluster.sh keep go run ./hack/demo

.PHONY: test
test: unit e2e ## Run all tests, end to end included, on a local cluster of their own or on that of KUBECONFIG

##@ Build

.PHONY: build
build: bin/certwright bin/certwright-agent bin/kubectl-certwright ## Build the programs into bin/

.PHONY: images
images: build bin/demo bin/images ## Build the container images into bin/images/*.tar
	bin/images-tool --out bin/images certwright=certwright/certwright:dev:bin/certwright \
	  certwright-agent=certwright/certwright-agent:dev:bin/certwright-agent demo=certwright/demo:dev:bin/demo

.PHONY: images-extra
images-extra: bin/certwright-kms bin/certwright-dns bin/sample-signer bin/images ## Build the images of certwright-kms, certwright-dns and the sample signer into bin/images-extra/*.tar
	bin/images-tool --out bin/images-extra --libraries certwright-kms=certwright/certwright-kms:dev:bin/certwright-kms
	bin/images-tool --out bin/images-extra certwright-dns=certwright/certwright-dns:dev:bin/certwright-dns \
	  sample-signer=certwright/sample-signer:dev:bin/sample-signer

# Images of what the end-to-end tests run beside Certwright, and of certwright-kms together with a software HSM.
POSTGRES := /usr/lib/postgresql/15/bin
JAVA := /usr/lib/jvm/java-17-openjdk-$(shell dpkg --print-architecture 2>/dev/null)
SOFTHSM := /usr/lib/softhsm/libsofthsm2.so
.PHONY: e2e-images
e2e-images: images packages bin/servers bin/sample-signer bin/spiffe-app bin/go-app bin/certwright-kms
	bin/images-tool --out bin/images $(foreach s,vaultd pebble traefik,$(s)=certwright/e2e-$(s):dev:bin/servers/$(s))
	bin/images-tool --out bin/images sample-signer=certwright/sample-signer:dev:bin/sample-signer spiffe-app=certwright/e2e-spiffe-app:dev:bin/spiffe-app \
	  go-app=certwright/e2e-go:dev:bin/go-app
	bin/images-tool --out bin/images --libraries named=certwright/e2e-named:dev:/usr/sbin/named copyable=certwright/e2e-copyable:dev:bin/demo \
	  certwright-kms=certwright/certwright-kms:dev:bin/certwright-kms,$(SOFTHSM) softhsm-ca=certwright/e2e-softhsm-ca:dev:bin/servers/softhsm-ca,$(SOFTHSM)
	hack/images/debian/roots.sh
	bin/images-tool --out bin/images --libraries --root bin/debian/nginx nginx=certwright/e2e-nginx:dev:/usr/sbin/nginx
	bin/images-tool --out bin/images --libraries --root bin/debian/postgres \
	  postgres=certwright/e2e-postgres:dev:/usr/local/bin/docker-entrypoint.sh,$(POSTGRES)/postgres,$(POSTGRES)/initdb,$(POSTGRES)/psql,$(POSTGRES)/pg_isready,/bin/dash
	bin/images-tool --out bin/images --libraries --root bin/debian/node node=certwright/e2e-node:dev:/usr/bin/node
	bin/images-tool --out bin/images --libraries --root bin/debian/java java=certwright/e2e-java:dev:$(JAVA)/bin/java,$(JAVA)/lib/server/libjvm.so

.PHONY: generate
generate: ## Generate deepcopy code, gRPC code, CRDs, docs/reference.md and manifests/install.yaml
	$(TOOL) controller-gen object:headerFile=hack/boilerplate.go.txt paths=./api/...
	$(TOOL) controller-gen crd paths=./api/... output:crd:dir=manifests/crds
	go run -C hack/tools ./proto ../..
	go run ./hack/reference
	@mkdir -p bin
	{ echo '# Generated from manifests/ by make generate. Do not edit: change manifests/base and generate again.'; \
	  go tool -C hack/tools kustomize build ../../manifests; } > bin/install.yaml && mv bin/install.yaml manifests/install.yaml

##@ Check

.PHONY: unit
unit: packages ## Run the tests that need no cluster
	go test ./...
	for module in $(MODULES); do go test -C $$module ./... || exit; done

.PHONY: e2e
e2e: e2e-images bin/cluster ## Run the end-to-end tests, or those that RUN matches; KUBERNETES=1.36 chooses the older release, KUBELET=1.35 an older kubelet
	hack/with-cluster.sh once go test -C e2e -tags e2e -count=1 -timeout 30m $(if $(RUN),-run '$(RUN)')

.PHONY: faults
faults: packages bin/cluster ## Let the real servers behind backends fail under load, each fault for DURATION (20s)
	bin/cluster build
	go test -tags faults -count=1 -timeout 24h -v ./hack/faults -duration $(or $(DURATION),20s)

.PHONY: bench
bench: bin/cluster ## Run the benchmarks, the agent's footprint beside one of client-go among them, and show when a thousand pods renew
	bin/cluster build
	go test -run '^$$' -bench . -benchmem ./...
	go test -count=1 -run '^TestThousandPodsRenewApart$$' -v ./agent/renewal

.PHONY: mutate
mutate: ## Flip each comparison and boundary of policy and csr: the tests must notice
	go run ./hack/mutate ./csr ./policy ./policy/pattern ./policy/facts ./policy/judge ./policy/quota ./fair

.PHONY: lint
lint: ## Run the linters
	go vet ./... && go vet -tags e2e ./e2e/... && go vet -tags faults ./hack/faults
	@go build -modfile=hack/lint/go.mod -o bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	for module in . cmd/certwright-dns cmd/certwright-kms; do (cd $$module && $(CURDIR)/bin/golangci-lint run) || exit; done

.PHONY: verify
verify: generate ## Check that generated files and formatting are up to date
	@test -z "$$($(TOOL) gofumpt -l . | tee /dev/stderr)" || { echo 'run: make fmt'; exit 1; }
	git diff --exit-code

.PHONY: fmt
fmt: ## Format the code
	$(TOOL) gofumpt -w .

##@ Local cluster

.PHONY: cluster-up
cluster-up: bin/cluster ## Start the local cluster
	bin/cluster up

.PHONY: cluster-down
cluster-down: bin/cluster ## Stop the local cluster, without a trace
	bin/cluster down

.PHONY: demo-down
demo-down: cluster-down ## Take down all that `make demo` brought up

.PHONY: clean
clean: ## Remove what was built; the cache of cluster programs in ~/.cache/certwright as well
	rm -rf bin "$${XDG_CACHE_HOME:-$$HOME/.cache}/certwright"

# What nginx and PostgreSQL are linked with. They themselves are not installed, as they would start here.
LIBRARIES := libpq5 libpcre2-8-0 libicu72 libxml2 libldap-2.5-0 libpam0g libgssapi-krb5-2 libsystemd0 liblz4-1 libzstd1 libreadline8
.PHONY: packages
packages: ## Install the Debian packages that the tests use
	hack/packages.sh openssl gnutls-bin bind9 bind9-dnsutils softhsm2 p11-kit p11-kit-modules opensc-pkcs11 $(LIBRARIES)

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

# go build knows what changed better than make does. Without the tag, gRPC's tracing adds 12 MB to bin/certwright.
.PHONY: bin/certwright bin/certwright-agent bin/kubectl-certwright bin/demo bin/cluster bin/images bin/servers bin/certwright-kms bin/certwright-dns bin/sample-signer bin/spiffe-app bin/go-app
bin/certwright bin/certwright-agent bin/kubectl-certwright:
	CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags '$(LDFLAGS)' -o $@ ./cmd/$(notdir $@)
bin/demo:
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $@ ./hack/demo/app
bin/cluster:
	@CGO_ENABLED=0 go build -C hack/cluster -o ../../bin/cluster .
bin/images:
	@CGO_ENABLED=0 go build -C hack/images -o ../../bin/images-tool .
bin/servers:
	CGO_ENABLED=0 go build -C hack/servers/vault -trimpath -ldflags '-s -w' -o ../../../$@/ ./vaultd
	CGO_ENABLED=0 go build -C hack/servers/acme -trimpath -ldflags '-s -w' -o ../../../$@/ github.com/letsencrypt/pebble/v2/cmd/pebble
	CGO_ENABLED=0 go build -C hack/servers/traefik -trimpath -ldflags '-s -w' -o ../../../$@/ .
	CGO_ENABLED=1 go build -C cmd/certwright-kms -trimpath -ldflags '-s -w' -o ../../$@/ ./softhsm-ca
bin/certwright-kms:
	CGO_ENABLED=1 go build -C cmd/certwright-kms -trimpath -tags grpcnotrace -ldflags '$(LDFLAGS)' -o ../../$@ .
bin/certwright-dns:
	CGO_ENABLED=0 go build -C cmd/certwright-dns -trimpath -tags grpcnotrace -ldflags '$(LDFLAGS)' -o ../../$@ .
bin/sample-signer:
	CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags '-s -w' -o $@ ./hack/sample-signer
bin/spiffe-app:
	CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags '-s -w' -o $@ ./hack/spiffe-app
bin/go-app:
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $@ ./manifests/examples/apps/go
