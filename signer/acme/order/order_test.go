// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package order_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/acmetest"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/acme/order"
)

// place is a solver that keeps what is in place in memory.
type place struct {
	mu     sync.Mutex
	there  map[string]int
	broken error
}

func (p *place) change(c challenge.Challenge, n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return p.broken
	}
	p.there[c.Domain+" "+c.Token] = n
	return nil
}

func (p *place) Present(_ context.Context, c challenge.Challenge) error { return p.change(c, 1) }
func (p *place) CleanUp(_ context.Context, c challenge.Challenge) error { return p.change(c, 0) }
func (p *place) Ready(context.Context, challenge.Challenge) error       { return nil }

func (p *place) left() (left []string) {
	for what, n := range p.there {
		if n > 0 {
			left = append(left, what)
		}
	}
	slices.Sort(left)
	return left
}

type fixture struct {
	*acmetest.Cluster
	book  *order.Book
	clock *clocktesting.FakeClock
	place *place
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Cluster: acmetest.NewCluster(t), clock: clocktesting.NewFakeClock(time.Now()), place: &place{there: map[string]int{}}}
	f.restart()
	return f
}

func (f *fixture) restart() {
	f.book = order.NewBook(f.Client, f.Client, acmetest.Namespace, f.clock)
}

func (f *fixture) cleaner() *order.Cleaner {
	return &order.Cleaner{Book: f.book, Requests: f.Client, Clock: f.clock, NewSolver: func(v1alpha1.ACMESolver) (challenge.Solver, error) { return f.place, nil }}
}

func key(uid types.UID) order.Key {
	return order.Key{Signer: "public", Backend: "letsencrypt", Account: "thumbprint", UID: uid, DER: []byte("der"), Duration: time.Hour}
}

