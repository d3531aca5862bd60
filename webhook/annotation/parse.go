// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package annotation

import (
	"maps"
	"slices"
	"strings"
)

// Parse reads the annotations of a pod. The error, if any, is a Refusal.
func Parse(annotations map[string]string) (Ask, error) {
	ask := Ask{
		Delivery:     DeliveryAuto,
		Duration:     DefaultDuration,
		KeyAlgorithm: DefaultKeyAlgorithm,
		MountPath:    DefaultMountPath,
	}
	if !has(annotations, AutoTLS) {
		ask.MountPath = DefaultTrustMountPath
	}
	var refusal Refusal
	known := strings.Join(slices.Sorted(maps.Keys(parsers)), ", ")
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(key, Prefix) {
			continue
		}
		parse := parsers[key]
		if parse == nil {
			refusal.Addf("annotation %s: unknown, use one of %s", Shorten(key), known)
			continue
		}
		if n := len(annotations[key]); n > MaxBytes {
			refusal.Addf("annotation %s: %d bytes long, the most is %d", key, n, MaxBytes)
			continue
		}
		for _, problem := range parse(annotations[key], &ask) {
			refusal.Addf("annotation %s: %s", key, problem)
		}
	}
	refusal = append(refusal, checkTogether(annotations)...)
	if refusal == nil { // what is compared is right by itself
		refusal = checkAsk(ask)
	}
	if refusal != nil {
		return Ask{}, refusal
	}
	// Its bundle is there anyway.
	ask.Trust = slices.DeleteFunc(ask.Trust, func(name string) bool { return name == ask.SignerName })
	return ask, nil
}

func has(annotations map[string]string, key string) bool {
	_, ok := annotations[key]
	return ok
}

// one checks a value that is a whole; check returns what is allowed if it is not.
func one(value string, check func(string) string, into *string) []string {
	*into = value
	if allowed := check(value); allowed != "" {
		return []string{NotAllowed(value, allowed)}
	}
	return nil
}

// list splits a value at its commas, checks each part and keeps the good ones,
// once each. A blank value is a list of none.
func list(value string, check func(string) string, into *[]string) []string {
	good, problems := []string{}, []string(nil)
	if strings.TrimSpace(value) != "" {
		for part := range strings.SplitSeq(value, ",") {
			part = strings.TrimSpace(part)
			if allowed := check(part); allowed != "" {
				problems = append(problems, NotAllowed(part, allowed))
			} else if !slices.Contains(good, part) {
				good = append(good, part)
			}
		}
	}
	*into = good
	return problems
}

// some reads a list that may not be empty.
func some(value string, check func(string) string, into *[]string, allowed string) []string {
	problems := list(value, check, into)
	if len(*into) == 0 && problems == nil {
		return []string{NotAllowed(value, allowed)}
	}
	return problems
}
