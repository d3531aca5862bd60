// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"errors"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certwright/certwright/api/v1alpha1"
)

func TestSigner(t *testing.T) {
	for name, test := range map[string]struct {
		change   func(*v1alpha1.SignerSpec)
		causes   []string
		warnings []string
	}{
		"good": {},
		"by Secret": {change: func(s *v1alpha1.SignerSpec) {
			s.Backends[0].CA = &v1alpha1.CA{SecretRef: &v1alpha1.SecretRef{Name: "mine"}}
		}},
		"of Kubernetes": {
			change: func(s *v1alpha1.SignerSpec) { s.SignerName = "kubernetes.io/kubelet-serving" },
			causes: []string{`* spec.signerName: `},
		},
		"taken": {
			change: func(s *v1alpha1.SignerSpec) { s.SignerName = "example.com/taken" },
			causes: []string{`* spec.signerName: Invalid value: "example.com/taken": belongs to Signer "older": change that one, or use another signerName`},
		},
		"all limits wrong": {
			change: func(s *v1alpha1.SignerSpec) {
				s.Limits = v1alpha1.Limits{
					MaxDuration: metav1.Duration{Duration: -time.Hour}, Usages: []certificatesv1.KeyUsage{"server auth", "spying"},
					PermittedDNSDomains: []string{"example.com", "*.example.com"}, PermittedIPRanges: []string{"10.0.0.0"},
				}
			},
			causes: []string{
				`* spec.limits.maxDuration: Invalid value: "-1h0m0s": must be more than 0`,
				`* spec.limits.usages[1]: Invalid value: "spying"`,
				`* spec.limits.permittedDNSDomains[1]: Invalid value: "*.example.com": must not have a wildcard`,
				`* spec.limits.permittedIPRanges[0]: Invalid value: "10.0.0.0": must be a CIDR`,
			},
		},
		"no backend": {change: func(s *v1alpha1.SignerSpec) { s.Backends = nil }, causes: []string{"* spec.backends: Required value"}},
		"mistakes of every kind": {
			change: func(s *v1alpha1.SignerSpec) {
				s.SignerName, s.Limits.Usages, s.Backends[0].CA = "kubernetes.io/kubelet-serving", []certificatesv1.KeyUsage{"spying"}, nil
			},
			causes: []string{"* spec.signerName: ", "* spec.limits.usages[0]: ", "* spec.backends[0]: "},
		},
		"backend of no kind": {
			change: func(s *v1alpha1.SignerSpec) { s.Backends[0].CA = nil },
			causes: []string{`* spec.backends[0]: Invalid value: "local": `},
		},
		"lifetime that the schema does not know": {
			change: func(s *v1alpha1.SignerSpec) { s.Backends[0].CA.Managed.IntermediateDuration.Duration = time.Minute },
			causes: []string{`* spec.backends[0]: Invalid value: "local": `}, warnings: []string{"spec.backends[0].ca.managed.intermediateDuration: certificates may be cut short"},
		},
		"doubtful": {
			change: func(s *v1alpha1.SignerSpec) {
				s.Limits.IsCA, s.Limits.Usages, s.Limits.MaxDuration = true, []certificatesv1.KeyUsage{"any"}, hours(2921)
				s.Backends[0].CA.Managed.RootDuration = hours(8759)
			},
			warnings: []string{
				`spec.limits.usages: a certificate with the usage "any"`,
				"spec.limits.isCA: this Signer may sign CA certificates",
				"spec.backends[0].ca.managed.intermediateDuration: 8760h0m0s is longer than rootDuration, 8759h0m0s",
				"spec.backends[0].ca.managed.intermediateDuration: certificates may be cut short: spec.limits.maxDuration, 2921h0m0s, is more than a third of 8760h0m0s",
			},
		},
		"just not doubtful": {change: func(s *v1alpha1.SignerSpec) {
			s.Limits.MaxDuration, s.Backends[0].CA.Managed.RootDuration = hours(2920), hours(8760)
		}},
		"no usage": {
			change:   func(s *v1alpha1.SignerSpec) { s.Limits.Usages = nil },
			warnings: []string{"spec.limits.usages: is empty, and every request asks for a usage: nothing is signed"},
		},
		"public roots for servers": {change: func(s *v1alpha1.SignerSpec) { s.TrustBundle.PublicRoots = true }},
		"public roots for clients": {
			change:   func(s *v1alpha1.SignerSpec) { public(s, "server auth", "client auth") },
			warnings: []string{"spec.trustBundle.publicRoots: servers that take this bundle for the roots of their clients let in whoever has a certificate of a public CA: leave it out"},
		},
		"public roots for everything": {
			change:   func(s *v1alpha1.SignerSpec) { public(s, "any") },
			warnings: []string{`spec.limits.usages: a certificate with the usage "any"`, "spec.trustBundle.publicRoots: servers that take"},
		},
		"kubelets": {change: func(s *v1alpha1.SignerSpec) { forKubelets(s, "server auth"); s.Limits.MaxDuration = hours(1) }},
		"kubelets, and too short": {
			change: func(s *v1alpha1.SignerSpec) {
				forKubelets(s, "server auth")
				s.Limits.MaxDuration.Duration = time.Hour - time.Second
			},
			warnings: []string{"spec.podCertificates: kubelets take nothing shorter than 1h0m0s, and spec.limits.maxDuration is 59m59s: what they ask for waits"},
		},
		"kubelets, and more than is signed": {
			change:   func(s *v1alpha1.SignerSpec) { forKubelets(s, "server auth", "client auth") },
			warnings: []string{`spec.podCertificates.usages[1]: spec.limits.usages lacks "client auth": what kubelets ask for fails, unless the pod asks for other usages`},
		},
		"kubelets, and nobody to sign": {
			change: func(s *v1alpha1.SignerSpec) {
				forKubelets(s, "server auth")
				s.Backends[0].CA, s.Backends[0].Vault = nil, &v1alpha1.Vault{}
			},
			causes:   []string{"* spec.backends[0]: "}, // the test has no backend but ca
			warnings: []string{"spec.podCertificates: no backend signs for kubelets, which ca does: what they ask for waits"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHook(t, nil, newSigner("older", "example.com/taken", nil), newSigner("other", "example.com/other", nil))
			h.assert(h.send(SignersPath, nil, newSigner("new", "example.com/new", test.change)), test.causes, test.warnings)
		})
	}
}

