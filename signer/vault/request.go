// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certwright/certwright/csr"
)

func newSignRequest(req csr.Request, ttl time.Duration) signRequest {
	r := signRequest{
		CSR:               string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: req.DER})),
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
