// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ext is where a build of Traefik may add fields of its own to its configuration. Traefik's module does not bring this
// one along; the build for the tests adds nothing.
package ext

// HTTP is added to the configuration of HTTP.
type HTTP struct{}

// Router is added to a router.
type Router struct{}

// RouterIng is added to the annotations of an Ingress.
type RouterIng struct{}

// ToRouter says what the annotations of an Ingress mean for its router.
func (RouterIng) ToRouter() Router { return Router{} }
