// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package renewal

import (
	"slices"
	"time"

	"k8s.io/utils/ptr"

	"github.com/certwright/certwright/fleet"
)

// Outcome is what becomes, or became, of the certificate of a pod, for programs.
type Outcome struct {
	fleet.Member
	// Message says it in words.
	Message string `json:"message"`
	// RefreshAt is when its kubelet begins to ask for a new certificate.
	RefreshAt *time.Time `json:"refreshAt,omitempty"`
	// Restart is what to restart if it is to have a new certificate now and cannot be told, such as "deployment/web".
	Restart string `json:"restart,omitempty"`
	// Told says that its agent was told to renew.
	Told bool `json:"told"`
	// Request is the name of the CertificateSigningRequest that its agent made since, if that was waited for.
	Request string `json:"request,omitempty"`
	// Trouble says why it got no certificate by that; empty if it did.
	Trouble string `json:"trouble,omitempty"`
}

// Outcomes are those of all pods of a plan.
type Outcomes []Outcome

// Outcomes returns what becomes of each pod.
func (p Plan) Outcomes(now time.Time) Outcomes {
	all := Outcomes{}
	for _, s := range p.Steps {
		o := Outcome{Member: s.Member, Message: s.words(now)}
		if !s.RefreshAt.IsZero() {
			o.RefreshAt = ptr.To(s.RefreshAt.UTC())
		}
		if !s.Listens && s.Workload != (fleet.Workload{}) {
			o.Restart = s.Workload.String()
		}
		all = append(all, o)
	}
	return all
}

// Tell notes which agents were told.
func (all Outcomes) Tell(told []Step) {
	for _, s := range told {
		all.of(s).Told = true
	}
}

// End notes how a renewal ended.
func (all Outcomes) End(r Result) {
	o := all.of(r.Step)
	o.Request, o.Trouble = r.Request, r.Trouble
}

func (all Outcomes) of(s Step) *Outcome {
	return &all[slices.IndexFunc(all, func(o Outcome) bool {
		return o.UID == s.UID && o.SignerName == s.SignerName && o.Delivery == s.Delivery
	})]
}
