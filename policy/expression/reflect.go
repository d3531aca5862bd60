// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"fmt"
	"reflect"
	"time"

	"github.com/google/cel-go/common/types"
	apiservercel "k8s.io/apiserver/pkg/cel"
)

// typeOf derives the CEL type of a Go type, so that the structs of Variables are the one place where names and types stand.
func typeOf(t reflect.Type) *apiservercel.DeclType {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return apiservercel.DurationType
	case t.Kind() == reflect.Bool:
		return apiservercel.BoolType
	case t.Kind() == reflect.Int:
		return apiservercel.IntType
	case t.Kind() == reflect.String:
		return apiservercel.StringType
	case t.Kind() == reflect.Pointer:
		return typeOf(t.Elem())
	case t.Kind() == reflect.Slice:
		return apiservercel.NewListType(typeOf(t.Elem()), maxWeight)
	case t.Kind() == reflect.Map:
		return apiservercel.NewMapType(typeOf(t.Key()), typeOf(t.Elem()), maxWeight)
	case t.Kind() == reflect.Struct:
		fields := make(map[string]*apiservercel.DeclField, t.NumField())
		for i := range t.NumField() {
			name := t.Field(i).Tag.Get("cel")
			fields[name] = apiservercel.NewDeclField(name, typeOf(t.Field(i).Type), t.Field(i).Type.Kind() != reflect.Pointer, nil, nil)
		}
		return apiservercel.NewObjectType("certwright."+t.Name(), fields)
	}
	panic(fmt.Sprintf("type %s has no counterpart in CEL", t))
}

// valueOf is the value that typeOf declares. Structs become maps without the fields that are absent, which is how Kubernetes
// shows its own objects to CEL.
func valueOf(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return types.NullValue
		}
		return valueOf(v.Elem())
	case reflect.Struct:
		object := make(map[string]any, v.NumField())
		for i := range v.NumField() {
			if field := v.Field(i); field.Kind() != reflect.Pointer || !field.IsNil() {
				object[v.Type().Field(i).Tag.Get("cel")] = valueOf(field)
			}
		}
		return object
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Struct {
			return v.Interface()
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = valueOf(v.Index(i))
		}
		return list
	default:
		return v.Interface()
	}
}
