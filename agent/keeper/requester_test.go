// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/certwright/certwright/agent/apiserver"
)

func TestTroubleIsRetried(t *testing.T) {
	// fails makes the first n calls of a method fail.
	fails := func(method string, n int, fail func(w http.ResponseWriter)) func(*cluster) {
		return func(c *cluster) {
			c.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != method || n == 0 {
					return false
				}
				n--
				fail(w)
				return true
			}
		}
	}
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { refuse(w, code, "Trouble", "it does not work") }
	}
	raw := func(text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _, _ = w.Write([]byte(text)) }
	}
	cases := map[string]struct {
		setup func(*cluster)
		posts int
		log   string
	}{
		"500 on create":             {fails("POST", 3, status(500)), 4, "500"},
		"503 on read":               {fails("GET", 3, status(503)), 1, "503"},
		"401":                       {fails("POST", 2, status(401)), 3, "401"},
		"403 says what is needed":   {fails("POST", 2, status(403)), 3, "needs create and get on certificatesigningrequests"},
		"403 on read":               {fails("GET", 2, status(403)), 1, "403"},
		"garbage on create":         {fails("POST", 1, raw("<html>")), 2, "not the JSON"},
		"another kind":              {fails("POST", 1, raw(`{"kind":"List"}`)), 2, "not a CertificateSigningRequest"},
		"garbage on read":           {fails("GET", 2, raw("{")), 1, "not the JSON"},
		"connection cut on create":  {fails("POST", 2, func(http.ResponseWriter) { panic(http.ErrAbortHandler) }), 3, "calling the API server"},
		"connection cut on read":    {fails("GET", 2, func(http.ResponseWriter) { panic(http.ErrAbortHandler) }), 1, "calling the API server"},
		"redirect is not followed":  {fails("POST", 1, func(w http.ResponseWriter) { w.Header().Set("Location", "/x"); w.WriteHeader(302) }), 2, "302"},
		"deleted while it pends":    {fails("GET", 1, status(404)), 2, "deleted before it was answered"},
		"deleted and made by other": {replaced(func(r *apiserver.Request) { r.Metadata.UID = "other" }), 2, "deleted before it was answered"},
		"other request on read":     {replaced(func(r *apiserver.Request) { r.Spec.Request = []byte("other") }), 2, "deleted before it was answered"},
		"answer to create was lost": {lostAnswer(func(*apiserver.Request) {}), 2, "500"},
		"planted under our name":    {lostAnswer(func(r *apiserver.Request) { r.Spec.Request = []byte("planted") }), 3, "another object holds the name"},
		"planted for other signer":  {lostAnswer(func(r *apiserver.Request) { r.Spec.SignerName = "example.com/other" }), 3, "another object holds the name"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				test.setup(c)
				run := c.start(c.config())
				if run.after(30*time.Second) == nil {
					t.Error("no key pair in the end")
				}
				run.wantLog(test.log)
				if n := c.count("POST"); n != test.posts {
					t.Errorf("%d POSTs, want %d", n, test.posts)
				}
			})
		})
	}
}

// replaced issues the first object and then changes it before it is read.
func replaced(change func(*apiserver.Request)) func(*cluster) {
	return func(c *cluster) {
		done := false
		c.decide = func(object *apiserver.Request) {
			c.issue(object)
			if !done {
				done = true
				change(object)
			}
		}
	}
}

// lostAnswer stores the first request, changed, and answers 500 all the same.
func lostAnswer(change func(*apiserver.Request)) func(*cluster) {
	return func(c *cluster) {
		done := false
		c.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost || done {
				return false
			}
			done = true
			object := new(apiserver.Request)
			if err := json.NewDecoder(r.Body).Decode(object); err != nil {
				c.t.Error(err)
			}
			object.Metadata.UID = "first"
			change(object)
			c.objects[object.Metadata.Name] = object
			refuse(w, 500, "Trouble", "the answer was lost")
			return true
		}
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost && len(c.calls) == 1 {
				w.Header().Set("Retry-After", "40")
				refuse(w, http.StatusTooManyRequests, "TooManyRequests", "later")
				return true
			}
			return false
		}
		run := c.start(c.config())
		if run.after(39*time.Second) != nil || c.count("POST") != 1 {
			t.Error("asked again too early")
		}
		if run.after(2*time.Second) == nil {
			t.Error("not asked again")
		}
	})
}

