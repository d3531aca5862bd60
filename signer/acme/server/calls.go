// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/certwright/certwright/signer/remote"
)

// What the server keeps, as acmez has it.
type (
	// Account is an account with its key.
	Account = acme.Account
	// Order is an order.
	Order = acme.Order
	// Authorization is an authorization with its challenges.
	Authorization = acme.Authorization
	// Challenge is one of an authorization.
	Challenge = acme.Challenge
	// Identifier is a name in an order.
	Identifier = acme.Identifier
	// EAB is an external account binding.
	EAB = acme.EAB
)

// call runs one call of acmez. The error is an *Error, or the end of ctx. The duration is how long to wait before the same is
// asked again; zero if the server did not say.
func (s *Server) call(ctx context.Context, what string, f func(context.Context, *acme.Client) error) (time.Duration, error) {
	client, _, err := s.ready(ctx)
	if err != nil {
		return 0, err
	}
	ctx, answer := observe(ctx)
	if err := f(ctx, client); err != nil {
		return 0, failure(what, answer, err)
	}
	return answer.RetryAfter, nil
}

// Register makes an account, or finds the one that the key has.
func (s *Server) Register(ctx context.Context, account Account, eab *EAB) (Account, error) {
	_, err := s.call(ctx, "registering an account", func(ctx context.Context, c *acme.Client) (err error) {
		if eab != nil {
			if err := account.SetExternalAccountBinding(ctx, c, *eab); err != nil {
				return err
			}
		}
		account, err = c.NewAccount(ctx, account)
		return err
	})
	return account, checked(account, err)
}

// FindAccount returns the account that the key has. The error's fault is Account if it has none.
func (s *Server) FindAccount(ctx context.Context, account Account) (Account, error) {
	_, err := s.call(ctx, "looking up the account", func(ctx context.Context, c *acme.Client) (err error) {
		account, err = c.GetAccount(ctx, Account{PrivateKey: account.PrivateKey})
		return err
	})
	return account, checked(account, err)
}

// SetContacts tells the server whom to write to.
func (s *Server) SetContacts(ctx context.Context, account Account, contacts []string) error {
	_, err := s.call(ctx, "updating the account's contacts", func(ctx context.Context, c *acme.Client) error {
		_, err := c.UpdateAccount(ctx, Account{Location: account.Location, PrivateKey: account.PrivateKey, Contact: contacts})
		return err
	})
	return err
}

// checked refuses an account that has no URL, which would make every request after it one with a key of its own.
func checked(account Account, err error) error {
	if err == nil && account.Location == "" {
		return &Error{Fault: FaultServer, text: "looking up the account: the server does not say its URL"}
	}
	return err
}

// NewOrder makes an order.
func (s *Server) NewOrder(ctx context.Context, account Account, order Order) (Order, time.Duration, error) {
	after, err := s.call(ctx, "ordering", func(ctx context.Context, c *acme.Client) (err error) {
		order, err = c.NewOrder(ctx, account, order)
		return err
	})
	if err == nil && (order.Location == "" || order.Finalize == "") {
		err = &Error{Fault: FaultServer, text: "ordering: the server does not say the order's URL or where to finalize it"}
	}
	return order, after, err
}

// Order reads an order.
func (s *Server) Order(ctx context.Context, account Account, url string) (Order, time.Duration, error) {
	order := Order{Location: url}
	after, err := s.call(ctx, "reading the order", func(ctx context.Context, c *acme.Client) (err error) {
		order, err = c.GetOrder(ctx, account, order)
		return err
	})
	order.Location = url
	return order, after, err
}

// Authorization reads an authorization.
func (s *Server) Authorization(ctx context.Context, account Account, url string) (Authorization, error) {
	var authorization Authorization
	_, err := s.call(ctx, "reading an authorization", func(ctx context.Context, c *acme.Client) (err error) {
		authorization, err = c.GetAuthorization(ctx, account, url)
		return err
	})
	return authorization, err
}

