// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/ability"
	"github.com/certwright/certwright/trust/distribution"
)

func TestPodCertificatesFlag(t *testing.T) {
	if _, err := detectPodCertificates(t.Context(), &rest.Config{}, nil, "yes"); err == nil || !strings.HasPrefix(err.Error(), `--pod-certificates: use of pod certificates "yes" is not one of`) {
		t.Errorf("got %v", err)
	}
	got, err := detectPodCertificates(t.Context(), &rest.Config{Host: "127.0.0.1:1"}, nil, "never") // asks nobody
	if err != nil || got.PodCertificates != (ability.PodCertificates{}) {
		t.Errorf("got %s, %v", got, err)
	}
}

// lying is a node that says another version of its kubelet every minute.
type lying struct{ client.Reader }

func (lying) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	list.(*corev1.NodeList).Items = []corev1.Node{{Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{
		KubeletVersion: []string{"v1.37.0", "v1.36.0"}[time.Now().Minute()%2],
	}}}}
	return nil
}

// able is an API server with all that pods may get from their kubelets.
type able struct{}

func (able) ServerResourcesForGroupVersion(string) (*metav1.APIResourceList, error) {
	return &metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "podcertificaterequests"}, {Name: "clustertrustbundles"}}}, nil
}

// A node that says another version every minute has nothing restarted: it changes who delivers, and not how trust bundles come.
func TestANodeThatChangesItsVersionRestartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where time passes at once
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour+time.Second)
		defer cancel()
		bundles := trustWay{
			Choice:   distribution.Choice{Way: distribution.ClusterTrustBundle, Version: "v1"},
			detector: distribution.Detector{Want: distribution.Auto, API: able{}, Nodes: lying{}, Clock: clock.RealClock{}},
		}
		pods := podCertificates{
			PodCertificates: ability.PodCertificates{Version: "v1", EveryKubelet: true},
			detector:        ability.PodCertificatesDetector{Cluster: ability.Cluster{API: able{}, Nodes: lying{}}, Use: ability.Auto, Clock: clock.RealClock{}},
		}
		start, changes := time.Now(), 0
		err := bundles.during(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil }, func(ctx context.Context) error {
			return pods.follow(ctx, func(ability.PodCertificates) { changes++ })
		})
		if err != nil || time.Since(start) < time.Hour || changes != 60 {
			t.Errorf("ended after %s and %d changes with %v", time.Since(start), changes, err)
		}
	})
}
