// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"io"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Workload makes pods anew that it restarts: a Deployment, StatefulSet or DaemonSet. The zero Workload is none of these.
type Workload struct {
	Kind, Name string
}

// workloadOf finds it by the pod's controller. A ReplicaSet of a Deployment has the Deployment's name and the hash that its pods are
// labelled with.
func workloadOf(pod *corev1.Pod) Workload {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.APIVersion != appsv1.SchemeGroupVersion.String() {
		return Workload{}
	}
	w := Workload{}
	switch owner.Kind {
	case "StatefulSet", "DaemonSet":
		w.Kind, w.Name = strings.ToLower(owner.Kind), owner.Name
	case "ReplicaSet":
		name, ok := strings.CutSuffix(owner.Name, "-"+pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey])
		if !ok {
			return Workload{}
		}
		w.Kind, w.Name = "deployment", name
	}
	// The API server takes any text for the name of an owner, and people paste what is made of it.
	if len(validation.IsDNS1123Subdomain(w.Name)) > 0 {
		return Workload{}
	}
	return w
}

// String is what kubectl calls it, such as deployment/web.
func (w Workload) String() string { return w.Kind + "/" + w.Name }

// WriteRestarts writes the commands that make these pods anew, each once, below a line that says what for. Pods for which there is no
// command are named.
func WriteRestarts(w io.Writer, title string, members []Member) error {
	var lines []string
	for _, m := range members {
		line := "kubectl rollout restart " + m.Workload.String() + " -n " + m.Namespace
		if m.Workload == (Workload{}) {
			line = fmt.Sprintf("# pod %s of namespace %s was made by no Deployment, StatefulSet or DaemonSet: whoever made it has to make it anew", m.Name, m.Namespace)
		}
		lines = append(lines, "  "+line+"\n")
	}
	if len(lines) == 0 {
		return nil
	}
	slices.Sort(lines)
	_, err := io.WriteString(w, "\n"+title+"\n"+strings.Join(slices.Compact(lines), ""))
	return err
}
