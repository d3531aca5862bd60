// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A server and a client with one annotation each talk mutual TLS, as users of their own choice, in a restricted namespace.
func TestAnnotatedPodsTalkMutualTLS(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	s.serverAndClient("200ms")

	client := s.pods("client", 1)[0]
	seen := s.tallyOf(&client, "the first connection", func(t tally) bool { return t.Made > 0 })

	service := "server." + s.namespace + ".svc"
	s.sameNames("the server's DNS names", seen.Server.DNSNames, service, service+".cluster.local")
	s.sameNames("the client's DNS names", seen.Client.DNSNames)
	s.sameNames("the SPIFFE IDs", []string{seen.Server.SPIFFEID, seen.Client.SPIFFEID}, s.spiffeID("server"), s.spiffeID("client"))
	s.sameNames("the issuers", []string{seen.Server.Issuer, seen.Client.Issuer},
		"Story "+s.name+" intermediate", "Story "+s.name+" intermediate")
	for _, pod := range append(s.pods("server", 2), client) {
		s.podReady(&pod)
		if pod.Status.ContainerStatuses[0].RestartCount != 0 {
			s.Errorf("a container started before its certificate was there: %s", describePod(&pod))
		}
	}
}

// serverAndClient makes a server with two replicas that runs as user 1000 and a client that runs as user 2000.
func (s *story) serverAndClient(interval string) {
	s.Helper()
	s.makeServiceAccounts("server", "client")
	s.service("server", false)
	server := demo("server", 1000, "server")
	server.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8443)}}}
	s.deployment("server", 2, server)
	s.deployment("client", 1, demo("client", 2000, "client", "--interval", interval, "--url", "https://server."+s.namespace+".svc"))
}

func TestInvariant6_PrivateKeysStayInTheirPod(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	s.makeServiceAccounts("app")
	pod := s.newPod("app", s.annotated("app", "containers", "first,second"), "app",
		demo("first", 1000, "look", "--follow"), demo("second", 2000, "look", "--follow"), demo("stranger", 3000, "server"))
	s.make(pod)
	s.podReady(pod)

	for name, uid := range map[string]int{"first": 1000, "second": 2000} {
		var l look
		s.until("the view of "+name, soon, func(ctx context.Context) error { return lastLine(ctx, pod, name, &l) })
		if l.User != uid {
			s.Errorf("container %s runs as user %d, want %d", name, l.User, uid)
		}
		for _, f := range l.Files {
			if f.Mode != "-rw-r-----" || f.User != 65532 || f.Group == 0 || f.Group == f.User {
				s.Errorf("container %s sees %s with mode %s of user %d and group %d: others may read it", name, f.Name, f.Mode, f.User, f.Group)
			}
		}
	}
	for _, c := range pod.Spec.Containers {
		mounts := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "certwright-tls" })
		if want := c.Name != "stranger"; mounts != want {
			s.Errorf("container %s mounts the key: %t, want %t", c.Name, mounts, want)
		}
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "certwright-token" }) {
			s.Errorf("container %s mounts the agent's token", c.Name)
		}
	}
	s.noKeyInSight()
}

// noKeyInSight looks for private keys in everything that the story's pods and the components leave in the API and in logs.
func (s *story) noKeyInSight() {
	s.Helper()
	for where, list := range map[string]client.ObjectList{
		"a pod": &corev1.PodList{}, "a ConfigMap": &corev1.ConfigMapList{}, "a Secret": &corev1.SecretList{}, "an event": &corev1.EventList{},
	} {
		s.must(admin.List(s.ctx, list, client.InNamespace(s.namespace)), "listing for %s", where)
		s.objectsHoldNoKey(where, list)
	}
	var requests certificatesv1.CertificateSigningRequestList
	s.must(admin.List(s.ctx, &requests, client.MatchingFields{"spec.signerName": s.signerName}), "listing requests")
	if len(requests.Items) == 0 {
		s.Error("the pods made no request")
	}
	s.objectsHoldNoKey("a request", &requests)
	for _, namespace := range []string{s.namespace, systemNamespace} {
		var pods corev1.PodList
		s.must(admin.List(s.ctx, &pods, client.InNamespace(namespace)), "listing pods")
		for _, pod := range pods.Items {
			for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
				text, err := logs(s.ctx, namespace, pod.Name, c.Name)
				if client.IgnoreNotFound(err) != nil && !strings.Contains(err.Error(), "waiting to start") {
					s.Errorf("reading the logs of %s in %s: %v", c.Name, pod.Name, err)
				}
				s.holdsNoKey("the log of "+pod.Name+" "+c.Name, text)
			}
		}
	}
}

