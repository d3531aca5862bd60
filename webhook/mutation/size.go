// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/webhook/annotation"
	"github.com/certwright/certwright/webhook/inject"
)

const (
	// maxValues bounds the spec of a pod that asks, in values of its JSON. Thousands
	// of environment variables fit. Without it 3 MiB of empty tolerations become
	// gigabytes of Go values.
	maxValues = 10_000
	// maxItems bounds what is in the lists that we change: containers, volumes and
	// mounts. To compare them takes the square of their number: a hundredth of a
	// second for this many, and minutes for as many as fit into 3 MiB.
	maxItems = 500
	// maxAnswer bounds an answer of the API server in bytes: a page of Services takes
	// some hundred thousand, but whoever may create them can make it hundreds of
	// millions.
	maxAnswer = 4 << 20
)

// BoundAnswers makes the transport of a client of the API server one that reads no more than 4 MiB of an answer, which is what a Handler's
// should do; the error beyond is an *http.MaxBytesError.
func BoundAnswers(transport http.RoundTripper) http.RoundTripper { return boundedAnswers{transport} }

type boundedAnswers struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b boundedAnswers) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	answer.Body = http.MaxBytesReader(nil, answer.Body, maxAnswer)
	return answer, nil
}

// errNotAPod is in our words, as the decoder's own may quote the pod.
var errNotAPod = errors.New("decoding pod: it does not fit the Pod type of the Kubernetes API that this webhook was built with")

// outline is as much of a pod as it takes to see whether to look at all of it.
type outline struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec json.RawMessage `json:"spec"`
}

func readOutline(pod []byte) (o outline, err error) {
	if err := json.Unmarshal(pod, &o); err != nil {
		return outline{}, errNotAPod
	}
	return o, nil
}

// asks tells whether the pod wants anything of Certwright: the match conditions of the
// webhook's configuration.
func (o outline) asks() bool {
	_, certificate := o.Metadata.Annotations[annotation.AutoTLS]
	_, bundles := o.Metadata.Annotations[annotation.Trust]
	return certificate || bundles
}

// checkSize refuses a pod that would cost too much to look at.
func (o outline) checkSize() error {
	if n := countValues(o.Spec); n > maxValues {
		return annotation.Refusal{fmt.Sprintf("spec: it holds %d values, the most is %d", n, maxValues)}
	}
	return nil
}

// countItems counts the containers, volumes and mounts of a pod. Of each of our
// volumes the first is free, and so is its first mount in a container: at a second
// visit there are no more than at the first.
func countItems(pod *corev1.Pod) (n int) {
	count := func(names map[string]bool, name string) {
		if !inject.IsOurVolume(name) || names[name] {
			n++
		}
		names[name] = true
	}
	volumes := map[string]bool{}
	for i := range pod.Spec.Volumes {
		count(volumes, pod.Spec.Volumes[i].Name)
	}
	for c := range inject.Workload(pod) {
		n++
		mounts := map[string]bool{}
		for _, mount := range c.VolumeMounts {
			count(mounts, mount.Name)
		}
	}
	return n
}

// countValues counts the values and members in valid JSON, each by the sign before it.
func countValues(text []byte) (n int) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[', ',':
			n++
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		}
	}
	return n
}
