// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e tells the stories of Certwright's users on a real cluster, through the Kubernetes API and the manifests only:
// it installs manifests/install.yaml, then acts as the administrators, people, pods and components that the stories speak
// of, each with the rights that they really have.
//
// The tests have the build tag e2e, and KUBECONFIG names the cluster. Its nodes must have the images of Certwright and of
// the demo app; make e2e sees to all of that. Tests that disturb the components run first, one by one; the others share
// the cluster.
package e2e
