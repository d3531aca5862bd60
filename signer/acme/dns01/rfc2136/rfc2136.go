// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rfc2136 writes the TXT records of challenges with dynamic updates (RFC 2136), signed with TSIG (RFC 8945).
//
// An update adds or removes exactly one value and leaves the others at the name alone. An answer counts only if it is signed
// with the same key, so nobody on the way can say that an update was made.
package rfc2136

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/dns01/txt"
	"github.com/certwright/certwright/signer/remote"
)

const (
	dnsPort = "53"
	// timeout of one exchange with the server. The caller's context may be shorter.
	timeout = 10 * time.Second
	// fudge is by how many seconds the clocks of signer and server may differ (RFC 8945, section 10).
	fudge = 300
)

// algorithms of TSIG that the API names, as they are called in messages.
var algorithms = map[string]string{
	"":            dns.HmacSHA256,
	"hmac-sha1":   dns.HmacSHA1,
	"hmac-sha224": dns.HmacSHA224,
	"hmac-sha256": dns.HmacSHA256,
	"hmac-sha384": dns.HmacSHA384,
	"hmac-sha512": dns.HmacSHA512,
}

// Writer sends updates to one server. It is safe for concurrent use.
type Writer struct {
	server    string // as HOST:PORT
	key       string // name of the TSIG key; empty if updates are not signed
	algorithm string
	secret    v1alpha1.SecretKeyRef
	secrets   remote.Secrets
	clock     clock.PassiveClock
}

var (
	_ txt.Writer  = (*Writer)(nil)
	_ txt.Checker = (*Writer)(nil)
)

// New returns a writer. It does no I/O; the error is about the configuration and names the field below dns01.rfc2136. The
// TSIG key is read anew for each update.
func New(config v1alpha1.RFC2136, secrets remote.Secrets, c clock.PassiveClock) (*Writer, error) {
	server, err := parseServer(config.Server)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	w := &Writer{server: server, secrets: secrets, clock: c}
	if config.TSIG == nil {
		return w, nil
	}
	if w.key, err = txt.Name(config.TSIG.KeyName); err != nil {
		return nil, fmt.Errorf("tsig.keyName: %w", err)
	}
	var known bool
	if w.algorithm, known = algorithms[config.TSIG.Algorithm]; !known {
		return nil, fmt.Errorf("tsig.algorithm: %.80q is none of hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384 and hmac-sha512", config.TSIG.Algorithm)
	}
	w.secret = config.TSIG.SecretRef
	return w, remote.CheckRef(w.secret, "tsig.secretRef")
}

// parseServer reads HOST or HOST:PORT and returns HOST:PORT, with port 53 if there is none. An IPv6 address with a port is in
// brackets.
func parseServer(s string) (string, error) {
	host, port := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), dnsPort
	if net.ParseIP(host) == nil && strings.Contains(s, ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", fmt.Errorf("%.80q is neither HOST nor HOST:PORT", s)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%.80q: the port must be between 1 and 65535", s)
	}
	if net.ParseIP(host) == nil {
		if _, err := txt.Name(host); err != nil {
			return "", fmt.Errorf("%.80q: the host is neither an IP address nor a DNS name", s)
		}
	}
	return net.JoinHostPort(host, port), nil
}

// Present implements txt.Writer.
func (w *Writer) Present(ctx context.Context, record txt.Record) error {
	others, err := w.others(ctx, record)
	if err != nil {
		return err
	}
	if others >= txt.MaxValues {
		return fmt.Errorf("%s: %w", record.Name, txt.ErrFull)
	}
	update := new(dns.Msg).SetUpdate(record.Zone)
	update.Insert([]dns.RR{rr(record)})
	return w.update(ctx, update, record)
}

// CleanUp implements txt.Writer.
func (w *Writer) CleanUp(ctx context.Context, record txt.Record) error {
	update := new(dns.Msg).SetUpdate(record.Zone)
	update.Remove([]dns.RR{rr(record)})
	return w.update(ctx, update, record)
}

// Check implements txt.Checker: it asks the server for something harmless in the way that updates are sent. Whatever the
// server answers, if it is signed, then the server runs and knows the key.
func (w *Writer) Check(ctx context.Context) error {
	answer, err := w.exchange(ctx, new(dns.Msg).SetQuestion(".", dns.TypeSOA))
	if err == nil && answer.Rcode == dns.RcodeNotAuth {
		err = fmt.Errorf("DNS server %s answers a question with NOTAUTH: its log says why", w.server)
	}
	return err
}

func rr(record txt.Record) dns.RR {
	return &dns.TXT{
		Hdr: dns.RR_Header{Name: record.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: txt.TTL},
		Txt: []string{record.Value},
	}
}

