// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package patch tells what was changed in a pod, as a JSON Patch (RFC 6902).
//
// What it promises: the API server has the changed pod after it, or there is an error; fields that this version of the API types does not
// know survive, in lists too; and the same change is the same patch every time.
package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/certwright/certwright/webhook/annotation"
)

// deliveredBy points to the one annotation that we write (RFC 6901, section 3, has
// ~1 for the slash).
var deliveredBy = "/metadata/annotations/" + strings.ReplaceAll(annotation.DeliveredBy, "/", "~1")

// Between returns the operations that turn a pod into mutated: its spec and the one annotation that we write. It came with the spec raw,
// and was decoded as original. There are none if nothing changed.
func Between(raw json.RawMessage, original, mutated *corev1.Pod) ([]jsonpatch.JsonPatchOperation, error) {
	operations, err := between(raw, original.Spec, mutated.Spec)
	if err != nil {
		return nil, err
	}
	if by := mutated.Annotations[annotation.DeliveredBy]; by != original.Annotations[annotation.DeliveredBy] {
		operations = append(operations, jsonpatch.NewOperation("add", deliveredBy, by))
	}
	return operations, nil
}

// between is Between for the specs.
//
// Raw may hold fields that our types do not know, also inside list elements that
// change place. So the difference between the typed specs, which tells elements by
// their keys, is applied to raw first, and the operations are taken from the
// result, which holds every field. Whatever goes wrong on that way shows in the
// comparison at its end.
func between(raw json.RawMessage, original, mutated corev1.PodSpec) ([]jsonpatch.JsonPatchOperation, error) {
	pod, err := json.Marshal(map[string]json.RawMessage{"spec": raw})
	if err != nil {
		return nil, fmt.Errorf("encoding pod: %w", err)
	}
	before, err := json.Marshal(corev1.Pod{Spec: original})
	if err != nil {
		return nil, fmt.Errorf("encoding pod: %w", err)
	}
	after, err := json.Marshal(corev1.Pod{Spec: mutated})
	if err != nil {
		return nil, fmt.Errorf("encoding changed pod: %w", err)
	}
	difference, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("comparing pods: %w", err)
	}
	if string(difference) == "{}" {
		return nil, nil
	}
	result, err := strategicpatch.StrategicMergePatch(pod, difference, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("changing pod: %w", err)
	}
	var check corev1.Pod
	if err := json.Unmarshal(result, &check); err != nil {
		return nil, fmt.Errorf("decoding changed pod: %w", err)
	}
	if !apiequality.Semantic.DeepEqual(check.Spec, mutated) {
		return nil, errors.New("changing pod: its lists hold elements that cannot be told apart; give ports, mounts and volumes of a container distinct keys")
	}
	return replaceChanged(pod, result)
}

// replaceChanged returns one operation for each field of the spec that differs.
// Whole fields are larger than the least possible patch, but there is no index in
// them to get wrong, and they are the same every time.
func replaceChanged(pod, result []byte) ([]jsonpatch.JsonPatchOperation, error) {
	var before, after struct {
		Spec map[string]any `json:"spec"`
	}
	if err := utiljson.Unmarshal(pod, &before); err != nil {
		return nil, fmt.Errorf("decoding pod: %w", err)
	}
	if err := utiljson.Unmarshal(result, &after); err != nil {
		return nil, fmt.Errorf("decoding changed pod: %w", err)
	}
	var operations []jsonpatch.JsonPatchOperation
	for _, field := range slices.Sorted(maps.Keys(after.Spec)) {
		if !reflect.DeepEqual(before.Spec[field], after.Spec[field]) {
			// RFC 6902, section 4.1: "add" replaces what is there.
			operations = append(operations, jsonpatch.NewOperation("add", "/spec/"+field, after.Spec[field]))
		}
	}
	for _, field := range slices.Sorted(maps.Keys(before.Spec)) {
		if _, left := after.Spec[field]; !left {
			operations = append(operations, jsonpatch.NewOperation("remove", "/spec/"+field, nil))
		}
	}
	return operations, nil
}
