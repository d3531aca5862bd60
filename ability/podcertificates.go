// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package ability

import (
	"context"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/utils/clock"
)

// Use says when PodCertificateRequests are used.
type Use string

// Auto uses PodCertificateRequests where they are served, and lets pods have them by default where that is v1 and every kubelet makes
// them. Always wants them served, and takes every kubelet for able. Never does not use them.
const (
	Auto   Use = "auto"
	Always Use = "always"
	Never  Use = "never"
)

// requesting is the first kubelet that makes PodCertificateRequests of version v1, and does without being told to (KEP-4317). An
// older one leaves a pod that wants a certificate from it waiting without end.
var requesting = version.MajorMinor(1, 37)

// ParseUse reads the value of a flag.
func ParseUse(s string) (Use, error) {
	use := Use(s)
	if all := []Use{Auto, Always, Never}; !slices.Contains(all, use) {
		return "", fmt.Errorf("use of pod certificates %q is not one of %v", s, all)
	}
	return use, nil
}

// PodCertificates is what a cluster can do about PodCertificateRequests.
type PodCertificates struct {
	// Version of the API that is the newest, v1 or v1beta1; empty for none.
	Version string
	// EveryKubelet is whether the kubelets of all nodes make them.
	EveryKubelet bool
}

func (p PodCertificates) String() string {
	switch {
	case p.Version == "":
		return "none"
	case p.EveryKubelet:
		return p.Version + " by every kubelet"
	}
	return p.Version + " by some kubelets"
}

// PodCertificatesDetector finds out what a cluster can do about PodCertificateRequests.
type PodCertificatesDetector struct {
	Cluster
	// Use is what was asked for.
	Use Use
	// Clock for Follow.
	Clock clock.WithTicker
}

// Detect turns what was asked for into what the cluster can do. Trouble with the API server is an error.
func (d PodCertificatesDetector) Detect(ctx context.Context) (PodCertificates, error) {
	found, err := d.served()
	if err != nil {
		return PodCertificates{}, err
	}
	result := PodCertificates{Version: found, EveryKubelet: found != "" && d.Use == Always}
	if d.Use == Auto && found == certificatesv1.SchemeGroupVersion.Version {
		if result.EveryKubelet, err = d.EveryKubelet(ctx, requesting); err != nil {
			return PodCertificates{}, fmt.Errorf("finding out who asks for pod certificates (%q and %q do without): %w", Always, Never, err)
		}
	}
	return result, nil
}

// served returns the newest version that the API server serves, or none. None is an error if they are asked for.
func (d PodCertificatesDetector) served() (string, error) {
	if d.Use == Never {
		return "", nil
	}
	for _, v := range []string{certificatesv1.SchemeGroupVersion.Version, certificatesv1beta1.SchemeGroupVersion.Version} {
		if served, err := d.Serves(certificatesv1.GroupName+"/"+v, "podcertificaterequests"); err != nil || served {
			return v, err
		}
	}
	if d.Use == Always {
		return "", fmt.Errorf("the API server serves no PodCertificateRequests: enable them, or set the use of pod certificates to %q or %q", Auto, Never)
	}
	return "", nil
}

// Follow looks again every minute, and calls changed with each answer that is another one than before. It returns nil when the context ends.
func (d PodCertificatesDetector) Follow(ctx context.Context, before PodCertificates, changed func(PodCertificates)) error {
	return Follow(ctx, d.Clock, before, d.Detect, 1, func(now PodCertificates) error {
		changed(now)
		return nil
	})
}
