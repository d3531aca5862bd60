// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/signer/remote"
)

func newSignRequest(req csr.Request, ttl time.Duration) signRequest {
	r := signRequest{
		CSR:               remote.Request(req),
		CommonName:        req.Subject.CommonName,
		AltNames:          strings.Join(slices.Concat(req.DNSNames, req.EmailAddresses), ","),
		SerialNumber:      req.Subject.SerialNumber,
		TTL:               fmt.Sprintf("%ds", int64(ttl/time.Second)),
		Format:            "pem",
		ExcludeCNFromSANs: true,
	}
	for _, ip := range req.IPAddresses {
		r.IPSANs = append(r.IPSANs, ip.String())
	}
	for _, u := range req.URIs {
		r.URISANs = append(r.URISANs, u.String())
	}
	return r
}
