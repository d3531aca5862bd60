// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/csr"
	"github.com/certwright/certwright/inspect"
	"github.com/certwright/certwright/policy"
	"github.com/certwright/certwright/terminal"
)

// Reasons of the conditions that a person's decision leaves.
const (
	ReasonApproved = "ApprovedByPerson"
	ReasonDenied   = "DeniedByPerson"
)

// Desk is where one person decides about one request after the other.
type Desk struct {
	Gate   *Gate
	In     *bufio.Reader
	Out    io.Writer
	Colors terminal.Palette
	// Ask is true where somebody can be asked: In and Out belong to a terminal.
	Ask bool
	// Yes decides without asking.
	Yes bool
	// Force approves what policies do not permit.
	Force bool
}

// ErrDeclined says that the person did not say yes.
var ErrDeclined = errors.New("nothing was written")

// Approve shows a request and what policies say to it, asks, and approves it. Reason may be empty.
func (d *Desk) Approve(ctx context.Context, name, reason string) error {
	object, err := d.pending(ctx, name)
	if err != nil {
		return err
	}
	e, err := d.Gate.Installation.Explain(ctx, object)
	if err != nil {
		if err := d.show(object); err != nil {
			return err
		}
		d.printf("%s policies cannot be asked, so nobody knows whether this will be signed: %s\n", d.Colors.Warn("warning:"), terminal.Escape(err.Error()))
	} else {
		if err := e.WriteText(d.Out, d.Colors, d.Gate.Clock.Now()); err != nil {
			return err
		}
		if e.Decided() != policy.Permit {
			if !d.Force {
				return errors.New("no policy permits this, so it would not be signed: the signer asks the policies again, whoever approved. Change a policy or the request first; --force approves it all the same, to no avail")
			}
			d.printf("%s no policy permits this: the signer will refuse to sign it\n", d.Colors.Warn("warning:"))
		}
	}
	if err := d.confirm("Approve", name); err != nil {
		return err
	}
	if reason == "" {
		reason = "Approved by a person with kubectl certwright."
	}
	return d.decide(ctx, object, certificatesv1.CertificateApproved, ReasonApproved, reason)
}

// Deny shows a request, asks, and denies it for the reason.
func (d *Desk) Deny(ctx context.Context, name, reason string) error {
	object, err := d.pending(ctx, name)
	if err != nil {
		return err
	}
	if err := d.show(object); err != nil {
		return err
	}
	if err := d.confirm("Deny", name); err != nil {
		return err
	}
	return d.decide(ctx, object, certificatesv1.CertificateDenied, ReasonDenied, reason)
}

func (d *Desk) pending(ctx context.Context, name string) (*certificatesv1.CertificateSigningRequest, error) {
	var object certificatesv1.CertificateSigningRequest
	if err := d.Gate.Client.Get(ctx, client.ObjectKey{Name: name}, &object); err != nil {
		return nil, fmt.Errorf("reading the certificatesigningrequest: %w", err)
	}
	if csr.IsKubernetesSigner(object.Spec.SignerName) {
		return nil, fmt.Errorf("its signerName %s belongs to Kubernetes, which Certwright does not decide about: use kubectl certificate approve or deny", object.Spec.SignerName)
	}
	if !csr.IsUndecided(&object) {
		return nil, fmt.Errorf("it is decided already: %s", strings.ToLower(inspect.NewRequest(&object).Status))
	}
	return &object, nil
}

// show fails where nobody can read: what was not shown must not be decided, not with --yes either.
func (d *Desk) show(object *certificatesv1.CertificateSigningRequest) error {
	return inspect.NewRequest(object).WriteText(d.Out, d.Colors, d.Gate.Clock.Now())
}

func (d *Desk) printf(format string, args ...any) { fmt.Fprintf(d.Out, format, args...) }

// confirm asks unless told not to.
func (d *Desk) confirm(verb, name string) error {
	if d.Yes {
		return nil
	}
	if !d.Ask {
		return fmt.Errorf("%w: there is no terminal to ask at, say --yes to decide without being asked", ErrDeclined)
	}
	d.printf("%s %s? [y/N] ", d.Colors.Strong(verb), terminal.Escape(name))
	answer, err := d.In.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return ErrDeclined
	}
	return nil
}

// decide writes the condition. The object's resourceVersion binds the write to what was shown.
func (d *Desk) decide(ctx context.Context, object *certificatesv1.CertificateSigningRequest, condition certificatesv1.RequestConditionType, reason, message string) error {
	updated := object.DeepCopy()
	csr.SetCondition(updated, condition, reason, message, d.Gate.Clock.Now())
	err := d.Gate.Client.SubResource("approval").Update(ctx, updated)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return errors.New("the request changed or went away since it was shown, so nothing was written: look again")
	}
	if err != nil {
		return fmt.Errorf("writing the decision: %w", err)
	}
	d.printf("%s %s\n", terminal.Escape(object.Name), map[certificatesv1.RequestConditionType]string{
		certificatesv1.CertificateApproved: d.Colors.Good("approved"),
		certificatesv1.CertificateDenied:   d.Colors.Bad("denied"),
	}[condition])
	return nil
}
