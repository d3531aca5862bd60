// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"fmt"
	"reflect"
	"sync"

	"github.com/google/cel-go/cel"
	"k8s.io/apimachinery/pkg/util/version"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// languageVersion is the Kubernetes version whose CEL libraries policies may use. It is raised by hand and never falls, so
// that a new release of the library changes nothing about policies by itself, and a policy that one version of Certwright
// took, later ones take too.
//
// There is one mode: the environment for new expressions of that version. The API server needs a second, wider one for what a
// newer API server stored before a rollback; here a policy whose language is not known is one that permits nothing.
var languageVersion = version.MajorMinor(1, 37)

// env takes a few milliseconds to build and is never changed, so that one serves the whole program, from the first use on.
var env = sync.OnceValues(func() (*cel.Env, error) {
	base := environment.MustBaseEnvSet(languageVersion).NewExpressionsEnv()
	variables := typeOf(reflect.TypeFor[Variables]())
	provider := apiservercel.NewDeclTypeProvider(variables)
	provider.SetRecognizeKeywordAsFieldName(true)
	opts, err := provider.EnvOptions(base.CELTypeProvider())
	if err != nil {
		return nil, fmt.Errorf("declaring the types of variables: %w", err)
	}
	for name, field := range variables.Fields {
		opts = append(opts, cel.Variable(name, field.Type.CelType()))
	}
	guards, err := guardedFunctions(base)
	if err != nil {
		return nil, err
	}
	return base.Extend(append(opts, guards...)...)
})
