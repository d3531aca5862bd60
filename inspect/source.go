// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The names of the files and of the keys of a Secret that hold a key pair.
const (
	certFile = corev1.TLSCertKey
	keyFile  = corev1.TLSPrivateKeyKey
	caFile   = "ca.crt"
)

// pair are the contents of a directory or a Secret; nil is what is not there.
type pair struct{ cert, key, ca []byte }

// Secret reports on the key pair in a Secret.
func Secret(secret *corev1.Secret, now time.Time) (Report, error) {
	p := pair{secret.Data[certFile], secret.Data[keyFile], secret.Data[caFile]}
	return p.inspect(fmt.Sprintf("secret %s/%s", secret.Namespace, secret.Name), now)
}

// Directory reports on the key pair in a directory, such as the one that the agent fills.
func Directory(path string, now time.Time) (Report, error) {
	var p pair
	for name, into := range map[string]*[]byte{certFile: &p.cert, keyFile: &p.key, caFile: &p.ca} {
		data, err := ReadFile(filepath.Join(path, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Report{}, err
		}
		*into = data
	}
	r, err := p.inspect("directory "+path, now)
	if info, statErr := os.Stat(filepath.Join(path, keyFile)); err == nil && statErr == nil && info.Mode().Perm()&0o004 != 0 {
		r.find(Warning, fmt.Sprintf("%s can be read by every user of the machine (mode %04o)", keyFile, info.Mode().Perm()))
	}
	return r, err
}

// PEM reports on certificates, a request or a key in PEM. Anchors may be nil.
func PEM(source string, data []byte, anchors *Anchors, now time.Time) (Report, error) {
	r := Report{Source: source}
	m, err := decode(data)
	if err != nil {
		return r, fmt.Errorf("%s: %w", source, err)
	}
	r.addProblems(m)
	r.judge(m.certificates, anchors, now)
	if len(m.requests) > 0 {
		r.Request = bareRequest(m.requests[0])
		if r.Request.Refusal != "" {
			r.find(Error, refused+r.Request.Refusal)
		}
		if len(m.requests) > 1 {
			r.find(Warning, fmt.Sprintf("%d requests were found; only the first is shown", len(m.requests)))
		}
	}
	r.holdKey(m.keys, m)
	return r, nil
}

func (p pair) inspect(source string, now time.Time) (Report, error) {
	r := Report{Source: source}
	if p.cert == nil && p.key == nil && p.ca == nil {
		return r, fmt.Errorf("%s holds none of %s, %s and %s", source, certFile, keyFile, caFile)
	}
	var anchors *Anchors
	if p.ca != nil {
		var err error
		if anchors, err = ParseAnchors(caFile, p.ca); err != nil {
			r.find(Error, err.Error())
		}
	}
	var certs, keys material
	for _, part := range []struct {
		name string
		data []byte
		into *material
	}{{certFile, p.cert, &certs}, {keyFile, p.key, &keys}} {
		if part.data == nil {
			r.find(Warning, "there is no "+part.name)
			continue
		}
		m, err := decode(part.data)
		if err != nil {
			r.find(Error, fmt.Sprintf("%s: %v", part.name, err))
		}
		r.addProblems(m)
		*part.into = m
	}
	r.judge(certs.certificates, anchors, now)
	r.holdKey(keys.keys, certs)
	return r, nil
}

// holdKey holds the first key against what is to be used with it.
func (r *Report) holdKey(keys []crypto.Signer, m material) {
	if len(keys) == 0 {
		return
	}
	public := keys[0].Public()
	r.PrivateKey = &PrivateKey{Key: describeKey(public)}
	var what string
	var matches bool
	switch {
	case len(m.certificates) > 0:
		what, matches = "certificate", same(m.certificates[0].PublicKey, public)
	case len(m.requests) > 0:
		block, _ := pem.Decode(m.requests[0])
		request, err := x509.ParseCertificateRequest(block.Bytes)
		what, matches = "request", err == nil && same(request.PublicKey, public)
	default:
		r.find(Warning, "there is a private key and no certificate")
		return
	}
	r.PrivateKey.Matches = &matches
	if !matches {
		r.find(Error, "the private key is not that of the "+what)
	}
}

// ParseAnchors reads a trust bundle in PEM.
func ParseAnchors(source string, data []byte) (*Anchors, error) {
	m, err := decode(data)
	if err == nil && len(m.problems) > 0 {
		err = errors.New(m.problems[0])
	}
	if err == nil && len(m.certificates) == 0 {
		err = errors.New("it holds no certificate")
	}
	if err != nil {
		return nil, fmt.Errorf("the trust bundle in %s cannot be read: %w", source, err)
	}
	return &Anchors{Source: source, Certificates: m.certificates}, nil
}

// ReadFile reads a file of at most 4 MiB.
func ReadFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory: use inspect dir %s", path, path)
	}
	data, err := io.ReadAll(io.LimitReader(file, MaxBytes+1))
	if err == nil && len(data) > MaxBytes {
		err = fmt.Errorf("%s has more than %d bytes", path, MaxBytes)
	}
	return data, err
}
