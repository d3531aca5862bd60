// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package store is a directory that shows the files of one generation at a time,
// as the kubelet's projected volumes do.
//
// What it promises: files appear together, change together and vanish together. A
// crash at any point leaves the previous contents or the next, never a mixture.
// Programs that watch the directory see ..data replaced; programs that watch a
// file see it removed once the next one is in its place.
package store