func TestInvalidRequestIsAVerdict(t *testing.T) {
	for _, code := range []int{http.StatusBadRequest, http.StatusUnprocessableEntity} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t)
			c.intercept = func(w http.ResponseWriter, _ *http.Request) bool {
				refuse(w, code, "Invalid", "spec.usages: Unsupported value")
				return true
			}
			run := c.start(c.config())
			run.after(time.Second)
			var verdict *apiserver.RequestError
			if err := run.result(); !errors.As(err, &verdict) || verdict.Verdict != "Invalid" || !strings.Contains(err.Error(), "spec.usages") {
				t.Errorf("code %d: error %v", code, err)
			}
		})
	}
}

func TestWaitsForAPersonForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.decide = func(*apiserver.Request) {}
		run := c.start(c.config())
		run.after(9 * time.Second)
		if strings.Contains(run.log.String(), "kubectl certificate approve") {
			t.Error("said too early that it waits")
		}
		run.after(5 * time.Second)
		var name string
		for name = range c.objects {
		}
		run.wantLog("kubectl certificate approve " + name)
		if _, err := Health(run.config, "", time.Now()); err == nil || !strings.Contains(err.Error(), "kubectl certificate approve "+name) {
			t.Errorf("health does not say what to do: %v", err)
		}
		run.after(time.Hour)
		if n := strings.Count(run.log.String(), "kubectl certificate approve"); n != 1 {
			t.Errorf("said %d times that it waits, want once", n)
		}
		calls := c.count("GET")
		run.after(time.Hour)
		if n := c.count("GET") - calls; n < 180 || n > 260 {
			t.Errorf("%d reads in an hour, want about 4 a minute", n)
		}

		c.with(func() { clear(c.objects) }) // Kubernetes' cleaner, after 24 hours
		run.after(time.Minute)
		if n := c.count("POST"); n != 2 || len(c.objects) != 1 {
			t.Errorf("%d requests, want a second one after the first was cleaned away", n)
		}
		c.with(func() {
			c.decide = func(r *apiserver.Request) { r.Status.Conditions = []apiserver.RequestCondition{{Type: "Approved"}} }
		})
		run.after(time.Minute)
		run.wantLog("is approved and waits for its signer")
		c.with(func() { c.decide = nil })
		if run.after(20*time.Second) == nil {
			t.Error("not written after approval")
		}
		if status := run.status(); status != "" {
			t.Errorf("status %q is left behind", status)
		}
	})
}

// shifted is a wall clock that somebody sets; timers go on undisturbed, as they
// do on a machine.
type shifted struct {
	clock.RealClock
	by *atomic.Int64 // nanoseconds
}

func (s shifted) Now() time.Time                  { return time.Now().Round(0).Add(time.Duration(s.by.Load())) }
func (s shifted) Since(t time.Time) time.Duration { return s.Now().Sub(t) }

func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var by atomic.Int64
		run := c.startAt(c.config(), shifted{by: &by})
		first := run.after(time.Minute)
		by.Store(int64(-48 * time.Hour))
		if now := run.after(30 * time.Second); !now.Pair.Leaf().Equal(first.Pair.Leaf()) || c.count("POST") != 1 {
			t.Error("a clock that was set back cost a renewal")
		}
		by.Store(int64(17 * time.Hour))
		if now := run.after(30 * time.Second); now.Pair.Leaf().Equal(first.Pair.Leaf()) {
			t.Error("a node that slept for 17 hours did not renew within 30 s")
		}
	})
}

func TestStopsAtOnceWhateverItDoes(t *testing.T) {
	hang := func(method string) func(*cluster) {
		return func(c *cluster) {
			c.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == method {
					_, _ = io.Copy(io.Discard, r.Body) // or the server would not notice the hang-up
					c.mu.Unlock()
					<-r.Context().Done()
					c.mu.Lock()
					return true
				}
				return false
			}
		}
	}
	cases := map[string]func(*cluster){
		"create hangs":       hang("POST"),
		"read hangs":         hang("GET"),
		"waits for approval": func(c *cluster) { c.decide = func(*apiserver.Request) {} },
		"waits for bundle":   func(c *cluster) { c.write("bundle", nil) },
		"waits for renewal":  func(*cluster) {},
	}
	for name, setup := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				setup(c)
				run := c.start(c.config())
				run.after(7 * time.Second)
				start := time.Now()
				run.cancel()
				if err := run.result(); err != nil || time.Since(start) != 0 {
					t.Errorf("error %v after %v", err, time.Since(start))
				}
			})
		})
	}
}
