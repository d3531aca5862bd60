// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"errors"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/policy/casefile"
	"github.com/certwright/certwright/policy/explanation"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// newPolicy permits the members of a group everything under example.com.
func newPolicy(group string, approval v1alpha1.Approval) *v1alpha1.CertificatePolicy {
	return &v1alpha1.CertificatePolicy{
		ObjectMeta: metav1.ObjectMeta{Name: group},
		Spec: v1alpha1.CertificatePolicySpec{
			SignerNames: []string{"example.com/internal", "example.com/other"},
			Requesters:  v1alpha1.Requesters{Groups: []string{group}},
			Allow: v1alpha1.Allow{
				DNSNames: []string{"*.example.com"}, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth},
				Keys: []v1alpha1.Key{{Algorithm: v1alpha1.ECDSA}},
			},
			Approval: approval,
		},
	}
}

// newRequest is one that the policy of a group permits, made some time ago.
func newRequest(t *testing.T, name, group string, age time.Duration) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	object, err := casefile.Request{
		Name: name, SignerName: "example.com/internal", Requester: casefile.Requester{Username: "alice", Groups: []string{group}},
		DNSNames: []string{"web.example.com"}, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth},
	}.Object()
	if err != nil {
		t.Fatal(err)
	}
	object.UID, object.CreationTimestamp = types.UID("uid of "+name), metav1.NewTime(now.Add(-age))
	return object
}

func newGate(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) *Gate {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, certificatesv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&certificatesv1.CertificateSigningRequest{}).
		WithIndex(&certificatesv1.CertificateSigningRequest{}, "spec.signerName", func(o client.Object) []string {
			return []string{o.(*certificatesv1.CertificateSigningRequest).Spec.SignerName}
		}).WithInterceptorFuncs(funcs).Build()
	return &Gate{
		Client: c, Clock: clocktesting.NewFakeClock(now),
		Installation: &explanation.Installation{Reader: c, TrustDomain: "cluster.local", ClusterDomain: "cluster.local"},
	}
}

func names(waiting []Waiting) string {
	var all []string
	for _, w := range waiting {
		all = append(all, w.Request.Name)
	}
	return strings.Join(all, " ")
}

// with changes an object before it is used.
func with(object *certificatesv1.CertificateSigningRequest, change func(*certificatesv1.CertificateSigningRequest)) *certificatesv1.CertificateSigningRequest {
	change(object)
	return object
}

func TestPending(t *testing.T) {
	t.Parallel()
	people, robots := newPolicy("people", v1alpha1.ApprovalManual), newPolicy("robots", v1alpha1.ApprovalAutomatic)
	limited := newPolicy("limited", v1alpha1.ApprovalAutomatic)
	limited.Spec.Quotas = []v1alpha1.Quota{{Per: v1alpha1.PerPolicy, Requests: 1}}
	other := func(o *certificatesv1.CertificateSigningRequest) { o.Spec.SignerName = "example.com/other" }
	decided := func(kind certificatesv1.RequestConditionType) func(*certificatesv1.CertificateSigningRequest) {
		return func(o *certificatesv1.CertificateSigningRequest) { csr.SetCondition(o, kind, "x", "x", now) }
	}
	g := newGate(t, interceptor.Funcs{}, people, robots, limited,
		with(newRequest(t, "person", "people", 23*time.Hour), func(o *certificatesv1.CertificateSigningRequest) {
			o.Annotations = map[string]string{v1alpha1.AnnotationReview: "please"}
		}),
		with(newRequest(t, "other", "people", 2*time.Hour), other),
		newRequest(t, "nobody", "strangers", 4*time.Hour),
		newRequest(t, "quick", "robots", time.Minute), newRequest(t, "slow", "robots", time.Minute+time.Second), newRequest(t, "quota", "limited", 3*time.Hour),
		with(newRequest(t, "refused", "robots", 5*time.Hour), func(o *certificatesv1.CertificateSigningRequest) { o.Spec.Usages = nil }),
		with(newRequest(t, "kubelet", "people", 6*time.Hour), func(o *certificatesv1.CertificateSigningRequest) {
			o.Spec.SignerName = "kubernetes.io/kubelet-serving"
		}),
		with(newRequest(t, "approved", "people", time.Hour), decided(certificatesv1.CertificateApproved)),
		with(newRequest(t, "denied", "people", time.Hour), decided(certificatesv1.CertificateDenied)),
		with(newRequest(t, "failed", "people", time.Hour), decided(certificatesv1.CertificateFailed)),
	)
	waiting, problem, err := g.Pending(t.Context(), "")
	if err != nil || problem != "" {
		t.Fatalf("got %v and %q", err, problem)
	}
	if got, want := names(waiting), "person kubelet refused nobody quota other slow"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want := map[string]string{
		"person": "a person (policy people)", "other": "a person (policy people)", "nobody": "a policy that selects it",
		"slow": "the approver (policy robots)", "quota": "the approver (policy limited, which has a quota)",
		"refused": "the approver, to be denied", "kubelet": "Kubernetes' own approver, or kubectl certificate approve",
	}
	for _, w := range waiting {
		if w.For != want[w.Request.Name] {
			t.Errorf("%s waits for %q, want %q", w.Request.Name, w.For, want[w.Request.Name])
		}
	}
	if first := waiting[0]; first.Review != "please" || first.Policy != "people" || !first.DeletedAt.Equal(now.Add(time.Hour)) {
		t.Errorf("got %+v", first)
	}
	if waiting, _, err = g.Pending(t.Context(), "example.com/other"); err != nil || names(waiting) != "other" {
		t.Errorf("for one signerName: got %s and %v", names(waiting), err)
	}
}

