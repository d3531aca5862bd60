// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/fleet/fleettest"
	"github.com/certwright/certwright/terminal"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	busy := newSigner(managed("second"), v1alpha1.Backend{Name: "vault", Vault: &v1alpha1.Vault{}})
	busy.Name, busy.UID = "busy", "uid-of-busy"
	busy.Status.Backends[0].Rotation = rotating(v1alpha1.RotationPublishing, ptr.To(metav1.NewTime(fleettest.Now.Add(40*time.Minute))))
	busy.Status.Backends[0].CANotAfter = ptr.To(metav1.NewTime(fleettest.Now.Add(-time.Hour)))
	busy.Status.Backends = append(busy.Status.Backends, v1alpha1.BackendStatus{Name: "vault", Message: "it answers \x1b[31mnothing"})
	asked := newSigner()
	asked.Name, asked.UID, asked.Annotations = "asked", "uid-of-asked", map[string]string{v1alpha1.AnnotationCompromisedRoot: oldRoot}
	r := newRotator(t, interceptor.Funcs{}, newSigner(), busy, asked)

	for name, signer := range map[string]string{"status": "", "status-busy": "busy", "status-asked": "asked"} {
		rows, err := r.Rows(t.Context(), signer)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if signer == "" {
			err = WriteTable(&out, rows, fleettest.Now)
		} else {
			err = WriteText(&out, terminal.Palette{}, rows)
		}
		if err != nil {
			t.Fatal(err)
		}
		fleettest.Golden(t, name, out.String())
	}
}
