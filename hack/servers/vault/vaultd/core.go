// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	kubeauth "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/helper/namespace"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// patience is how long Vault may take for its own affairs.
const patience = 30 * time.Second

// node is one server of the cluster.
type node struct {
	address string
	core    *vault.Core
	handler http.Handler
}

// newNodes makes the first node ready to serve, and the standby if there is to be one. The key unseals each of them.
func newNodes(ctx context.Context, o options) ([]node, string, error) {
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.LevelFromString(o.logLevel), Output: os.Stderr})
	storage, ha, err := newStorage(o, logger)
	if err != nil {
		return nil, "", fmt.Errorf("opening the storage: %w", err)
	}
	first, err := newNode(o.listen, storage, ha, logger)
	if err != nil {
		return nil, "", err
	}
	key, err := unsealed(ctx, first.core, o)
	if err != nil || o.standby == "" {
		return []node{first}, key, err
	}
	second, err := newNode(o.standby, storage, ha, logger)
	if err != nil {
		return nil, "", err
	}
	return []node{first, second}, key, unseal(second.core, key)
}

func newStorage(o options, logger hclog.Logger) (physical.Backend, physical.HABackend, error) {
	if o.persistent {
		if o.standby != "" {
			return nil, nil, errors.New("a standby and persistent storage cannot be had together")
		}
		storage, err := file.NewFileBackend(map[string]string{"path": o.file("storage")}, logger)
		return storage, nil, err
	}
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil || o.standby == "" {
		return storage, nil, err
	}
	locks, err := inmem.NewInmemHA(nil, logger)
	if err != nil {
		return nil, nil, err
	}
	return storage, locks.(physical.HABackend), nil
}

func newNode(address string, storage physical.Backend, ha physical.HABackend, logger hclog.Logger) (node, error) {
	secrets := map[string]logical.Factory{"pki": pki.Factory, "kv": vault.LeasedPassthroughBackendFactory}
	auth := map[string]logical.Factory{"kubernetes": kubeauth.Factory, "approle": approle.Factory, "cert": cert.Factory}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: storage, HAPhysical: ha, RedirectAddr: "https://" + address, Logger: logger, DisableMlock: true,
		LogicalBackends: secrets, CredentialBackends: auth, AuditBackends: map[string]audit.Factory{},
		BuiltinRegistry: plugins{consts.PluginTypeSecrets: secrets, consts.PluginTypeCredential: auth},
	})
	if err != nil {
		return node{}, fmt.Errorf("making Vault's core: %w", err)
	}
	return node{address: address, core: core, handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core})}, nil
}

// unsealed initializes a core if its storage is empty, and unseals it unless it shall stay sealed. It returns the key that
// unseals.
func unsealed(ctx context.Context, core *vault.Core, o options) (string, error) {
	initialized, err := core.Initialized(ctx)
	if err != nil {
		return "", fmt.Errorf("asking Vault whether it is initialized: %w", err)
	}
	var key, token string
	if initialized {
		text, err := os.ReadFile(o.file("unseal.key"))
		if err != nil {
			return "", fmt.Errorf("reading the key that unseals the storage: %w", err)
		}
		key = strings.TrimSpace(string(text))
	} else if key, token, err = initialize(ctx, core, o); err != nil {
		return "", fmt.Errorf("initializing Vault: %w", err)
	}
	if o.sealed && initialized {
		return key, nil
	}
	if err := unseal(core, key); err != nil {
		return "", err
	}
	if err := active(ctx, core); err != nil {
		return "", err
	}
	if !initialized {
		if err := createRootToken(ctx, core, token, o.rootToken); err != nil {
			return "", err
		}
	}
	if o.sealed {
		if err := core.Seal(o.rootToken); err != nil {
			return "", fmt.Errorf("sealing Vault: %w", err)
		}
	}
	return key, nil
}

func initialize(ctx context.Context, core *vault.Core, o options) (key, token string, err error) {
	result, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig:  &vault.SealConfig{SecretShares: 1, SecretThreshold: 1, StoredShares: 1},
		RecoveryConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
	})
	if err != nil {
		return "", "", err
	}
	key = hex.EncodeToString(result.SecretShares[0])
	if o.persistent {
		if err := os.WriteFile(o.file("unseal.key"), []byte(key+"\n"), 0o600); err != nil {
			return "", "", err
		}
	}
	return key, result.RootToken, nil
}

func unseal(core *vault.Core, key string) error {
	raw, err := hex.DecodeString(key)
	if err != nil {
		return fmt.Errorf("reading the key that unseals: %w", err)
	}
	if _, err := core.Unseal(raw); err != nil {
		return fmt.Errorf("unsealing Vault: %w", err)
	}
	return nil
}

// active waits until the core serves as the cluster's active node.
func active(ctx context.Context, core *vault.Core) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if standby, err := core.Standby(); err == nil && !standby && !core.Sealed() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for Vault to be active: %w", ctx.Err())
		}
	}
}

// createRootToken makes a root token that is known beforehand, with the one that Vault made up.
func createRootToken(ctx context.Context, core *vault.Core, parent, token string) error {
	_, err := core.HandleRequest(namespace.RootContext(ctx), &logical.Request{
		ID: "root-token", Operation: logical.UpdateOperation, ClientToken: parent, Path: "auth/token/create",
		Data: map[string]any{"id": token, "policies": []string{"root"}, "no_parent": true, "no_default_policy": true},
	})
	if err != nil {
		return fmt.Errorf("making the root token: %w", err)
	}
	return nil
}

// plugins are those that are built in: nothing is loaded from anywhere.
type plugins map[consts.PluginType]map[string]logical.Factory

func (p plugins) Contains(name string, kind consts.PluginType) bool {
	_, ok := p[kind][name]
	return ok
}

func (p plugins) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	f, ok := p[kind][name]
	return func() (any, error) { return f, nil }, ok
}

func (p plugins) Keys(kind consts.PluginType) (names []string) {
	for name := range p[kind] {
		names = append(names, name)
	}
	return names
}

func (p plugins) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, p.Contains(name, kind)
}

func (p plugins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