func (f *fixture) open(t *testing.T, uid types.UID) *order.Order {
	t.Helper()
	o, err := f.book.Open(t.Context(), key(uid), "csr-"+string(uid), "shop")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

var config = v1alpha1.ACMESolver{HTTP01: &v1alpha1.HTTP01{Ingress: &v1alpha1.HTTP01Ingress{ClassName: "public"}}}

func answer(domain, token string) order.Answer {
	return order.Answer{
		Challenge: challenge.Challenge{Type: challenge.HTTP01, Domain: domain, Token: token, KeyAuthorization: token + ".thumbprint"},
		URL:       "https://acme.example.com/challenge/" + domain + "/" + token, Authorization: "https://acme.example.com/authorization/" + domain,
	}
}

// under makes an order with an answer in place, and stores it.
func (f *fixture) under(t *testing.T, uid types.UID, answers ...order.Answer) {
	t.Helper()
	o := f.open(t, uid)
	defer o.Release()
	o.URL = "https://acme.example.com/order/" + string(uid)
	for _, a := range answers {
		o.Add(config, a)
	}
	if err := o.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, a := range o.Answers {
		if err := o.PresentAnswer(t.Context(), f.place, a); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *fixture) request(t *testing.T, uid types.UID, finished bool) {
	t.Helper()
	object := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "csr-" + string(uid), UID: uid}}
	if finished {
		object.Status.Certificate = []byte("certificate")
	}
	if err := f.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func TestRecordOutlivesTheProcess(t *testing.T) {
	f := newFixture(t)
	f.under(t, "a", answer("web.example.com", "token"))
	f.restart()
	o := f.open(t, "a")
	defer o.Release()
	if o.URL != "https://acme.example.com/order/a" || len(o.Answers) != 1 || o.Answers[0].KeyAuthorization != "token.thumbprint" || o.Solvers[0].HTTP01.Ingress.ClassName != "public" {
		t.Errorf("the record is %+v", o.Record)
	}
	if has, err := f.book.Has(t.Context(), key("a")); !has || err != nil {
		t.Errorf("Has: %t, %v", has, err)
	}
}

func TestKeysAreOfOneRequest(t *testing.T) {
	f := newFixture(t)
	f.under(t, "a")
	for name, change := range map[string]func(*order.Key){
		"another request":  func(k *order.Key) { k.UID = "b" },
		"other bytes":      func(k *order.Key) { k.DER = []byte("other") },
		"another lifetime": func(k *order.Key) { k.Duration = 2 * time.Hour },
		"another account":  func(k *order.Key) { k.Account = "other" },
		"another backend":  func(k *order.Key) { k.Backend = "zerossl" },
		"shifted parts":    func(k *order.Key) { k.Signer, k.Backend = "publicl", "etsencrypt" },
	} {
		k := key("a")
		change(&k)
		if has, err := f.book.Has(t.Context(), k); has || err != nil {
			t.Errorf("%s: it has the order (error %v)", name, err)
		}
	}
}

func TestNothingIsKeptOfWhatWasNeverStored(t *testing.T) {
	f := newFixture(t)
	for i := range 5000 {
		f.open(t, types.UID(fmt.Sprint(i))).Release()
	}
	if n := f.book.Len(); n != 0 {
		t.Errorf("%d orders are in memory", n)
	}
}

// fill opens orders of a requester until he may have no more, and returns how many he has.
func (f *fixture) fill(t *testing.T, requester string, save func(*order.Order, context.Context) error) int {
	t.Helper()
	for count := 0; ; count++ {
		o, err := f.book.Open(t.Context(), key(types.UID(fmt.Sprint(requester, count))), "csr", requester)
		if errors.Is(err, order.ErrFull) {
			return count
		}
		if err != nil || count > 3000 {
			t.Fatalf("order %d: %v", count, err)
		}
		o.URL = "https://acme.example.com/order"
		if err := save(o, t.Context()); err != nil {
			t.Fatal(err)
		}
		o.Release()
	}
}

// However many orders others have that come to nothing, there is one for who has none, and they count after a restart, too.
func TestRequesterLeavesRoomForOthers(t *testing.T) {
	f := newFixture(t)
	if n := f.fill(t, "noisy", (*order.Order).Save); n != 1000 {
		t.Errorf("a requester alone has %d orders, want half of all", n)
	}
	f.restart()
	if _, err := f.book.Open(t.Context(), key("one more"), "csr", "noisy"); !errors.Is(err, order.ErrFull) {
		t.Errorf("after a restart the same requester has another one, or the error %v", err)
	}
	for i := range 20 {
		if n := f.fill(t, fmt.Sprint("other", i), func(*order.Order, context.Context) error { return nil }); n > 500 {
			t.Errorf("requester %d has %d orders", i, n)
		}
	}
	if n := f.book.Len(); n > 2000 {
		t.Errorf("there are %d orders", n)
	}
	other := key("x")
	other.Backend = "another"
	o, err := f.book.Open(t.Context(), other, "csr", "noisy")
	if err != nil {
		t.Fatalf("another backend: %v", err)
	}
	o.Release()
}

func TestAnswersThatTwoOrdersNeed(t *testing.T) {
	f := newFixture(t)
	shared, own := answer("web.example.com", "shared"), answer("web.example.com", "own")
	f.under(t, "a", shared, own)
	f.under(t, "b", shared)
	f.request(t, "a", true)
	f.request(t, "b", false)
	f.cleaner().Sweep(t.Context())
	if left := f.place.left(); !slices.Equal(left, []string{"web.example.com shared"}) {
		t.Errorf("in place is %v, want what the other order needs", left)
	}
	if len(f.Orders(t)) != 1 {
		t.Errorf("%d Secrets are left", len(f.Orders(t)))
	}
	f.restart() // who needs what outlives the process, too
	if err := f.Delete(t.Context(), &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "csr-b"}}); err != nil {
		t.Fatal(err)
	}
	f.cleaner().Sweep(t.Context())
	if left := f.place.left(); len(left) > 0 || len(f.Orders(t)) > 0 {
		t.Errorf("in place is %v, with %d Secrets", left, len(f.Orders(t)))
	}
}

func TestCleaner(t *testing.T) {
	for name, c := range map[string]struct {
		arrange func(t *testing.T, f *fixture)
		stays   bool
	}{
		"the request waits":            {func(t *testing.T, f *fixture) { f.request(t, "a", false) }, true},
		"the request is finished":      {func(t *testing.T, f *fixture) { f.request(t, "a", true) }, false},
		"the request is gone":          {func(*testing.T, *fixture) {}, false},
		"it is another request":        {func(t *testing.T, f *fixture) { f.request(t, "b", false); f.rename(t, "b", "a") }, false},
		"nobody asks for it any more":  {func(t *testing.T, f *fixture) { f.request(t, "a", false); f.clock.Step(3 * time.Hour) }, false},
		"the process crashed":          {func(_ *testing.T, f *fixture) { f.restart() }, false},
		"the Secret was deleted":       {func(t *testing.T, f *fixture) { f.deleteOrders(t) }, false},
		"the Secret was filled with x": {func(t *testing.T, f *fixture) { f.spoil(t); f.restart(); f.place.there = map[string]int{} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.under(t, "a", answer("web.example.com", "token"))
			c.arrange(t, f)
			f.cleaner().Sweep(t.Context())
			left, secrets := len(f.place.left()), len(f.Orders(t))
			if c.stays && (left != 1 || secrets != 1) || !c.stays && (left != 0 || secrets != 0 || f.book.Len() != 0) {
				t.Errorf("%d answers, %d Secrets and %d orders are left", left, secrets, f.book.Len())
			}
		})
	}
}