func public(s *v1alpha1.SignerSpec, usages ...certificatesv1.KeyUsage) {
	s.TrustBundle.PublicRoots, s.Limits.Usages = true, usages
}

func forKubelets(s *v1alpha1.SignerSpec, usages ...certificatesv1.KeyUsage) {
	s.PodCertificates = &v1alpha1.PodCertificates{Usages: usages}
}

// An update is judged by what it changes, and never by what it cannot help.
func TestSignerUpdate(t *testing.T) {
	bad := func(s *v1alpha1.SignerSpec) { s.Limits.PermittedIPRanges = []string{"nonsense"} }
	for name, test := range map[string]struct {
		before, after *v1alpha1.Signer
		change        func(*v1alpha1.Signer) // of after
		causes        []string
	}{
		"to something bad":  {before: newSigner("s", "example.com/s", nil), after: newSigner("s", "example.com/s", bad), causes: []string{`* spec.limits.permittedIPRanges[0]: Invalid value: "nonsense": `}},
		"to something good": {before: newSigner("s", "example.com/s", bad), after: newSigner("s", "example.com/s", nil)},
		"of labels": {
			before: newSigner("s", "example.com/s", bad), after: newSigner("s", "example.com/s", bad),
			change: func(s *v1alpha1.Signer) { s.Labels = map[string]string{"a": "b"} },
		},
		"of a finalizer while it goes": {
			before: newSigner("s", "example.com/s", nil), after: newSigner("s", "example.com/s", bad),
			change: func(s *v1alpha1.Signer) { s.DeletionTimestamp = &metav1.Time{Time: time.Unix(0, 0)} },
		},
		"with a younger one of the same signerName": {before: newSigner("s", "example.com/taken", bad), after: newSigner("s", "example.com/taken", nil)},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHook(t, nil, newSigner("younger", "example.com/taken", nil))
			if test.change != nil {
				test.change(test.after)
			}
			h.assert(h.send(SignersPath, test.before, test.after), test.causes, nil)
		})
	}
}

// Who creates what is there already should hear that from the API server.
func TestSignerThatIsThere(t *testing.T) {
	h := newHook(t, nil, newSigner("s", "example.com/s", nil))
	h.assert(h.send(SignersPath, nil, newSigner("s", "example.com/s", nil)), nil, nil)
}

func TestTroubleIsNoRefusal(t *testing.T) {
	h := newHook(t, errors.New("connection refused"))
	h.assert(h.send(SignersPath, nil, newSigner("s", "example.com/s", nil)), nil,
		[]string{"spec.signerName: not known whether another Signer has it: listing Signers: connection refused"})
	h.assert(h.send(PoliciesPath, nil, newPolicy(nil)), nil,
		[]string{"spec.signerNames: not known whether they have Signers: listing Signers: connection refused"})
}