// Who may not read policies still sees what waits.
func TestPendingWithoutPolicies(t *testing.T) {
	t.Parallel()
	g := newGate(t, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		if _, ok := list.(*v1alpha1.CertificatePolicyList); ok {
			return errors.New("forbidden")
		}
		return c.List(ctx, list, opts...)
	}}, newRequest(t, "person", "people", time.Hour))
	waiting, problem, err := g.Pending(t.Context(), "")
	if err != nil || !strings.Contains(problem, "forbidden") || names(waiting) != "person" || waiting[0].For != "unknown" {
		t.Errorf("got %+v, %q and %v", waiting, problem, err)
	}
}

// Who may not read what is known about one requester still learns what the others wait for.
func TestPendingWithoutSomeFacts(t *testing.T) {
	t.Parallel()
	workload := with(newRequest(t, "workload", "people", 2*time.Hour), func(o *certificatesv1.CertificateSigningRequest) {
		o.Spec.Username = "system:serviceaccount:shop:web"
	})
	g := newGate(t, interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
		if _, ok := object.(*corev1.Namespace); ok {
			return errors.New("forbidden")
		}
		return c.Get(ctx, key, object, opts...)
	}}, newPolicy("people", v1alpha1.ApprovalManual), workload, newRequest(t, "person", "people", time.Hour))
	waiting, problem, err := g.Pending(t.Context(), "")
	if err != nil || !strings.Contains(problem, "forbidden") || names(waiting) != "workload person" {
		t.Fatalf("got %s, %q and %v", names(waiting), problem, err)
	}
	if waiting[0].For != "unknown" || waiting[1].For != "a person (policy people)" {
		t.Errorf("got %q and %q", waiting[0].For, waiting[1].For)
	}
}

// watcher runs Watch and hands on what it shows.
type watcher struct {
	*Gate
	t       *testing.T
	shown   chan string
	ended   chan error
	started chan struct{} // gets a value when a watch has begun
	broken  int           // how many watches end at once
}

func newWatcher(t *testing.T, broken int, objects ...client.Object) *watcher {
	t.Helper()
	w := &watcher{t: t, shown: make(chan string, 10), ended: make(chan error, 1), started: make(chan struct{}, 10), broken: broken}
	w.Gate = newGate(t, interceptor.Funcs{Watch: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
		defer func() { w.started <- struct{}{} }()
		if w.broken > 0 {
			w.broken--
			ended := watch.NewFake()
			ended.Stop()
			return ended, nil
		}
		return c.Watch(ctx, list, opts...)
	}}, objects...)
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	go func() {
		w.ended <- w.Watch(ctx, "", func(waiting []Waiting, _ string) error {
			w.shown <- names(waiting)
			return nil
		})
	}()
	return w
}

