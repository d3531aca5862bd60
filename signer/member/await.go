// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package member

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// answer is what a call returned, or panicked with.
type answer[T any] struct {
	value    T
	err      error
	panicked any
}

// await calls f with a context that ends after the limit, and does not wait much longer for it, even if f does not keep to that: a
// key in a device may hang where no context reaches. When f returns, be it later, release is called.
func await[T any](ctx context.Context, limit time.Duration, release func(), f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	returned := make(chan answer[T], 1)
	go func() {
		var a answer[T]
		defer func() {
			a.panicked = recover()
			release()
			returned <- a
		}()
		a.value, a.err = f(ctx)
	}()
	select {
	case a := <-returned:
		return a.get()
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case a := <-returned:
		return a.get()
	case <-timer.C:
		var none T
		return none, fmt.Errorf("no answer within %s: %w", limit, ctx.Err())
	}
}

// get returns the answer where it is waited for, a panic included.
func (a answer[T]) get() (T, error) {
	if a.panicked != nil {
		panic(a.panicked)
	}
	return a.value, a.err
}

// errStuck is why a backend is asked nothing more.
var errStuck = errors.New("it has not answered what it was asked before")

// aside asks the backend something beside signing, with its timeout. One that keeps no context is not asked without end.
func aside[T any](ctx context.Context, m *Member, ask func(context.Context) (T, error)) (T, error) {
	return asideFor(ctx, m, m.timeout, ask)
}

func asideFor[T any](ctx context.Context, m *Member, limit time.Duration, ask func(context.Context) (T, error)) (answer T, err error) {
	select {
	case m.asides <- struct{}{}:
	default:
		return answer, errStuck
	}
	left, err := m.use()
	if err != nil {
		<-m.asides
		return answer, err
	}
	return await(ctx, limit, func() { <-m.asides; left() }, ask)
}
