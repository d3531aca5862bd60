// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"reflect"
	"testing"

	"github.com/certwright/certwright/hack/images/image"
)

func TestParse(t *testing.T) {
	for argument, want := range map[string]struct {
		file string
		spec image.Spec
	}{
		"demo=certwright/demo:dev:bin/demo": {"demo", image.Spec{Reference: "certwright/demo:dev", Programs: []string{"bin/demo"}}},
		"a=localhost:5000/a:1:x,y":          {"a", image.Spec{Reference: "localhost:5000/a:1", Programs: []string{"x", "y"}}},
		"demo":                              {},
		"demo=":                             {},
		"=certwright/demo:dev:bin/demo":     {},
		"demo=certwright/demo:":             {},
		"../demo=certwright/demo:dev:x":     {},
	} {
		file, spec, err := parse(argument)
		if (err != nil) != (want.file == "") {
			t.Errorf("%s: error %v", argument, err)
		}
		if file != want.file || !reflect.DeepEqual(spec, want.spec) {
			t.Errorf("%s: got %q %+v, want %q %+v", argument, file, spec, want.file, want.spec)
		}
	}
}
