// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// postTimeout bounds a call, from dialing to the head of the answer.
const postTimeout = 10 * time.Second

// post calls a URL of the pod itself. The name localhost is the pod's own to
// resolve, so the address is checked where the connection is made; an answer that
// leads elsewhere is not followed.
func post(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return fmt.Errorf("building the call: %w", err)
	}
	request.Header.Set("User-Agent", "certwright-agent")
	dialer := net.Dialer{Control: loopbackOnly}
	client := http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("calling the application: %w", err)
	}
	_ = response.Body.Close() // nothing in it matters
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("calling the application: %s answered %s, only 2xx is success", url, response.Status)
	}
	return nil
}

func loopbackOnly(_, address string, _ syscall.RawConn) error {
	if to, err := netip.ParseAddrPort(address); err != nil || !to.Addr().IsLoopback() {
		return fmt.Errorf("%s is not an address of the pod's own loopback interface", address)
	}
	return nil
}
