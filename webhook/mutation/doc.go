// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mutation gives certificates and trust bundles to the pods that ask for
// them: a pod goes in, a patch comes out.
//
// A pod asks with the annotation certwright.dev/auto-tls, or certwright.dev/trust for
// bundles alone. The webhook then puts the agent into it, as its first init
// container, together with a directory in memory that all containers of the pod
// share; or a volume that the kubelet fills, where that can do what is asked for.
//
// What it promises:
//
//   - Mutator.Mutate is a pure function of the pod, the annotations in it, the
//     Services of its namespace and its Signer: no client, no clock, no side effect.
//     Applied to its own result it changes nothing, so other injectors may run in
//     between.
//   - A pod that asks is changed or refused, never let through without what it
//     asked for. The refusal names everything that is wrong, at once.
//   - A pod that does not ask is left as it is.
//   - What a pod holds under Certwright's names is replaced, and the one annotation
//     that is written, certwright.dev/delivered-by, says who delivers.
//   - A pod that satisfies the restricted Pod Security Standard still does.
//   - Fields that this version of the API types does not know survive.
//   - No pod, patch or annotation value is ever logged.
//   - What a pod may cost in memory and time is bounded, whoever wrote it. How many
//     are worked on at once is for package gate.
package mutation
