// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes/scheme"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
)

var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func request(name string, uid types.UID) *certificatesv1.CertificateSigningRequest {
	return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid}}
}

// newTeller returns a teller whose creations end in createErr if that is set, and a context that logs to the text.
func newTeller(t *testing.T, createErr error) (Teller, context.Context, *strings.Builder) {
	t.Helper()
	var log strings.Builder
	logger := funcr.New(func(prefix, args string) { log.WriteString(args + "\n") }, funcr.Options{})
	c := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if createErr != nil {
				return createErr
			}
			return c.Create(ctx, o, opts...)
		},
	}).Build()
	teller := Teller{Client: c, Component: "certwright-test", Instance: "pod-0", Clock: testingclock.NewFakePassiveClock(now)}
	return teller, logr.NewContext(t.Context(), logger), &log
}

func told(t *testing.T, teller Teller) []eventsv1.Event {
	t.Helper()
	var list eventsv1.EventList
	if err := teller.Client.List(t.Context(), &list); err != nil {
		t.Fatalf("listing events: %v", err)
	}
	return list.Items
}

func TestEventSaysWhoWhatAndAboutWhom(t *testing.T) {
	teller, ctx, _ := newTeller(t, nil)
	teller.Warn(ctx, request("web", "uid-1"), "PolicyDenies", "Not this.")
	events := told(t, teller)
	if len(events) != 1 {
		t.Fatalf("%d events, want 1", len(events))
	}
	e := events[0]
	want := corev1.ObjectReference{APIVersion: "certificates.k8s.io/v1", Kind: "CertificateSigningRequest", Name: "web", UID: "uid-1"}
	if e.Regarding != want {
		t.Errorf("regarding %v, want %v", e.Regarding, want)
	}
	if e.Namespace != "default" || e.Type != "Warning" || e.Reason != "PolicyDenies" || e.Note != "Not this." || !e.EventTime.Time.Equal(now) {
		t.Errorf("event is %+v", e)
	}
	if e.ReportingController != "certwright.dev/certwright-test" || e.ReportingInstance != "pod-0" || e.Action == "" {
		t.Errorf("reported by %q %q, action %q", e.ReportingController, e.ReportingInstance, e.Action)
	}
}

func TestEventsAreToldOnceForEachRequestAndReason(t *testing.T) {
	teller, ctx, log := newTeller(t, nil)
	for range 3 {
		teller.Warn(ctx, request("web", "uid-1"), "NoPolicy", "first")
		teller.Warn(ctx, request("web", "uid-1"), "NoPolicy", "again, in other words")
	}
	if n := len(told(t, teller)); n != 1 {
		t.Errorf("%d events for one request and reason, want 1", n)
	}
	if log.Len() > 0 {
		t.Errorf("an event that exists was logged as trouble: %s", log)
	}
	teller.Inform(ctx, request("web", "uid-1"), "WaitingForApproval", "another reason")
	teller.Warn(ctx, request("web", "uid-2"), "NoPolicy", "another request of the same name")
	if n := len(told(t, teller)); n != 3 {
		t.Errorf("%d events, want 3: another reason and another UID are told", n)
	}
}

func TestEventThatCannotBeCreatedIsLogged(t *testing.T) {
	teller, ctx, log := newTeller(t, errors.New("etcd is full"))
	teller.Warn(ctx, request("web", "uid-1"), "NoPolicy", "text")
	if !strings.Contains(log.String(), "etcd is full") || !strings.Contains(log.String(), "NoPolicy") {
		t.Errorf("logged %q, want the error and the reason", log)
	}
}

// The API server takes any text without / and % as the name of a request.
func TestEventNamesAreDNSNames(t *testing.T) {
	for name, request := range map[string]*certificatesv1.CertificateSigningRequest{
		"plain":                request("web-1", "uid"),
		"upper case":           request("node-csr-AbC_d", "uid"),
		"spaces and a newline": request("a b\nc", "uid"),
		"long":                 request(strings.Repeat("a", 253), "uid"),
		"long, cut at a dot":   request(strings.Repeat("a", 199)+"."+strings.Repeat("b", 53), "uid"),
		"not ASCII":            request("zertifikat-für-mich", "uid"),
		"ends with a hyphen":   request("web-", "uid"),
		"shell":                request("$(reboot);'", "uid"),
	} {
		t.Run(name, func(t *testing.T) {
			got := nameFrom(request.Name, "uid/NoPolicy")
			if problems := validation.IsDNS1123Subdomain(got); len(problems) > 0 {
				t.Errorf("%q is refused by the API server: %v", got, problems)
			}
			teller, ctx, _ := newTeller(t, nil)
			teller.Warn(ctx, request, "NoPolicy", "text")
			if events := told(t, teller); len(events) != 1 || events[0].Regarding.Name != request.Name {
				t.Errorf("events %v, want one about %q", events, request.Name)
			}
		})
	}
	if !strings.HasPrefix(nameFrom("web-1", "uid/NoPolicy"), "web-1.") {
		t.Error("a plain name is not kept")
	}
}

func TestNotesAreCutAtAWholeCharacter(t *testing.T) {
	for name, note := range map[string]string{
		"fits exactly":       strings.Repeat("x", maxNote),
		"a byte too long":    strings.Repeat("x", maxNote+1),
		"of two-byte runes":  strings.Repeat("é", maxNote),
		"shifted by a byte":  "x" + strings.Repeat("é", maxNote),
		"of four-byte runes": "xx" + strings.Repeat("🔑", maxNote),
		"not UTF-8":          strings.Repeat("\xff\xfe", 10),
		"not UTF-8, long":    strings.Repeat("a\x80", maxNote),
	} {
		t.Run(name, func(t *testing.T) {
			teller, ctx, _ := newTeller(t, nil)
			teller.Warn(ctx, request("web", "uid"), "NoPolicy", note)
			got := told(t, teller)[0].Note
			if len(got) > maxNote || !utf8.ValidString(got) {
				t.Errorf("note of %d bytes, valid UTF-8 %t", len(got), utf8.ValidString(got))
			}
			fits := len(strings.ToValidUTF8(note, "\uFFFD")) <= maxNote
			if cut := strings.Contains(got, "cut: see"); cut == fits {
				t.Errorf("says that it was cut: %t, of %d bytes", cut, len(note))
			}
		})
	}
}

// A backend that goes down twice is told of twice, unlike what is told about a request.
func TestEveryChangeOfASignerIsTold(t *testing.T) {
	teller, ctx, log := newTeller(t, nil)
	signer := &v1alpha1.Signer{ObjectMeta: metav1.ObjectMeta{Name: "internal", UID: "uid-1"}}
	clock := testingclock.NewFakePassiveClock(now)
	teller.Clock = clock
	for i := range 2 {
		clock.SetTime(now.Add(time.Duration(i) * time.Minute))
		teller.Signer(ctx, signer, corev1.EventTypeWarning, "BackendDown", strings.Repeat("é", 2000))
	}
	events := told(t, teller)
	if len(events) != 2 || log.Len() > 0 {
		t.Fatalf("%d events, want 2; the log says %q", len(events), log)
	}
	e := events[0]
	want := corev1.ObjectReference{APIVersion: "certwright.dev/v1alpha1", Kind: "Signer", Name: "internal", UID: "uid-1"}
	if e.Regarding != want || e.Reason != "BackendDown" || e.Type != "Warning" || len(e.Note) > maxNote || e.Namespace != "default" || e.Action == "" {
		t.Errorf("event is %+v", e)
	}
}
