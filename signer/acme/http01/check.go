// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package http01

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/certwright/certwright/excerpt"
	"github.com/certwright/certwright/signer/acme/challenge"
)

const (
	checkTime    = 5 * time.Second
	maxAnswer    = 1 << 10
	maxRedirects = 5
	maxShown     = 120
)

// NewCheck returns the client that looks for answers. Whoever may ask for a certificate names the host that it goes to, so it
// asks for nothing but the path of a challenge, on the ports 80 and 443 of that very host, never on this machine or on its
// link, holds no secret, and takes little back.
func NewCheck() *http.Client { return CheckVia(dialPublic) }

// CheckVia is NewCheck with another way to connect.
func CheckVia(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	return &http.Client{
		Timeout:       checkTime,
		CheckRedirect: sameAnswer,
		Transport: &http.Transport{
			DialContext:            dial,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 16 << 10,
			// A server may redirect to https, and ACME servers do not verify whom they meet there: the answer proves it.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // nothing secret is sent, and nothing received is trusted
		},
	}
}

// sameAnswer lets a redirect lead to http or https at the usual port of the same host, as ACME servers do (RFC 8555, section 8.3),
// but not to another path: by the next look at DNS, the name may be that of a host in here.
func sameAnswer(to *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return errors.New("it redirects again and again")
	case to.URL.Hostname() != first.Hostname():
		return errors.New("it redirects to another host, which is not followed")
	case to.URL.EscapedPath() != first.EscapedPath() || to.URL.RawQuery != "" || to.URL.User != nil:
		return errors.New("it redirects to another path, which is not followed")
	case to.URL.Scheme == first.Scheme && to.URL.Port() == first.Port():
		return nil
	case to.URL.Scheme == "https" && (to.URL.Port() == "" || to.URL.Port() == "443"):
		return nil
	}
	return errors.New("it redirects to another port, which is not followed")
}

// metadata are the addresses beyond its link where cloud providers tell a machine about itself, and what it may.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("100.100.100.200"), // Alibaba
}

// dialPublic connects to what is neither this machine nor on its link, where most cloud providers have their metadata.
func dialPublic(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: checkTime, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if ip := at.Addr().Unmap(); ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() || slices.Contains(metadata, ip) {
			return fmt.Errorf("%s is never asked", ip)
		}
		return nil
	}}
	return d.DialContext(ctx, network, address)
}

// Ready implements challenge.Solver: it asks for the answer as the ACME server will.
func (s *Solver) Ready(ctx context.Context, c challenge.Challenge) error {
	where := url.URL{Scheme: "http", Host: urlHost(c.Domain), Path: pathPrefix + c.Token}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where.String(), nil)
	if err != nil {
		return fmt.Errorf("asking %s: %w", c.Domain, err)
	}
	request.Header.Set("User-Agent", "certwright")
	response, err := s.options.Check.Do(request)
	if err != nil {
		return fmt.Errorf("http://%s%s… cannot be asked from here: %w", where.Host, pathPrefix, trimmed(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("http://%s%s… answers %d, not 200: its route may need more time, or leads elsewhere", where.Host, pathPrefix, response.StatusCode)
	case err != nil:
		return fmt.Errorf("http://%s%s… breaks off", where.Host, pathPrefix)
	case strings.TrimRight(string(body), " \t\r\n") != c.KeyAuthorization:
		return fmt.Errorf("http://%s%s… answers 200 with something else: the name leads to another server than ours", where.Host, pathPrefix)
	}
	return nil
}

// urlHost writes a name or an address as the host of a URL.
func urlHost(domain string) string {
	if ip, err := netip.ParseAddr(domain); err == nil && ip.Is6() {
		return "[" + domain + "]"
	}
	return domain
}

// trimmed is an error without the URL, which may have been led elsewhere, and at most a line of it.
func trimmed(err error) error {
	if inner := (*url.Error)(nil); errors.As(err, &inner) {
		err = inner.Err
	}
	for _, end := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, end) {
			return errors.New("no answer in time")
		}
	}
	return errors.New(excerpt.Line(err.Error(), maxShown))
}
