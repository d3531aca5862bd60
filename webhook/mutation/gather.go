// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/webhook/annotation"
)

const (
	// gatherTimeout bounds all look-ups; the API server waits ten seconds for the
	// whole answer.
	gatherTimeout = 5 * time.Second
	// servicesPage is how many Services are read at a time, however many a namespace
	// has.
	servicesPage = 100
)

// gather looks up what it takes to know what the pod gets, and no more: its Signer
// where the kubelet may deliver, and its Services where the agent asks for their
// names. What is wrong with the annotations is for Mutate to say.
func (h *Handler) gather(ctx context.Context, mutator *Mutator, pod *corev1.Pod, namespace string) (Facts, error) {
	facts := Facts{Namespace: namespace}
	ask, err := annotation.Parse(pod.Annotations)
	if err != nil || ask.TrustOnly() {
		return facts, nil //nolint:nilerr // Mutate says it, with all else that is wrong
	}
	// The server's context ends when the process is told to stop, but requests under way are still answered then.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gatherTimeout)
	defer cancel()
	if mutator.asksSigner(ask) {
		if facts.Signer, err = h.signer(ctx, ask.SignerName); err != nil {
			return Facts{}, err
		}
	}
	if way, _ := mutator.choose(pod, ask, facts); way == annotation.DeliveryKubelet || ask.DNSNames != nil {
		return facts, nil
	}
	facts.Services, err = h.services(ctx, pod, namespace)
	return facts, err
}

// signer finds the Signer that has a signerName: the oldest should there be several,
// as the signer has it. The API server answers from its cache.
func (h *Handler) signer(ctx context.Context, signerName string) (*v1alpha1.Signer, error) {
	var all v1alpha1.SignerList
	if err := h.cluster.List(ctx, &all, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}}); err != nil {
		return nil, fmt.Errorf("looking up the Signer of signerName %s, which says whether kubelets get certificates: %w; try again", annotation.Shorten(signerName), err)
	}
	found := slices.DeleteFunc(all.Items, func(s v1alpha1.Signer) bool { return s.Spec.SignerName != signerName })
	if len(found) == 0 {
		return nil, nil //nolint:nilnil // none is an answer
	}
	oldest := slices.MinFunc(found, func(a, b v1alpha1.Signer) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return &oldest, nil
}

// services looks up the Services that select the pod. More than maxServices are too
// many, and no more are read.
func (h *Handler) services(ctx context.Context, pod *corev1.Pod, namespace string) (selecting []corev1.Service, err error) {
	for next := ""; ; {
		var page corev1.ServiceList
		err := h.cluster.List(ctx, &page, client.InNamespace(namespace), client.Limit(servicesPage), client.Continue(next))
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return nil, annotation.Refusal{fmt.Sprintf("the Services of namespace %s, which give it its DNS names, take more than %d bytes for %d of them: name those to ask for in annotation %s",
				namespace, tooLarge.Limit, servicesPage, annotation.DNSNames)}
		} else if err != nil {
			return nil, fmt.Errorf("looking up the Services of namespace %s, which give the pod its DNS names: %w; try again", namespace, err)
		}
		for i := range page.Items {
			if selects(&page.Items[i], pod) {
				selecting = append(selecting, page.Items[i])
			}
		}
		if next = page.Continue; next == "" || len(selecting) > maxServices {
			return selecting, nil
		}
	}
}
