// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/gate"
	"github.com/certwright/certwright/policy/explanation"
	"github.com/certwright/certwright/terminal"
)

// cli is what all commands share: the streams, kubectl's flags and our own.
type cli struct {
	genericiooptions.IOStreams
	config *genericclioptions.ConfigFlags
	color  terminal.ColorMode
	clock  clock.WithTicker

	systemNamespace string
	trustDomain     string
	clusterDomain   string
}

func (c *cli) addFlags(flags *pflag.FlagSet) {
	c.config.AddFlags(flags)
	flags.Var(&c.color, "color", "write in colour: auto (on a terminal, unless NO_COLOR is set), always or never")
	flags.StringVar(&c.systemNamespace, "system-namespace", "certwright-system", "namespace that Certwright runs in")
	flags.StringVar(&c.trustDomain, "trust-domain", "", "SPIFFE trust domain, the value of {trustDomain} in policies (default: that of the installation)")
	flags.StringVar(&c.clusterDomain, "cluster-domain", "", "DNS domain of the cluster, the value of {clusterDomain} in policies (default: that of the installation)")
}

func (c *cli) palette() terminal.Palette { return terminal.NewPalette(c.color, c.Out, os.Getenv) }

// client returns a client with the rights of whoever runs the command.
func (c *cli) client() (client.WithWatch, error) {
	config, err := c.config.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	return c.clientFor(config)
}

// ownClient is a client that does not impersonate: the flag --as says something else then.
func (c *cli) ownClient() (client.WithWatch, error) {
	config, err := c.config.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.Impersonate = rest.ImpersonationConfig{}
	return c.clientFor(config)
}

func (c *cli) clientFor(config *rest.Config) (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, certificatesv1.AddToScheme, certificatesv1beta1.AddToScheme, authenticationv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	k, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	return paged{k}, err
}

// namespace is that of -n, or of the current context.
func (c *cli) namespace() (string, error) {
	namespace, _, err := c.config.ToRawKubeConfigLoader().Namespace()
	return namespace, err
}

func (c *cli) installation(reader client.Reader) *explanation.Installation {
	return &explanation.Installation{Reader: reader, Namespace: c.systemNamespace, TrustDomain: c.trustDomain, ClusterDomain: c.clusterDomain}
}

func (c *cli) gate() (*gate.Gate, error) {
	k, err := c.client()
	if err != nil {
		return nil, err
	}
	return &gate.Gate{Client: k, Installation: c.installation(k), Clock: c.clock}, nil
}

// write writes a value for programs, or calls people to write it for people.
func (c *cli) write(f format, value any, people func() error) error {
	switch f.value {
	case "json":
		encoder := json.NewEncoder(c.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	case "yaml":
		text, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		_, err = c.Out.Write(text)
		return err
	}
	return people()
}

// escapeLines makes an error fit for a terminal and keeps its lines, and how cobra indents what somebody may have meant.
func escapeLines(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		text, indented := strings.CutPrefix(line, "\t")
		lines[i] = terminal.Escape(text)
		if indented {
			lines[i] = "  " + lines[i]
		}
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}
