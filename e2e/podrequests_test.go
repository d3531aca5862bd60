// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// podRequest is a PodCertificateRequest, in the version that shows all of it.
type podRequest struct{ *unstructured.Unstructured }

var podRequestKind = schema.GroupKind{Group: "certificates.k8s.io", Kind: "PodCertificateRequest"}

// newPodRequest returns an empty one: in v1beta1 where that is served, as v1 lacks the key of a kubelet of 1.35.
func (s *story) newPodRequest() podRequest {
	s.Helper()
	mapping, err := admin.RESTMapper().RESTMapping(podRequestKind, "v1beta1", "v1")
	s.must(err, "looking for the kind PodCertificateRequest")
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(mapping.GroupVersionKind)
	return podRequest{o}
}

// kubeletsByDefault says whether pods that leave it open get their certificate from the kubelet: where v1 is served and all kubelets ask in
// it, as those of 1.37 and newer do.
func (s *story) kubeletsByDefault() bool {
	s.Helper()
	_, err := admin.RESTMapper().RESTMapping(podRequestKind, "v1")
	if meta.IsNoMatchError(err) {
		return false
	}
	s.must(err, "looking for the kind PodCertificateRequest")
	var nodes corev1.NodeList
	s.must(admin.List(s.ctx, &nodes), "listing nodes")
	return !slices.ContainsFunc(nodes.Items, func(n corev1.Node) bool { return s.kubeletMinor(n.Name) < 37 })
}

// forKubelets has a Signer sign for kubelets.
func forKubelets(spec *v1alpha1.SignerSpec) { spec.PodCertificates = &v1alpha1.PodCertificates{} }

func (r podRequest) field(fields ...string) string {
	text, _, _ := unstructured.NestedString(r.Object, fields...) // "" is what is not there
	return text
}

// verdict returns the type, the reason and the message of its condition, which are empty while it waits.
func (r podRequest) verdict() (kind, reason, message string) {
	conditions, _, _ := unstructured.NestedSlice(r.Object, "status", "conditions")
	for _, c := range conditions {
		c := c.(data)
		return fmt.Sprint(c["type"]), fmt.Sprint(c["reason"]), fmt.Sprint(c["message"])
	}
	return "", "", ""
}

// leaf returns the certificate that was issued.
func (r podRequest) leaf() (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(r.field("status", "certificateChain")))
	if block == nil {
		return nil, fmt.Errorf("request %s has no certificate", r.GetName())
	}
	return x509.ParseCertificate(block.Bytes)
}

// podRequests returns the requests that the kubelet made for the pod, the oldest first.
func (s *story) podRequests(ctx context.Context, pod *corev1.Pod) (found []podRequest, err error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(s.newPodRequest().GroupVersionKind())
	if err := admin.List(ctx, list, client.InNamespace(pod.Namespace)); err != nil {
		return nil, err
	}
	for i := range list.Items {
		if r := (podRequest{&list.Items[i]}); r.field("spec", "podUID") == string(pod.UID) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b podRequest) int {
		return a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time)
	})
	return found, nil
}

// newestPodRequest waits until the kubelet has made this many requests for the pod, and returns the last one.
func (s *story) newestPodRequest(pod *corev1.Pod, count int) (newest podRequest) {
	s.Helper()
	s.until(fmt.Sprintf("request %d for pod %s", count, pod.Name), starting, func(ctx context.Context) error {
		found, err := s.podRequests(ctx, pod)
		if err == nil && len(found) < count {
			err = fmt.Errorf("there are %d", len(found))
		}
		if err != nil {
			return err
		}
		newest = found[len(found)-1]
		return nil
	})
	return newest
}

// podRequestIs waits for the verdict on a request, and checks its reason and that the message has all these parts.
func (s *story) podRequestIs(r podRequest, kind, reason string, parts ...string) {
	s.Helper()
	s.until(fmt.Sprintf("request %s to be %s", r.GetName(), kind), soon, func(ctx context.Context) error {
		if err := admin.Get(ctx, client.ObjectKeyFromObject(r), r.Unstructured); err != nil {
			return err
		}
		if got, _, _ := r.verdict(); got == "" {
			return errors.New("it waits")
		}
		return nil
	})
	gotKind, gotReason, message := r.verdict()
	if gotKind != kind || gotReason != reason {
		s.Errorf("request %s is %s with reason %s, want %s with %s: %s", r.GetName(), gotKind, gotReason, kind, reason, message)
	}
	s.contains("the verdict on "+r.GetName(), message, parts...)
}

// askForPod returns a request for the pod as its kubelet makes it, which is not created yet.
func (s *story) askForPod(pod *corev1.Pod) podRequest {
	s.Helper()
	var node corev1.Node
	s.must(admin.Get(s.ctx, client.ObjectKey{Name: pod.Spec.NodeName}, &node), "reading node %s", pod.Spec.NodeName)
	var account corev1.ServiceAccount
	s.must(admin.Get(s.ctx, client.ObjectKey{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}, &account), "reading the service account")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err, "making a key")
	stub, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	s.must(err, "making a request")
	r := s.newPodRequest()
	r.SetNamespace(pod.Namespace)
	r.SetGenerateName(s.name + "-")
	r.Object["spec"] = data{
		"signerName": s.signerName, "podName": pod.Name, "podUID": string(pod.UID), "serviceAccountName": account.Name, "serviceAccountUID": string(account.UID),
		"nodeName": node.Name, "nodeUID": string(node.UID), "stubPKCS10Request": base64.StdEncoding.EncodeToString(stub),
	}
	return r
}

// node is the node of that name at the API server.
func (s *story) node(name string) user {
	s.Helper()
	return s.impersonate(rest.ImpersonationConfig{UserName: "system:node:" + name, Groups: []string{"system:nodes", "system:authenticated"}})
}

// warnedOfPod waits for an event of that reason about the pod, and returns what it says.
func (s *story) warnedOfPod(pod *corev1.Pod, reason string, parts ...string) string {
	s.Helper()
	var note string
	s.until(fmt.Sprintf("the event %s about pod %s", reason, pod.Name), soon, func(ctx context.Context) error {
		list, err := kube.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
		if err != nil {
			return err
		}
		var others []string
		for _, e := range list.Items {
			if e.Reason == reason {
				note = e.Message
				return nil
			}
			others = append(others, e.Reason)
		}
		return fmt.Errorf("its events are %q", others)
	})
	s.contains("the event about pod "+pod.Name, note, parts...)
	return note
}
