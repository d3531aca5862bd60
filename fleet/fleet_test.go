// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/agent"
	"github.com/certwright/certwright/fleet"
	"github.com/certwright/certwright/fleet/fleettest"
	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

func describe(m fleet.Member) string {
	words := fmt.Sprintf("%s/%s %s %s %s", m.Namespace, m.Name, m.SignerName, m.Delivery, m.Workload)
	if m.TrustOnly {
		words += " only verifies"
	}
	if m.Listens {
		words += " listens"
	}
	if m.MaxLifetime > 0 {
		words += " " + m.MaxLifetime.String()
	}
	return words
}

func TestList(t *testing.T) {
	t.Parallel()
	want := []string{
		"bank/both example.com/other agent statefulset/both listens",
		"bank/both example.com/internal kubelet statefulset/both 24h0m0s",
		"bank/reader example.com/internal kubelet / only verifies",
		"bank/reader example.com/other kubelet / only verifies",
		"bank/reader example.org/third kubelet / only verifies",
		"bank/teller example.com/other agent / listens",
		"bank/verifier example.com/other init / only verifies",
		"bank/verifier example.com/internal init / only verifies",
		"shop/cart-0 example.com/internal kubelet statefulset/cart 1h0m0s",
		"shop/lookalike-c example.com/internal agent / listens",
		"shop/mail-x example.com/internal init daemonset/mail",
		"shop/old example.com/internal agent /",
		"shop/web-5d8f-a example.com/internal agent deployment/web listens",
		"shop/web-5d8f-b example.com/internal agent deployment/web listens",
	}
	for namespace, want := range map[string][]string{"": want, "bank": want[:8], "nowhere": nil} {
		members, err := fleet.List(t.Context(), fleettest.NewClient(t, interceptor.Funcs{}), namespace)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range members {
			got = append(got, describe(m))
		}
		if !slices.Equal(got, want) {
			t.Errorf("namespace %q: got\n%s\nwant\n%s", namespace, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestPodsThatGoAreNoMembers(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{"certwright.dev/auto-tls": "example.com/internal"}}}
	pod.Spec.InitContainers = []corev1.Container{{Name: "certwright-agent"}}
	if got := fleet.Of(pod); len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	pod.DeletionTimestamp = &metav1.Time{Time: fleettest.Now}
	if got := fleet.Of(pod); len(got) != 0 {
		t.Errorf("got %v of a pod that is deleted", got)
	}
}

// What people paste into a shell is never made of what a pod's author chose.
func TestWriteRestarts(t *testing.T) {
	t.Parallel()
	members, err := fleet.List(t.Context(), fleettest.NewClient(t, interceptor.Funcs{}), "")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := fleet.WriteRestarts(&out, "Restart:", members); err != nil {
		t.Fatal(err)
	}
	const want = `
Restart:
  # pod lookalike-c of namespace shop was made by no Deployment, StatefulSet or DaemonSet: whoever made it has to make it anew
  # pod old of namespace shop was made by no Deployment, StatefulSet or DaemonSet: whoever made it has to make it anew
  # pod reader of namespace bank was made by no Deployment, StatefulSet or DaemonSet: whoever made it has to make it anew
  # pod teller of namespace bank was made by no Deployment, StatefulSet or DaemonSet: whoever made it has to make it anew
  # pod verifier of namespace bank was made by no Deployment, StatefulSet or DaemonSet: whoever made it has to make it anew
  kubectl rollout restart daemonset/mail -n shop
  kubectl rollout restart deployment/web -n shop
  kubectl rollout restart statefulset/both -n bank
  kubectl rollout restart statefulset/cart -n shop
`
	if out.String() != want {
		t.Errorf("got%s\nwant%s", &out, want)
	}
	out.Reset()
	if err := fleet.WriteRestarts(&out, "Restart:", nil); err != nil || out.Len() > 0 {
		t.Errorf("for nobody: %q, %v", &out, err)
	}
}

// Who may annotate a pod hides it from nobody, and puts it into no other fleet.
func TestAnnotationsWrittenLaterCountForNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ config, annotation, want string }{
		"taken away":           {`{"signerName":"example.com/internal"}`, "", "example.com/internal"},
		"another one":          {`{"signerName":"example.com/internal"}`, "example.com/other", "example.com/internal"},
		"no certificate":       {`{"trustOnly":true}`, "example.com/other", ""},
		"config not readable":  {`{`, "example.com/other", "example.com/other"},
		"an agent without any": {"", "example.com/other", "example.com/other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: inject.AgentContainer}}}}
			if c.config != "" {
				pod.Spec.InitContainers[0].Env = []corev1.EnvVar{{Name: agent.ConfigEnv, Value: c.config}}
			}
			if c.annotation != "" {
				pod.Annotations = map[string]string{annotation.AutoTLS: c.annotation}
			}
			got := ""
			for _, m := range fleet.Of(pod) {
				got += m.SignerName
			}
			if got != c.want {
				t.Errorf("it asks %q, want %q", got, c.want)
			}
		})
	}
}

func TestListSaysWhichRightIsMissing(t *testing.T) {
	t.Parallel()
	refuse := interceptor.Funcs{List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
		return apierrors.NewForbidden(corev1.Resource("pods"), "", fmt.Errorf(`User "bob" cannot list resource "pods" in API group "" in the namespace "shop"`))
	}}
	_, err := fleet.List(t.Context(), fleettest.NewClient(t, refuse), "shop")
	if err == nil || !strings.Contains(err.Error(), "kubectl create role NAME --verb=list --resource=pods -n shop") {
		t.Errorf("got %v", err)
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", 24 * time.Hour: "24h", 61 * time.Minute: "1h1m",
		time.Hour + time.Second + time.Millisecond: "1h0m1s", 10 * time.Minute: "10m", 20 * time.Hour: "20h",
	} {
		if got := fleet.Span(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
