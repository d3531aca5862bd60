// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"time"
)

// look is what a program of this user sees in the directory. It holds nothing of the key.
type look struct {
	User        int      `json:"user"`
	Files       []file   `json:"files"`
	Certificate seen     `json:"certificate"`
	Anchors     []string `json:"anchors"` // SHA-256 of each certificate in ca.crt
}

// file is one file of the directory, links followed.
type file struct {
	Name  string `json:"name"`
	Mode  string `json:"mode"` // as ls prints it
	User  uint32 `json:"user"`
	Group uint32 `json:"group"`
}

// lookAround prints what is in the directory; with follow, again whenever that changes, until ctx ends.
func lookAround(ctx context.Context, id identity, follow bool) error {
	var last look
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		now, err := lookOnce(id)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(now, last) {
			if err := json.NewEncoder(os.Stdout).Encode(now); err != nil {
				return err
			}
			last = now
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// lookOnce takes one look. The key is read to learn that this user may and that it belongs to the certificate.
func lookOnce(id identity) (look, error) {
	pair, err := id.pair()
	if err != nil {
		return look{}, err
	}
	l := look{User: os.Getuid(), Certificate: see(pair.Leaf)}
	for _, name := range []string{"ca.crt", "tls.crt", "tls.key"} {
		info, err := os.Stat(filepath.Join(id.dir, name))
		if errors.Is(err, os.ErrNotExist) {
			info, err = os.Stat(filepath.Join(id.dir, name)) // the generation was replaced while its links were followed
		}
		if err != nil {
			return look{}, err
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return look{}, fmt.Errorf("the owner of %s is not known on this system", name)
		}
		l.Files = append(l.Files, file{Name: name, Mode: info.Mode().String(), User: owner.Uid, Group: owner.Gid})
	}
	l.Anchors, err = id.fingerprints()
	return l, err
}
