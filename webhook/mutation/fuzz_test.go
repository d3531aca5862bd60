// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/certwright/certwright/webhook/annotation"
)

// Whatever the annotations say, the pod is refused with reasons, or it gets an agent that takes its configuration or a volume, and
// another visit changes nothing.
func FuzzMutate(f *testing.F) {
	f.Add(signer, "a.b/c", "true", "JKS", "auto", "web", "nginx=HUP", "http://localhost:1/", `["/x"]`, "data", "true", "9402", "/tls", "pod", "", uint8(0))
	f.Add("", "a.b/c,a.b/d", "SSL_CERT_FILE", "PKCS12", "agent", "", "", "", "", "", "", "", "", "", "/trust", uint8(1))
	f.Add(signer, "", "", "", "kubelet", "web", "", "", "", "", "", "", "/$(X)", "::1", "", uint8(2))
	f.Add(signer, "", "", "PEM", "init", "", "", "", "", "", "", "", "", "", "", uint8(3))
	f.Fuzz(func(t *testing.T, autoTLS, bundles, env, formats, delivery, containers, signal, url, command, volume, socket, port, mountPath, ips, trustPath string, in uint8) {
		pod := newPod(func(pod *corev1.Pod) {
			user := int64(in >> 4)
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user}
			pod.Spec.Volumes = []corev1.Volume{{Name: "data"}}
		})
		pod.Annotations = map[string]string{}
		for key, value := range map[string]string{
			annotation.AutoTLS: autoTLS, annotation.Trust: bundles, annotation.TrustEnv: env, annotation.Formats: formats, annotation.Delivery: delivery,
			annotation.Containers: containers, annotation.ReloadSignal: signal, annotation.ReloadURL: url, annotation.ReloadCommand: command,
			annotation.ReloadVolume: volume, annotation.SPIFFESocket: socket, annotation.MetricsPort: port, annotation.MountPath: mountPath,
			annotation.IPAddresses: ips, annotation.TrustMountPath: trustPath,
		} {
			if value != "" {
				pod.Annotations[key] = value
			}
		}
		c := clusters[int(in)%len(clusters)]
		if err := c.Mutate(pod, c.Facts); err != nil {
			var refusal annotation.Refusal
			if !errors.As(err, &refusal) || len(refusal) == 0 || len(err.Error()) > 40000 {
				t.Fatalf("not a refusal of bounded length: %v", err)
			}
			return
		}
		if pod.Annotations[annotation.DeliveredBy] != string(annotation.DeliveryKubelet) {
			agentConfig(t, pod)
		}
		c.assertSettled(t, encodePod(t, pod))
	})
}
