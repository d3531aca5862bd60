// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// The kubelet brings a pod its certificate, key and trust bundle, without any container beside its own. Its user can read them, and
// nobody else who is not of the pod's group.
func TestTheKubeletDelivers(t *testing.T) {
	t.Parallel()
	s := tell(t)
	o := s.signer(forKubelets)
	s.policy()
	s.makeServiceAccounts("app")
	s.service("app", false)
	pod := s.newPod("app", s.annotated("app", "delivery", "kubelet"), "app", demo("app", 1000, "look", "--follow"))
	s.make(pod)
	s.podReady(pod)
	if len(pod.Spec.InitContainers) > 0 || len(pod.Spec.Containers) != 1 {
		s.Errorf("the pod has other containers than its own: %v, %v", pod.Spec.InitContainers, pod.Spec.Containers)
	}
	if by := pod.Annotations[v1alpha1.AnnotationDeliveredBy]; by != "kubelet" {
		s.Errorf("the pod says that it gets its certificate from %q, want kubelet", by)
	}
	var l look
	s.until("the view of the app", soon, func(ctx context.Context) error { return lastLine(ctx, pod, "app", &l) })
	if l.User != 1000 || len(l.Files) != 3 {
		s.Errorf("user %d sees the files %v, want user 1000 and three files", l.User, l.Files)
	}
	for _, f := range l.Files {
		if f.Name != "ca.crt" && f.Mode[7:] != "---" { // trust anchors are no secret, and everybody may read them by kubelets of 1.36
			s.Errorf("everybody may read %s: its mode is %s", f.Name, f.Mode)
		}
	}
	s.sameNames("the SPIFFE ID", []string{l.Certificate.SPIFFEID}, s.spiffeID("app"))
	s.sameNames("the DNS names", l.Certificate.DNSNames, "app."+s.namespace+".svc", "app."+s.namespace+".svc.cluster.local")
	s.sameNames("the anchors", l.Anchors, s.publishedAnchors(s.trustBundle(o))...)

	r := s.newestPodRequest(pod, 1)
	s.podRequestIs(r, "Issued", "Issued")
	leaf, err := r.leaf()
	s.must(err, "reading the certificate")
	if leaf.SerialNumber.Text(16) != l.Certificate.Serial {
		s.Errorf("the pod has certificate %s, and %x was issued", l.Certificate.Serial, leaf.SerialNumber)
	}
	s.objectsHoldNoKey("a pod", &corev1.PodList{Items: []corev1.Pod{*pod}})
	node := pod.Spec.NodeName
	s.deleteAtOnce(pod)
	if s.kubeletMinor(node) < 36 {
		return // they name the owner of a request in a way that Kubernetes does not know, and it lives for 15 minutes
	}
	s.until("nothing to be left of the pod", soon, func(ctx context.Context) error {
		left, err := s.podRequests(ctx, pod)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d requests are", len(left))
		}
		return err
	})
}

// A pod that leaves it open gets its certificate from the kubelet where that can be, and else from an agent; it says which.
func TestDeliveryIsChosenByWhatTheClusterServes(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.makeServiceAccounts("app")
	chosen := func(signerName string, more ...string) string {
		s.Helper()
		pod := s.newPod("app", s.annotated("app", append(more, "auto-tls", signerName)...), "app", demo("app", 1000, "server"))
		s.must(admin.Create(s.ctx, pod, client.DryRunAll), "creating a pod in a dry run")
		by := pod.Annotations[v1alpha1.AnnotationDeliveredBy]
		if got := len(pod.Spec.InitContainers); (got == 0) != (by == "kubelet") {
			s.Errorf("by %s: the pod has %d init containers", by, got)
		}
		return by
	}
	s.signer(forKubelets)
	want := "agent"
	if s.kubeletsByDefault() {
		want = "kubelet"
	}
	for what, c := range map[string]struct {
		signerName string
		more       []string
		want       string
	}{
		"nothing is said":                     {s.signerName, nil, want},
		"auto is said":                        {s.signerName, []string{"delivery", "auto"}, want},
		"the agent is wanted":                 {s.signerName, []string{"delivery", "agent"}, "agent"},
		"the kubelet is wanted":               {s.signerName, []string{"delivery", "kubelet"}, "kubelet"},
		"a lifetime that kubelets do not ask": {s.signerName, []string{"duration", "30m"}, "agent"},
		"a format":                            {s.signerName, []string{"formats", "PKCS12"}, "agent"},
		"a Signer that is not there":          {s.signerName + "-none", nil, "agent"},
	} {
		if got := chosen(c.signerName, c.more...); got != c.want {
			s.Errorf("%s: the %q delivers, want the %s", what, got, c.want)
		}
	}
	other := tell(t)
	other.signer()
	if got := chosen(other.signerName); got != "agent" {
		s.Errorf("a Signer that signs nothing for kubelets: the %q delivers, want the agent", got)
	}
	for name, c := range map[string]struct {
		pod  metav1.ObjectMeta
		want []string
	}{
		"a Signer that does not sign for kubelets": {other.annotated("app", "delivery", "kubelet"), []string{"certwright.dev/delivery", other.name, "podCertificates"}},
		"a format":      {s.annotated("app", "delivery", "kubelet", "formats", "JKS"), []string{"certwright.dev/formats", "agent"}},
		"a short life":  {s.annotated("app", "delivery", "kubelet", "duration", "30m"), []string{"certwright.dev/duration", "agent"}},
		"RSA-2048":      {s.annotated("app", "delivery", "kubelet", "key-algorithm", "RSA-2048"), []string{"certwright.dev/key-algorithm", "agent"}},
		"the socket":    {s.annotated("app", "delivery", "kubelet", "spiffe-socket", "true"), []string{"certwright.dev/spiffe-socket", "agent"}},
		"a reload hook": {s.annotated("app", "delivery", "kubelet", "reload-url", "http://127.0.0.1:8080/"), []string{"certwright.dev/reload-url", "agent"}},
	} {
		err := admin.Create(s.ctx, s.newPod("app", c.pod, "app", demo("app", 1000, "server")), client.DryRunAll)
		if err == nil {
			s.Errorf("%s: the kubelet was to deliver, and the pod was admitted", name)
			continue
		}
		s.contains(name, err.Error(), c.want...)
	}
}

