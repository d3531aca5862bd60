// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package podcert

import (
	"context"
	"errors"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/utils/clock"

	"github.com/certwright/certwright/ability"
)

// ErrChanged is returned by WatchServed when the API server serves another version than before: what runs was built for that one, so the
// process should end and begin anew.
var ErrChanged = errors.New("the version of PodCertificateRequests that the API server serves changed")

// Served returns the version to use; none if the API server serves no PodCertificateRequests. Where it serves both, that is v1beta1: kubelets
// that speak only that may write the older form of the key, which v1 does not show.
func Served(cluster ability.Cluster) (Version, error) {
	for _, v := range []Version{V1Beta1, V1} {
		if served, err := cluster.Serves(certificatesv1.GroupName+"/"+string(v), "podcertificaterequests"); err != nil || served {
			return v, err
		}
	}
	return "", nil
}

// WatchServed looks again every minute, and returns an error that is ErrChanged when the answer is another one than before; nil when the
// context ends.
func WatchServed(ctx context.Context, cluster ability.Cluster, clk clock.WithTicker, before Version) error {
	return ability.Watch(ctx, clk, before, func(context.Context) (Version, error) { return Served(cluster) }, 1, ErrChanged)
}
