// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package external_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/hack/servers"
	"github.com/certwright/certwright/signer"
	"github.com/certwright/certwright/signer/external"
	"github.com/certwright/certwright/signer/remote"
)

// recovers signs until it works, as the signer does, and fails the test if that takes long.
func recovers(t *testing.T, b *external.Backend) {
	t.Helper()
	const long = 3 * time.Second
	start := time.Now()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := b.Sign(ctx, request(t))
		cancel()
		switch took := time.Since(start); {
		case err == nil:
			t.Logf("signed %s after the program was back", took.Round(time.Millisecond))
			return
		case took > long:
			t.Fatalf("the program is back, and after %s there is still %v", took, err)
		}
		isTrouble(t, err)
	}
}

func TestOutages(t *testing.T) {
	for transport, start := range map[string]func(t *testing.T) (*external.Backend, *servers.Process){
		"socket": func(t *testing.T) (*external.Backend, *servers.Process) {
			b, socket := overSocket(t, nil)
			return b, startSample(t, "--listen", "unix://"+socket)
		},
		"TLS": func(t *testing.T) (*external.Backend, *servers.Process) {
			c := newCA(t)
			b, _, _, process := overTLS(t, c, c.secret())
			return b, process
		},
	} {
		t.Run(transport, func(t *testing.T) {
			b, process := start(t)
			recovers(t, b)
			before, err := b.TrustAnchors(t.Context())
			if err != nil {
				t.Fatal(err)
			}

			process.Kill()
			_, err = b.Sign(t.Context(), request(t))
			isTrouble(t, err)
			if err := b.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "Unavailable") {
				t.Errorf("Check of a program that is gone: %v", err)
			}
			if anchors, err := b.TrustAnchors(t.Context()); err != nil || !anchors[0].Equal(before[0]) {
				t.Errorf("the trust anchors of a program that is gone: %v", err)
			}
			process.Restart(t)
			recovers(t, b)
			if after, err := b.TrustAnchors(t.Context()); err != nil || after[0].Equal(before[0]) {
				t.Errorf("after a restart with another CA, the trust anchors are those of before, or error %v", err)
			}

			process.Pause()
			for err = nil; err == nil; { // it may answer until it has really stopped
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				_, err = b.Sign(ctx, request(t))
				cancel()
			}
			isTrouble(t, err)
			process.Resume()
			recovers(t, b)
		})
	}
}

func TestNobodyThere(t *testing.T) {
	b, _ := overSocket(t, nil)
	_, err := b.Sign(t.Context(), request(t))
	isTrouble(t, err)
	if err == nil || !strings.Contains(err.Error(), "unix:///run/certwright/test.sock") || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("the error is %v", err)
	}
	if _, err := b.TrustAnchors(t.Context()); err == nil {
		t.Error("trust anchors come from nowhere")
	}
}

func TestMutualTLS(t *testing.T) {
	c := newCA(t)
	t.Run("client certificate of another CA, until the Secret changes", func(t *testing.T) {
		secret := newCA(t).secret()
		b, cluster, _, _ := overTLS(t, c, secret)
		_, err := b.Sign(t.Context(), request(t))
		isTrouble(t, err)
		secret.Data = c.secret().Data
		if err := cluster.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		recovers(t, b)
	})
	t.Run("no Secret", func(t *testing.T) {
		b, _, _, _ := overTLS(t, c)
		_, err := b.Sign(t.Context(), request(t))
		isTrouble(t, err)
		if err == nil || !strings.Contains(err.Error(), "Secret certwright-system/sample-client does not exist") {
			t.Errorf("Sign returned %v", err)
		}
		var check *signer.CheckError
		if err := b.Check(t.Context()); !errors.As(err, &check) || check.Reason != remote.ReasonSecretNotFound {
			t.Errorf("Check returned %v", err)
		}
	})
	t.Run("program of another CA", func(t *testing.T) {
		_, cluster, address, _ := overTLS(t, c, c.secret())
		b := onAddress(t, cluster, address, newCA(t).pem(), "")
		_, err := b.Sign(t.Context(), request(t))
		isTrouble(t, err)
	})
	t.Run("program with another name", func(t *testing.T) {
		_, cluster, address, _ := overTLS(t, c, c.secret())
		_, err := onAddress(t, cluster, address, c.pem(), "other.example.com").Sign(t.Context(), request(t))
		isTrouble(t, err)
	})
	t.Run("program without TLS", func(t *testing.T) {
		_, cluster, _, _ := overTLS(t, c, c.secret())
		address := servers.Address(t)
		startHostile(t, address)
		_, err := onAddress(t, cluster, address, c.pem(), "").Sign(t.Context(), request(t))
		isTrouble(t, err)
	})
}

func TestNewChecksTheConfiguration(t *testing.T) {
	ref, socket := &v1alpha1.SecretRef{Name: secretName}, "unix:///run/certwright/own.sock"
	for name, c := range map[string]struct {
		external v1alpha1.External
		want     string
	}{
		"socket":                      {v1alpha1.External{Address: socket}, ""},
		"TLS":                         {v1alpha1.External{Address: "signer.example.com:8443", ClientCertificateRef: ref}, ""},
		"IPv6":                        {v1alpha1.External{Address: "[2001:db8::1]:8443", ClientCertificateRef: ref}, ""},
		"nothing":                     {v1alpha1.External{}, `external.address: ""`},
		"socket elsewhere":            {v1alpha1.External{Address: "unix:///run/containerd/containerd.sock"}, "external.address"},
		"socket by a detour":          {v1alpha1.External{Address: "unix:///run/certwright/../x.sock"}, "external.address"},
		"abstract socket":             {v1alpha1.External{Address: "unix-abstract:own"}, "external.address"},
		"resolver of the library":     {v1alpha1.External{Address: "dns:///own.example.com:8443", ClientCertificateRef: ref}, "external.address"},
		"port out of range":           {v1alpha1.External{Address: "own.example.com:65536", ClientCertificateRef: ref}, "external.address"},
		"TLS without a certificate":   {v1alpha1.External{Address: "own.example.com:8443"}, "external.clientCertificateRef"},
		"socket with a certificate":   {v1alpha1.External{Address: socket, ClientCertificateRef: ref}, "external.address"},
		"CA bundle that is no PEM":    {v1alpha1.External{Address: "own.example.com:8443", ClientCertificateRef: ref, CABundle: "x"}, "external.caBundle"},
		"reference to a CA":           {v1alpha1.External{Address: "own.example.com:8443", ClientCertificateRef: &v1alpha1.SecretRef{Name: "certwright-ca-internal.local"}}, "kept by Certwright for itself"},
		"reference without a name":    {v1alpha1.External{Address: "own.example.com:8443", ClientCertificateRef: &v1alpha1.SecretRef{}}, "external.clientCertificateRef.name"},
		"something behind the socket": {v1alpha1.External{Address: socket + "?x=y"}, "external.address"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := external.New(external.Options{SignerName: "example.com/internal", Backend: "own", External: c.external})
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := b.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}