// next fails unless this is shown next.
func (w *watcher) next(want string) {
	w.t.Helper()
	select {
	case got := <-w.shown:
		if got != want {
			w.t.Errorf("got %s, want %s", got, want)
		}
	case err := <-w.ended:
		w.t.Fatalf("the watch ended: %v", err)
	case <-time.After(30 * time.Second):
		w.t.Fatalf("%s was not shown", want)
	}
}

func TestWatchShowsEachOnce(t *testing.T) {
	t.Parallel()
	w := newWatcher(t, 0, newPolicy("people", v1alpha1.ApprovalManual), newPolicy("robots", v1alpha1.ApprovalAutomatic), newRequest(t, "first", "people", time.Hour))
	w.next("first")
	<-w.started
	second := newRequest(t, "second", "people", 0)
	for _, object := range []client.Object{newRequest(t, "quick", "robots", 0), second} {
		if err := w.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	w.next("second") // and not the one that the approver is about to approve
	// What changes without anything new to see is not shown again; another review is.
	second.Labels = map[string]string{"a": "b"}
	if err := w.Client.Update(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	second.Annotations = map[string]string{v1alpha1.AnnotationReview: "look"}
	if err := w.Client.Update(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	third := newRequest(t, "third", "people", 0)
	if err := w.Client.Create(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	w.next("second")
	w.next("third")
}

func TestWatchBeginsAgain(t *testing.T) {
	t.Parallel()
	w := newWatcher(t, 1, newPolicy("people", v1alpha1.ApprovalManual), newRequest(t, "first", "people", time.Hour))
	w.next("first")
	<-w.started
	if err := w.Client.Create(t.Context(), newRequest(t, "missed", "people", 0)); err != nil {
		t.Fatal(err)
	}
	clock := w.Clock.(*clocktesting.FakeClock)
	for !clock.HasWaiters() {
		goruntime.Gosched()
	}
	clock.Step(rewatch)
	w.next("missed")
}

func TestTable(t *testing.T) {
	t.Parallel()
	evil := newRequest(t, "evil\x1b[2J", "people", 23*time.Hour+30*time.Minute)
	evil.Spec.Username = "\u202emallory"
	long := newRequest(t, "long", "people", time.Hour)
	request, err := casefile.Request{SignerName: "a.b/c", Requester: casefile.Requester{Username: "bob"}, DNSNames: slices.Repeat([]string{"a.example.com"}, 20), Usages: long.Spec.Usages}.Object()
	if err != nil {
		t.Fatal(err)
	}
	long.Spec.Request = request.Spec.Request
	g := newGate(t, interceptor.Funcs{}, newPolicy("people", v1alpha1.ApprovalManual), evil, long, newRequest(t, "late", "people", 25*time.Hour))
	waiting, _, err := g.Pending(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := WriteTable(&out, waiting, true, now); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.ContainsAny(text, "\x1b\u202e") {
		t.Errorf("control characters: %q", text)
	}
	lines := strings.Split(text, "\n")
	for i, want := range [][]string{
		{"NAME", "SIGNER", "REQUESTER", "ASKS FOR", "WAITS FOR", "AGE", "DELETED IN"},
		{"late", "25h", "any moment"},
		{`evil\x1b[2J`, "example.com/internal", "mallory", "web.example.com for server auth", "a person (policy people)", "23h", "30m"},
		{"long", "a.example.com, ", "…", "60m", "23h"},
	} {
		for _, cell := range want {
			if !strings.Contains(lines[i], cell) {
				t.Errorf("line %d: %q is not in %q", i, cell, lines[i])
			}
		}
	}
	out.Reset()
	if err := WriteHint(&out, waiting); err != nil || !strings.Contains(out.String(), "kubectl certwright approve NAME") || strings.Contains(out.String(), "evil") {
		t.Errorf("hint: got %q and %v", out.String(), err)
	}
	out.Reset()
	if err := WriteHint(&out, nil); err != nil || out.String() != "" {
		t.Errorf("hint for nothing: got %q and %v", out.String(), err)
	}
}
