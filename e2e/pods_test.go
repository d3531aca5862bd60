// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	autoTLS        = "certwright.dev/auto-tls"
	agentContainer = "certwright-agent"
)

// demo is a container of the demo app, as restricted as the Pod Security Standard of that name wants it, and more.
func demo(name string, uid int64, args ...string) corev1.Container {
	return corev1.Container{
		Name: name, Image: demoImage, ImagePullPolicy: corev1.PullIfNotPresent, Args: args,
		SecurityContext: &corev1.SecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: &uid, ReadOnlyRootFilesystem: ptr.To(true), AllowPrivilegeEscalation: ptr.To(false),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}

// makeServiceAccounts makes service accounts in the story's namespace.
func (s *story) makeServiceAccounts(names ...string) {
	s.Helper()
	for _, name := range names {
		s.make(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}})
	}
}

// annotated is the metadata of pods that ask the story's signerName, with the label app and more annotations as pairs.
func (s *story) annotated(app string, more ...string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Labels: map[string]string{"app": app}, Annotations: map[string]string{autoTLS: s.signerName}}
	for pair := range slices.Chunk(more, 2) {
		m.Annotations["certwright.dev/"+pair[0]] = pair[1]
	}
	return m
}

// newPod returns a pod that is not created yet.
func (s *story) newPod(name string, metadata metav1.ObjectMeta, serviceAccount string, containers ...corev1.Container) *corev1.Pod {
	metadata.Namespace, metadata.Name = s.namespace, name
	return &corev1.Pod{ObjectMeta: metadata, Spec: corev1.PodSpec{
		ServiceAccountName: serviceAccount, Containers: containers, TerminationGracePeriodSeconds: ptr.To[int64](2),
	}}
}

// idlePod makes a pod that asks for nothing, and waits until it runs. Its label app is its name.
func (s *story) idlePod(name, serviceAccount string) *corev1.Pod {
	s.Helper()
	pod := s.newPod(name, metav1.ObjectMeta{Labels: map[string]string{"app": name}}, serviceAccount, demo("idle", 1000, "server"))
	s.make(pod)
	s.podReady(pod)
	return pod
}

// service makes a Service for the pods with the label app.
func (s *story) service(name string, headless bool) {
	s.Helper()
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 443, TargetPort: intstr.FromInt32(8443)}},
	}}
	if headless {
		o.Spec.ClusterIP = corev1.ClusterIPNone
	}
	s.make(o)
}

// deployment makes a Deployment of one container whose pods ask the story's signerName.
func (s *story) deployment(name string, replicas int32, container corev1.Container) {
	s.Helper()
	s.make(&appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{ObjectMeta: s.annotated(name), Spec: corev1.PodSpec{
				ServiceAccountName: name, Containers: []corev1.Container{container}, TerminationGracePeriodSeconds: ptr.To[int64](2),
			}},
		},
	})
}

// podReady waits until the pod is ready, and returns it as it is then.
func (s *story) podReady(pod *corev1.Pod) {
	s.Helper()
	s.until("pod "+pod.Name+" to be ready", starting, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("it is %s", describePod(pod))
	})
}

// pods returns the pods of the story with the label app, once there are that many.
func (s *story) pods(app string, count int) []corev1.Pod {
	s.Helper()
	var list corev1.PodList
	s.until(fmt.Sprintf("%d pods of %s", count, app), starting, func(ctx context.Context) error {
		if err := admin.List(ctx, &list, client.InNamespace(s.namespace), client.MatchingLabels{"app": app}); err != nil {
			return err
		}
		if len(list.Items) != count {
			return fmt.Errorf("there are %d", len(list.Items))
		}
		return nil
	})
	return list.Items
}

// describePod says in one line what a pod waits for.
func describePod(pod *corev1.Pod) string {
	text := string(pod.Status.Phase)
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		text += fmt.Sprintf("; %s ready=%t restarts=%d", c.Name, c.Ready, c.RestartCount)
		if w := c.State.Waiting; w != nil {
			text += " waiting: " + w.Reason + " " + w.Message
		}
		for _, t := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
			if t != nil {
				text += fmt.Sprintf(" ended with %d: %s", t.ExitCode, t.Message)
			}
		}
	}
	return text
}

// logs returns all that a container wrote so far.
func logs(ctx context.Context, namespace, pod, container string) (string, error) {
	raw, err := kube.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{Container: container}).DoRaw(ctx)
	return string(raw), err
}

// lastLine reads the last line of JSON that a container of the demo app wrote.
func lastLine(ctx context.Context, pod *corev1.Pod, container string, into any) error {
	options := &corev1.PodLogOptions{Container: container, TailLines: ptr.To[int64](1)}
	line, err := kube.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).DoRaw(ctx)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, into); err != nil {
		return fmt.Errorf("reading the last line of %s: %w", container, err)
	}
	return nil
}

// seen, look and tally are what the demo app prints.
type seen struct {
	SPIFFEID string   `json:"spiffeID"`
	DNSNames []string `json:"dnsNames"`
	Serial   string   `json:"serial"`
	Issuer   string   `json:"issuer"`
}

type look struct {
	User  int `json:"user"`
	Files []struct {
		Name  string `json:"name"`
		Mode  string `json:"mode"`
		User  uint32 `json:"user"`
		Group uint32 `json:"group"`
	} `json:"files"`
	Certificate seen     `json:"certificate"`
	Anchors     []string `json:"anchors"`
}

type tally struct {
	Made         int    `json:"made"`
	Failed       int    `json:"failed"`
	LastFailure  string `json:"lastFailure"`
	Certificates int    `json:"certificates"`
	Servers      int    `json:"serverCertificates"`
	Client       seen   `json:"client"`
	Server       seen   `json:"server"`
}

// tallyOf waits until the client has seen enough.
func (s *story) tallyOf(client *corev1.Pod, what string, enough func(tally) bool) tally {
	s.Helper()
	var t tally
	s.until(what, renewing, func(ctx context.Context) error {
		if err := lastLine(ctx, client, "client", &t); err != nil {
			return err
		}
		if !enough(t) {
			return fmt.Errorf("it saw %+v", t)
		}
		return nil
	})
	return t
}

// sameNames compares names without regard to their order.
func (s *story) sameNames(what string, got []string, want ...string) {
	s.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		s.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// holdsNoKey checks that a text has no private key in it: neither PEM, nor PEM in base64, nor the start of an encoded
// PKCS #8 key on P-256.
func (s *story) holdsNoKey(where, text string) {
	s.Helper()
	for _, sign := range slices.Sorted(maps.Keys(signsOfKeys)) {
		if strings.Contains(text, sign) {
			s.Errorf("%s holds a private key: %s", where, signsOfKeys[sign])
		}
	}
}

var signsOfKeys = map[string]string{
	"PRIVATE KEY":              "PEM",
	"UFJJVkFURSBLRV":           "PEM in base64",
	"BSSVZBVEUgS0VZ":           "PEM in base64, one byte on",
	"QUklWQVRFIEtFW":           "PEM in base64, two bytes on",
	"MIGHAgEAMBMGByqGSM49AgEG": "DER in base64",
}
