// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"time"

	"github.com/certwright/certwright/signer/ca/authority"
)

// keeper takes in the versions of a Secret, each once, and keeps the last CA that was fit to sign with.
type keeper struct {
	version string               // of the Secret that the rest was read from
	latest  *authority.Authority // what that holds, or nil
	broken  error                // why latest is nil
	good    *authority.Authority // the last one that was fit to sign with
}

// take takes in what a version of the Secret holds, or what is wrong with it.
func (k *keeper) take(version string, a *authority.Authority, err error) {
	k.version, k.latest, k.broken = version, a, err
}

// choose prefers what the Secret holds now, then what it held when it was last fit, as long as that is valid.
func (k *keeper) choose(now time.Time) (a *authority.Authority, warn, err error) {
	problem := k.broken
	if k.latest != nil {
		problem = k.latest.Check(now)
	}
	switch {
	case problem == nil:
		k.good = k.latest
		return k.latest, nil, nil
	case k.good != nil && k.good.Check(now) == nil:
		return k.good, warning(reasonServingLastGoodCA, "%w; until that is right, the CA certificate %s that was there before signs, at most until %s",
			problem, k.good.Cert.Subject, rfc3339(k.good.NotAfter)), nil
	case k.latest != nil:
		return k.latest, nil, nil
	}
	return nil, nil, problem
}