// Validate tells the server that the answer to the challenge at that URL is in place. It returns the challenge's status, which
// is empty if the server is already at it.
func (s *Server) Validate(ctx context.Context, account Account, url string) (status string, after time.Duration, err error) {
	after, err = s.call(ctx, "having a challenge validated", func(ctx context.Context, c *acme.Client) error {
		challenge, err := c.InitiateChallenge(ctx, account, acme.Challenge{URL: url})
		status = challenge.Status
		return err
	})
	if e := (*Error)(nil); errors.As(err, &e) && e.Problem == short(acme.ProblemTypeMalformed) {
		return "", 0, nil // it is no longer pending
	}
	return status, after, err
}

// Finalize sends the PKCS #10 request of an order. If the order that it returns is still ready, the server was not: read it again.
func (s *Server) Finalize(ctx context.Context, account Account, order Order, der []byte) (Order, time.Duration, error) {
	url := order.Location
	after, err := s.call(ctx, "finalizing the order", func(ctx context.Context, c *acme.Client) error {
		finalized, err := c.FinalizeOrder(ctx, account, order, der)
		// What acmez calls an error may be no more than that the order is not valid yet, or that it was not ready (RFC 8555, section 7.4).
		var problem acme.Problem
		if status := answered(ctx).Status; status/100 == 2 || status == http.StatusForbidden && !errors.As(err, &problem) {
			order, err = finalized, nil
		}
		return err
	})
	order.Location = url
	return order, after, err
}

// Chains downloads the certificate of an order that is valid, with all chains that the server offers.
func (s *Server) Chains(ctx context.Context, account Account, url string) ([][]*x509.Certificate, error) {
	var chains [][]*x509.Certificate
	_, err := s.call(ctx, "downloading the certificate", func(ctx context.Context, c *acme.Client) error {
		certificates, err := c.GetCertificateChain(ctx, account, url)
		if err != nil {
			return err
		}
		for _, certificate := range certificates {
			chain, err := remote.Chain(certificate.ChainPEM)
			if err != nil {
				return err
			}
			chains = append(chains, chain)
		}
		return nil
	})
	if err == nil && len(chains) == 0 {
		err = &Error{Fault: FaultServer, text: "downloading the certificate: there is none"}
	}
	return chains, err
}

// RenewalWindow returns when the server wants a certificate to be renewed (RFC 9773). Both times are zero if it has no opinion.
func (s *Server) RenewalWindow(ctx context.Context, leaf *x509.Certificate) (start, end time.Time, err error) {
	directory, err := s.Directory(ctx)
	if err != nil || directory.RenewalInfo == "" || len(leaf.AuthorityKeyId) == 0 {
		return start, end, err
	}
	id, err := acme.ARIUniqueIdentifier(leaf)
	if err != nil {
		return start, end, fmt.Errorf("naming the certificate: %w", err)
	}
	var info acme.RenewalInfo
	if err := s.get(ctx, "reading renewal information", strings.TrimRight(directory.RenewalInfo, "/")+"/"+id, &info); err != nil {
		return start, end, err
	}
	if window := info.SuggestedWindow; window.End.After(window.Start) {
		return window.Start, window.End, nil
	}
	return start, end, &Error{Fault: FaultServer, text: "reading renewal information: the window ends before it starts"}
}

// CertificateID names a certificate as an order does that replaces it (RFC 9773, section 4.1). Empty if it cannot be named.
func CertificateID(leaf *x509.Certificate) string {
	if len(leaf.AuthorityKeyId) == 0 {
		return ""
	}
	id, err := acme.ARIUniqueIdentifier(leaf)
	if err != nil {
		return ""
	}
	return id
}

// HasProfile reports whether a directory names a profile.
func HasProfile(d Directory, profile string) bool {
	if d.Meta == nil {
		return false
	}
	_, known := d.Meta.Profiles[profile]
	return known
}

// Profiles are those that a directory names, in order.
func Profiles(d Directory) []string {
	if d.Meta == nil {
		return nil
	}
	names := make([]string, 0, len(d.Meta.Profiles))
	for name := range d.Meta.Profiles {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
