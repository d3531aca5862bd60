// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package order keeps what is known of ACME orders under way: in memory, and in one Secret each, so that an order outlives
// the process that made it and what was put in place for its challenges is always taken away again.
//
// A Secret is written before a challenge is answered. It is never read from a request: who asks for a certificate has no say
// in which order is his.
package order

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/acme/challenge"
	"github.com/certwright/certwright/signer/secretname"
)

// Label is on the Secret of every order. Its value names the backend.
const Label = "certwright.dev/acme-order"

const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	managedBy      = "certwright"
	recordKey      = "order.json"
)

// Record is what is stored of an order.
type Record struct {
	// Signer and Backend are whose order it is, CSR and UID the request that it is for.
	Signer  string    `json:"signer"`
	Backend string    `json:"backend"`
	CSR     string    `json:"csr"`
	UID     types.UID `json:"uid"`
	// Requester is whose request it is, by the key of package fair.
	Requester string `json:"requester,omitempty"`

	// Account is the URL of the account that ordered. An order of another account is lost.
	Account string `json:"account,omitempty"`
	// URL of the order. Empty if there is none now.
	URL string `json:"url,omitempty"`

	// Failures counts orders of this request that came to nothing because of something that may pass, Losses those that the
	// server lost or broke. After one, no order is made before NotBefore.
	Failures  int       `json:"failures,omitempty"`
	Losses    int       `json:"losses,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	// Reason is why the last order came to nothing.
	Reason string `json:"reason,omitempty"`
	// Verdict is why there will never be a certificate. Empty if there may be.
	Verdict string `json:"verdict,omitempty"`

	// Answers are those to the challenges of the order and of the ones before it that are, or may be, in place.
	Answers []Answer `json:"answers,omitempty"`
	// Solvers are the configurations of what put them there.
	Solvers []v1alpha1.ACMESolver `json:"solvers,omitempty"`
}

// Answer is one to a challenge.
type Answer struct {
	challenge.Challenge
	// URL of the challenge, Authorization that of the authorization it belongs to.
	URL           string `json:"url"`
	Authorization string `json:"authorization"`
	// Solver is the index of its solver in Record.Solvers.
	Solver int `json:"solver"`
}

// Key tells one request from all others.
type Key struct {
	// Signer and Backend are whose order it is; Account identifies the account's key.
	Signer, Backend, Account string
	// UID is that of the request, DER its PKCS #10 bytes, Duration the lifetime that was granted.
	UID      types.UID
	DER      []byte
	Duration time.Duration
}

// name is the name of the order's Secret.
func (k Key) name() string {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(k.Signer), []byte(k.Backend), []byte(k.Account), []byte(k.UID), []byte(k.Duration.String()), k.DER} {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	return secretname.ACMEOrder + hex.EncodeToString(h.Sum(nil)[:16])
}

// labelValue names a backend as the value of a label can.
func labelValue(signer, backend string) string {
	value := signer + "." + backend
	if len(value) > validation.LabelValueMaxLength {
		sum := sha256.Sum256([]byte(value))
		return hex.EncodeToString(sum[:16])
	}
	return value
}

func (r *Record) secret(namespace, name, version string) (*corev1.Secret, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding an order: %w", err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, ResourceVersion: version,
			Labels: map[string]string{labelManagedBy: managedBy, Label: labelValue(r.Signer, r.Backend)},
		},
		Type: corev1.SecretTypeOpaque,
		Data: map[string][]byte{recordKey: text},
	}, nil
}

// parse reads the record in a Secret.
func parse(secret *corev1.Secret) (Record, error) {
	var r Record
	if err := json.Unmarshal(secret.Data[recordKey], &r); err != nil {
		return Record{}, fmt.Errorf("reading the order in Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	for _, a := range r.Answers {
		if a.Solver < 0 || a.Solver >= len(r.Solvers) {
			return Record{}, fmt.Errorf("reading the order in Secret %s/%s: solver %d does not exist", secret.Namespace, secret.Name, a.Solver)
		}
	}
	return r, nil
}
