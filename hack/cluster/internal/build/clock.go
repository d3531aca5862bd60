// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import _ "embed"

// ClockVariable is the environment variable that names the file in which a kubelet of KubeletWithClock reads, as Go writes a
// duration, how far its clock for pod certificates is ahead. Without the file it is right.
const ClockVariable = "CERTWRIGHT_KUBELET_CLOCK"

//go:embed movedclock.go.txt
var movedClock string

// KubeletWithClock returns the kubelet of a release with one difference: the clock by which it decides when a certificate of a
// pod is due for refresh, or expired, can be moved. So a test need not wait for as long as a certificate lives.
func KubeletWithClock(sources, release string) (Module, error) {
	module, err := Kubelet(sources, release)
	if err != nil {
		return Module{}, err
	}
	module.Name = "kubelet-with-clock-" + release
	module.Change = &Change{
		Module: "k8s.io/kubernetes", Folder: "pkg/kubelet/podcertificate",
		File: "podcertificatemanager.go", Old: "\t\tclock:        clock,\n", New: "\t\tclock:        movedClock{clock},\n",
		Added: "movedclock.go", Source: movedClock,
	}
	return module, nil
}