// A pod that asks for names of others gets nothing, and says so: its request is denied, the pod has an event, and does not start.
func TestTheKubeletDeliversNoNamesOfOthers(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer(forKubelets)
	s.policy()
	s.makeServiceAccounts("app")
	other := "spiffe://cluster.local/ns/kube-system/sa/default"
	pod := s.newPod("app", s.annotated("app", "delivery", "kubelet", "dns-names", "shop.example.com", "uris", other), "app", demo("app", 1000, "look", "--follow"))
	s.make(pod)
	r := s.newestPodRequest(pod, 1)
	s.podRequestIs(r, "Denied", "PolicyDenies", "dnsNames", "shop.example.com", "uris", other, s.spiffeID("app"))
	s.warnedOfPod(pod, "PolicyDenies", "dnsNames", "shop.example.com")
	s.podWaits(pod, "ContainerCreating")
}

// Nobody but the node of a pod asks for its certificate, whatever rights somebody else has.
func TestNobodyButItsNodeAsksForAPod(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer(forKubelets)
	s.policy()
	s.makeServiceAccounts("app", "thief")
	pod := s.newPod("app", s.annotated("app", "delivery", "kubelet"), "app", demo("app", 1000, "server"))
	s.make(pod)
	s.podReady(pod)
	s.grant(rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: s.namespace, Name: "thief"}, rbacv1.PolicyRule{
		APIGroups: []string{podRequestKind.Group}, Resources: []string{"podcertificaterequests"}, Verbs: []string{"create"},
	})
	create := func(as user, o podRequest) error { return as.Create(s.ctx, o.Unstructured, client.DryRunAll) }

	const policy = "certwright-pod-certificate-requests"
	thief := s.serviceAccount(s.namespace, "thief")
	s.until("the thief to have rights", soon, func(context.Context) error {
		foreign := s.askForPod(pod)
		foreign.Object["spec"].(data)["signerName"] = "example.org/" + s.name
		return create(thief, foreign) // signerNames that are not ours are not our business
	})
	s.refusedBy(policy, create(thief, s.askForPod(pod)), "asking for a pod as a service account", "node")
	s.refusedBy(policy, create(s.almighty("system:node:someone"), s.askForPod(pod)), "asking with the name of a node, and every right", "node")
	s.isForbidden(create(s.node("another"), s.askForPod(pod)), "asking for a pod of another node")
	s.must(create(s.node(pod.Spec.NodeName), s.askForPod(pod)), "asking as the pod's own node")
	s.isForbidden(create(s.serviceAccount(systemNamespace, signer), s.askForPod(pod)), "asking as the signer")
}

// The API server takes lifetimes of an hour, a day and 91 days, which is all that its rules allow for.
func TestKubeletsGetCertificatesOfAnyLifetime(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer(forKubelets, func(spec *v1alpha1.SignerSpec) {
		spec.Limits.MaxDuration.Duration = 91 * 24 * time.Hour
		m := spec.Backends[0].CA.Managed
		m.RootDuration.Duration, m.IntermediateDuration.Duration = 10*365*24*time.Hour, 365*24*time.Hour
	})
	s.policy()
	s.makeServiceAccounts("app")
	lifetimes := map[string]time.Duration{"hour": time.Hour, "day": 24 * time.Hour, "quarter": 91 * 24 * time.Hour}
	pods := map[string]*corev1.Pod{}
	for name, lifetime := range lifetimes {
		pods[name] = s.newPod(name, s.annotated(name, "delivery", "kubelet", "duration", lifetime.String()), "app", demo("app", 1000, "look", "--follow"))
		s.make(pods[name])
	}
	for name, pod := range pods {
		s.podReady(pod)
		r := s.newestPodRequest(pod, 1)
		s.podRequestIs(r, "Issued", "Issued")
		leaf, err := r.leaf()
		s.must(err, "reading the certificate of %s", name)
		refresh, err := time.Parse(time.RFC3339, r.field("status", "beginRefreshAt"))
		s.must(err, "reading when to refresh %s", name)
		got := leaf.NotAfter.Sub(leaf.NotBefore)
		if got > lifetimes[name] || got < lifetimes[name]-time.Minute {
			s.Errorf("%s: the certificate lives for %s, want %s", name, got, lifetimes[name])
		}
		if share := float64(refresh.Sub(leaf.NotBefore)) / float64(got); share < 0.5 || share > 0.8 {
			s.Errorf("%s: it is to be refreshed after %.2f of its life, want about two thirds", name, share)
		}
	}
	if requests, err := s.podRequests(s.ctx, pods["hour"]); err != nil || slices.IndexFunc(requests, func(r podRequest) bool { k, _, _ := r.verdict(); return k != "Issued" }) >= 0 {
		s.Errorf("the pod's requests are %v, %v", requests, err)
	}
}
