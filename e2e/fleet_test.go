// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// fleet are pods that serve each other and call each other, one after the other, with a new connection each time. Each side
// proves who it is, and reads its certificate, its key and its trust bundle anew for each connection.
type fleet struct {
	*story
	members []*corev1.Pod
	// before is how many connections there were when the last stage began.
	before int
	// published is when the replacement of the root began.
	published time.Time
}

// sighting is what a member of the fleet prints every second.
type sighting struct {
	Attempted int      `json:"attempted"`
	Failed    int      `json:"failed"`
	Failures  []string `json:"failures"`
	Peers     int      `json:"peers"`
	Met       int      `json:"met"`
	Own       seen     `json:"own"`
	Anchors   []string `json:"anchors"`
}

// fleetInterval is the time between two connections that one member makes.
const fleetInterval = 400 * time.Millisecond

// newFleet makes a fleet of that size: pods that their agent serves and pods that the kubelet serves, half and half. Two more verify
// with these anchors, in ConfigMaps of the names early and late, in the place of what they are given.
func (s *story) newFleet(size int, anchors string) *fleet {
	s.Helper()
	f := &fleet{story: s}
	f.prepare()
	for i := range size {
		by := []string{"agent", "kubelet"}[i%2]
		f.add(fmt.Sprintf("%s-%02d", by, i), by, "")
	}
	for by, name := range map[string]string{"agent": "late", "kubelet": "early"} {
		s.make(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Data: map[string]string{"ca.crt": anchors}})
		f.add(name, by, name)
	}
	f.ready()
	return f
}

// prepare makes what the members need.
func (f *fleet) prepare() {
	f.Helper()
	f.makeServiceAccounts("agent", "kubelet")
	f.make(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "fleet"}, Spec: corev1.ServiceSpec{
		ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"app": "fleet"}, Ports: []corev1.ServicePort{{Port: 8443}},
	}})
}

// ready waits until all members are.
func (f *fleet) ready() {
	f.Helper()
	for _, pod := range f.members {
		f.podReady(pod)
		if by := pod.Annotations[v1alpha1.AnnotationDeliveredBy]; by != pod.Spec.ServiceAccountName {
			f.Errorf("pod %s gets its certificate from the %s, and says so of the %q", pod.Name, pod.Spec.ServiceAccountName, by)
		}
	}
}

// add makes a member.
func (f *fleet) add(name, deliveredBy, bundle string) {
	f.Helper()
	service := "fleet." + f.namespace + ".svc"
	container := demo("member", 1000, "fleet", "--service", service, "--interval", fleetInterval.String())
	container.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8443)}}}
	metadata := f.annotated("fleet", "delivery", deliveredBy)
	if deliveredBy == "agent" {
		metadata.Annotations["certwright.dev/duration"] = "10m"
	}
	pod := f.newPod(name, metadata, deliveredBy, container)
	if bundle != "" {
		pod.Spec.Containers[0].Args = append(container.Args, "--bundle", "/bundle/ca.crt")
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "bundle", MountPath: "/bundle"}}
		pod.Spec.Volumes = []corev1.Volume{{Name: "bundle", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: bundle},
		}}}}
	}
	f.make(pod)
	f.members = append(f.members, pod)
}

// sightings returns what each member saw last, by its name.
func (f *fleet) sightings(ctx context.Context) (map[string]sighting, error) {
	seen := map[string]sighting{}
	for _, pod := range f.members {
		var one sighting
		if err := lastLine(ctx, pod, "member", &one); err != nil {
			return nil, fmt.Errorf("%s: %w", pod.Name, err)
		}
		seen[pod.Name] = one
	}
	return seen, nil
}

// everyone waits until the check has no complaint about any member, and returns what they saw then.
func (f *fleet) everyone(what string, limit time.Duration, check func(name string, s sighting) error) (seen map[string]sighting) {
	f.Helper()
	f.until(what, limit, func(ctx context.Context) (err error) {
		if seen, err = f.sightings(ctx); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(seen)) {
			if err := check(name, seen[name]); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
	return seen
}

// meet waits until everyone has called everyone again since now.
func (f *fleet) meet() map[string]sighting {
	f.Helper()
	since := f.everyone("the members to tell what they saw", soon, func(string, sighting) error { return nil })
	return f.everyone("everyone to call everyone", starting, func(name string, s sighting) error {
		if s.Peers != len(f.members) || s.Attempted < since[name].Attempted+len(f.members) {
			return fmt.Errorf("it has reached %d of %d members, with %d connections since", s.Peers, len(f.members), s.Attempted-since[name].Attempted)
		}
		return nil
	})
}

// stage tells a part of the story of the fleet, has everyone call everyone afterwards, and counts.
func (f *fleet) stage(what string, happens func()) {
	f.Helper()
	started := time.Now()
	happens()
	attempted, failed, first := 0, 0, ""
	for name, s := range f.meet() {
		attempted, failed = attempted+s.Attempted, failed+s.Failed
		for _, failure := range s.Failures {
			first += "\n  " + name + ": " + failure
		}
	}
	f.figure("%-58s %5.1f s: %5d handshakes attempted, %5d in all, %d failed%s", what, time.Since(started).Seconds(), attempted-f.before, attempted, failed, first)
	f.before = attempted
	if failed > 0 {
		f.Errorf("%s: %d of %d handshakes failed", what, failed, attempted)
	}
}

// serials returns the serial numbers of the members' certificates whose name has the prefix.
func (f *fleet) serials(prefix string) map[string]string {
	f.Helper()
	serials := map[string]string{}
	for name, s := range f.everyone("the members to tell their certificates", soon, func(string, sighting) error { return nil }) {
		if strings.HasPrefix(name, prefix) {
			serials[name] = s.Own.Serial
		}
	}
	return serials
}

// renewed waits until each of these members has another certificate than it had.
func (f *fleet) renewed(had map[string]string) {
	f.Helper()
	f.everyone("certificates to be renewed", renewing, func(name string, s sighting) error {
		if old, asked := had[name]; asked && s.Own.Serial == old {
			return fmt.Errorf("it still has certificate %s", old)
		}
		return nil
	})
}

// tell writes a bundle into one of the ConfigMaps that members mount.
func (f *fleet) tell(name, anchors string) {
	f.Helper()
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name}}
	f.must(admin.Get(f.ctx, client.ObjectKeyFromObject(o), o), "reading what %s is told", name)
	f.change(o, func() { o.Data["ca.crt"] = anchors })
}