// others returns how many other values stand at the record's name. A server that does not say, as it takes nothing but updates,
// is not counted at.
func (w *Writer) others(ctx context.Context, record txt.Record) (int, error) {
	answer, err := w.exchange(ctx, new(dns.Msg).SetQuestion(record.Name, dns.TypeTXT))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, rr := range answer.Answer {
		if other, ok := rr.(*dns.TXT); ok && strings.Join(other.Txt, "") != record.Value {
			n++
		}
	}
	return n, nil
}

// update sends an update and turns the answer into an error that says what to do.
func (w *Writer) update(ctx context.Context, update *dns.Msg, record txt.Record) error {
	answer, err := w.exchange(ctx, update)
	if err != nil {
		return err
	}
	who := "the signer's address"
	if w.key != "" {
		who = "the key " + w.key
	}
	switch answer.Rcode {
	case dns.RcodeSuccess:
		return nil
	case dns.RcodeRefused:
		return txt.Misconfigured("DNS server %s refuses to update %s: let %s update TXT records there, in BIND with update-policy or allow-update of the zone %s", w.server, record.Name, who, record.Zone)
	case dns.RcodeNotAuth:
		return txt.Misconfigured("DNS server %s does not have the zone %s: name in dns01.rfc2136.server one that does, usually its primary", w.server, record.Zone)
	case dns.RcodeNotZone:
		return txt.Misconfigured("DNS server %s says that %s is not in its zone %s: the zone was divided, or dns01.nameservers know other zones than it does", w.server, record.Name, record.Zone)
	case dns.RcodeNotImplemented:
		return txt.Misconfigured("DNS server %s takes no dynamic updates (RFC 2136): name in dns01.rfc2136.server one that does", w.server)
	default:
		return fmt.Errorf("DNS server %s answers an update of %s with %s: its log says why", w.server, record.Name, dns.RcodeToString[answer.Rcode])
	}
}

// exchange sends a message over TCP, where no answer is too long and none is easily forged, and returns an answer that is
// signed if the message is.
func (w *Writer) exchange(ctx context.Context, message *dns.Msg) (*dns.Msg, error) {
	client := &dns.Client{Net: "tcp", Timeout: timeout}
	if w.key != "" {
		secret, err := w.secrets.Entry(ctx, w.secret)
		if err != nil {
			return nil, &txt.ConfigError{Err: fmt.Errorf("reading the TSIG key %s: %w", w.key, err)}
		}
		if key, err := base64.StdEncoding.DecodeString(string(secret)); err != nil || len(key) == 0 {
			return nil, txt.Misconfigured("the TSIG key %s in Secret %s, entry %s, is not in base64: copy the secret of the server's configuration", w.key, w.secret.Name, w.secret.Key)
		}
		client.TsigSecret = map[string]string{w.key: string(secret)}
		message.SetTsig(w.key, w.algorithm, fudge, w.clock.Now().Unix())
	}
	answer, _, err := client.ExchangeContext(ctx, message, w.server)
	switch {
	case answer == nil || answer.Id != message.Id:
		return nil, fmt.Errorf("sending to DNS server %s: %w", w.server, errors.Join(err, ctx.Err()))
	case w.key == "" && err == nil:
		return answer, nil
	case w.key == "":
		return nil, fmt.Errorf("reading the answer of DNS server %s: %w", w.server, err)
	default:
		return answer, w.verify(answer, err)
	}
}

// verify returns nil if an answer was signed as it must be, which the library found out, and otherwise why not.
func (w *Writer) verify(answer *dns.Msg, err error) error {
	signature := answer.IsTsig()
	if signature == nil {
		return fmt.Errorf("DNS server %s answers %s without a signature of the key %s: nothing it says is believed", w.server, dns.RcodeToString[answer.Rcode], w.key)
	}
	// Of these the first two come without a signature, as there is no key that both know (RFC 8945, section 5.2).
	switch signature.Error {
	case dns.RcodeBadKey:
		return txt.Misconfigured("DNS server %s does not know the TSIG key %s with algorithm %s: correct dns01.rfc2136.tsig, or add the key to the server", w.server, w.key, strings.TrimSuffix(w.algorithm, "."))
	case dns.RcodeBadSig:
		return txt.Misconfigured("DNS server %s has another secret for the TSIG key %s: correct the entry %s of Secret %s", w.server, w.key, w.secret.Key, w.secret.Name)
	case dns.RcodeBadTime:
		return txt.Misconfigured("the clocks of DNS server %s and of the signer differ by more than %d seconds: set them right", w.server, fudge)
	case dns.RcodeBadTrunc:
		return txt.Misconfigured("DNS server %s wants longer signatures for the TSIG key %s", w.server, w.key)
	}
	// The library verifies no answer with NOTAUTH, which is never good news and so is let through.
	if err != nil && !errors.Is(err, dns.ErrAuth) {
		return fmt.Errorf("the answer of DNS server %s is not signed with the TSIG key %s as it must be: nothing it says is believed: %w", w.server, w.key, err)
	}
	return nil
}