func (s *story) objectsHoldNoKey(where string, list client.ObjectList) {
	s.Helper()
	data, err := json.Marshal(list)
	s.must(err, "encoding %s", where)
	s.holdsNoKey(where, string(data))
}

// delivery: init leaves no container behind that runs.
func TestInitDeliveryEndsBeforeTheWorkloadStarts(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	s.makeServiceAccounts("app")
	pod := s.newPod("app", s.annotated("app", "delivery", "init"), "app", demo("app", 1000, "look", "--follow"))
	s.make(pod)
	s.podReady(pod)
	agent := pod.Status.InitContainerStatuses[0]
	if agent.State.Terminated == nil || agent.State.Terminated.ExitCode != 0 || agent.RestartCount != 0 {
		s.Errorf("the agent did not end well: %s", describePod(pod))
	}
	var l look
	s.until("the view of the app", soon, func(ctx context.Context) error { return lastLine(ctx, pod, "app", &l) })
	if l.Certificate.SPIFFEID != s.spiffeID("app") {
		s.Errorf("the app has the SPIFFE ID %q, want %q", l.Certificate.SPIFFEID, s.spiffeID("app"))
	}
}

func TestStatefulSetPodsHaveKeysAndNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	s.makeServiceAccounts("db")
	s.service("db", true)
	s.make(&appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			ServiceName: "db", Replicas: ptr.To[int32](2), PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: s.annotated("db"), Spec: corev1.PodSpec{
				ServiceAccountName: "db", Containers: []corev1.Container{demo("db", 1000, "look", "--follow")}, TerminationGracePeriodSeconds: ptr.To[int64](2),
			}},
		},
	})
	suffix := ".db." + s.namespace + ".svc"
	for _, pod := range s.pods("db", 2) {
		s.podReady(&pod)
		var l look
		s.until("the view of "+pod.Name, soon, func(ctx context.Context) error { return lastLine(ctx, &pod, "db", &l) })
		s.sameNames("the DNS names of "+pod.Name, l.Certificate.DNSNames,
			"db."+s.namespace+".svc", "db."+s.namespace+".svc.cluster.local", pod.Name+suffix, pod.Name+suffix+".cluster.local")
	}
	var requests certificatesv1.CertificateSigningRequestList
	s.must(admin.List(s.ctx, &requests, client.MatchingFields{"spec.signerName": s.signerName}), "listing requests")
	keys := map[string]string{}
	for i := range requests.Items {
		leaf, err := leafOf(&requests.Items[i])
		s.must(err, "reading a certificate")
		if other, taken := keys[string(leaf.RawSubjectPublicKeyInfo)]; taken {
			s.Errorf("requests %s and %s have the same key", other, requests.Items[i].Name)
		}
		keys[string(leaf.RawSubjectPublicKeyInfo)] = requests.Items[i].Name
	}
	if len(keys) != 2 {
		s.Errorf("there are %d keys, want 2", len(keys))
	}
}

func TestJobWithTheSidecarCompletes(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer()
	s.policy()
	s.makeServiceAccounts("job")
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "job"},
		Spec: batchv1.JobSpec{BackoffLimit: ptr.To[int32](0), Template: corev1.PodTemplateSpec{ObjectMeta: s.annotated("job"), Spec: corev1.PodSpec{
			ServiceAccountName: "job", RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{demo("job", 1000, "look")},
		}}},
	}
	s.make(job)
	s.until("the Job to complete", starting, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(job), job); err != nil {
			return err
		}
		if job.Status.Succeeded != 1 {
			return fmt.Errorf("its status is %+v", job.Status)
		}
		return nil
	})
	pod := s.pods("job", 1)[0]
	if c := pod.Spec.InitContainers[0]; c.Name != agentContainer || c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
		s.Errorf("the agent was no sidecar: container %s, restart policy %v", c.Name, c.RestartPolicy)
	}
}

// Certificates of a minute: both sides renew again and again while a new connection is made five times a second.
func TestRenewalInterruptsNoConnection(t *testing.T) {
	t.Parallel()
	s := tell(t)
	s.signer(shortLived)
	s.policy()
	s.serverAndClient("200ms")
	client := s.pods("client", 1)[0]
	// Two servers that renew twice show six certificates, a client that renews twice shows three.
	seen := s.tallyOf(&client, "two renewals on both sides", func(t tally) bool { return t.Certificates >= 3 && t.Servers >= 6 })
	if seen.Failed > 0 {
		s.Errorf("%d of %d connections failed, the last one with: %s", seen.Failed, seen.Made+seen.Failed, seen.LastFailure)
	}
	s.figure("%d connections, %d client and %d server certificates", seen.Made, seen.Certificates, seen.Servers)
}