func (f *fixture) rename(t *testing.T, uid, as types.UID) {
	t.Helper()
	if err := f.Create(t.Context(), &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "csr-" + string(as), UID: uid}}); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) deleteOrders(t *testing.T) {
	t.Helper()
	for _, s := range f.Orders(t) {
		if err := f.Delete(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *fixture) spoil(t *testing.T) {
	t.Helper()
	for _, s := range f.Orders(t) {
		s.Data = map[string][]byte{"order.json": []byte(`{"answers":[{"solver":7}]}`)}
		if err := f.Update(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
	}
}

// What cannot be taken away now stays in the Secret until it can.
func TestCleanerTriesAgain(t *testing.T) {
	f := newFixture(t)
	f.under(t, "a", answer("web.example.com", "token"))
	f.place.broken = errors.New("the DNS server is down")
	for range 2 {
		f.cleaner().Sweep(t.Context())
		if len(f.Orders(t)) != 1 {
			t.Fatal("the Secret is gone, and what it tells to take away is still there")
		}
		f.restart()
	}
	f.place.broken = nil
	f.cleaner().Sweep(t.Context())
	if len(f.place.left()) != 0 || len(f.Orders(t)) != 0 {
		t.Error("it was not taken away")
	}
}

func TestCleanerRuns(t *testing.T) {
	f := newFixture(t)
	f.under(t, "a", answer("web.example.com", "token"))
	f.request(t, "a", false)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.cleaner().Start(ctx) }()
	if err := f.Delete(ctx, &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "csr-a"}}); err != nil {
		t.Fatal(err)
	}
	for len(f.Orders(t)) > 0 {
		f.clock.Step(time.Second)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Another process, such as the leader before this one, wrote the order.
func TestStaleOrder(t *testing.T) {
	f := newFixture(t)
	f.under(t, "a")
	mine := f.open(t, "a")
	defer mine.Release()
	f.restart()
	theirs := f.open(t, "a")
	theirs.URL = "https://acme.example.com/order/other"
	theirs.Add(config, answer("web.example.com", "token"))
	if err := theirs.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	theirs.Release()
	if err := mine.Save(t.Context()); !errors.Is(err, order.ErrStale) {
		t.Fatalf("Save: %v, want ErrStale", err)
	}
	if mine.URL != "https://acme.example.com/order/other" || len(mine.Answers) != 1 {
		t.Errorf("the order is %+v", mine.Record)
	}
	if err := mine.Save(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTokens(t *testing.T) {
	f := newFixture(t)
	f.under(t, "a", answer("web.example.com", "token"))
	tokens := order.Tokens{Reader: f.Client, Namespace: acmetest.Namespace}
	if got, err := tokens.KeyAuthorization(t.Context(), "web.example.com", "token"); got != "token.thumbprint" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	// Only what is an order is looked at, whoever may make other Secrets.
	stranger := f.Orders(t)[0].DeepCopy()
	stranger.ObjectMeta = metav1.ObjectMeta{Namespace: acmetest.Namespace, Name: "stranger", Labels: stranger.Labels}
	stranger.Data["order.json"] = []byte(`{"answers":[{"type":"http-01","domain":"bank.example.com","token":"evil","keyAuthorization":"evil.evil","solver":0}],"solvers":[{}]}`)
	if err := f.Create(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{"shop.example.com", "token"}, {"web.example.com", "other"}, {"", ""}, {"bank.example.com", "evil"}} {
		if got, err := tokens.KeyAuthorization(t.Context(), c[0], c[1]); !errors.Is(err, order.ErrUnknownToken) {
			t.Errorf("%v: got %q, %v", c, got, err)
		}
	}
	if s := f.Orders(t)[0]; s.Type != corev1.SecretTypeOpaque || s.Labels["app.kubernetes.io/managed-by"] != "certwright" || s.Labels[order.Label] != "public.letsencrypt" {
		t.Errorf("the Secret is %v %v", s.Type, s.Labels)
	}
}

// Whoever opens an order has it alone.
func TestOneAtATime(t *testing.T) {
	f := newFixture(t)
	f.under(t, "a")
	held := f.open(t, "a")
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() {
		_, err := f.book.Open(ctx, key("a"), "csr-a", "shop")
		waiting <- err
	}()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v", err)
	}
	held.Release()
	f.open(t, "a").Release()
}
