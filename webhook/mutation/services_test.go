// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Services are read in pages, and no further than there is use for.
func TestHandlerPages(t *testing.T) {
	labelled := newPod(func(pod *corev1.Pod) { pod.Labels = map[string]string{"app": "web"} })
	for name, test := range map[string]struct {
		services, selecting int // the latter come last
		pages               int
		refused             bool
	}{
		"none":             {services: 0, pages: 1},
		"one page":         {services: servicesPage, selecting: 1, pages: 1},
		"the last of many": {services: 5*servicesPage + 1, selecting: 1, pages: 6},
		"most that may":    {services: 3 * servicesPage, selecting: maxServices, pages: 3},
		"one too many":     {services: 3 * servicesPage, selecting: maxServices + 1, pages: 3, refused: true},
		"far too many":     {services: 50 * servicesPage, selecting: 50 * servicesPage, pages: 2, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			pages := 0
			h := newHook(t, func(_ context.Context, into *corev1.ServiceList, opts *client.ListOptions) error {
				pages++
				from := 0
				if opts.Continue != "" {
					if _, err := fmt.Sscan(opts.Continue, &from); err != nil {
						return err
					}
				}
				if opts.Limit != servicesPage || opts.Namespace != "shop" {
					t.Errorf("options are %+v", opts)
				}
				to := min(from+int(opts.Limit), test.services)
				for i := from; i < to; i++ {
					into.Items = append(into.Items, service(fmt.Sprint("s", i), func(s *corev1.Service) {
						if i < test.services-test.selecting {
							s.Spec.Selector = map[string]string{"app": "other"}
						}
					}))
				}
				if to < test.services {
					into.Continue = fmt.Sprint(to)
				}
				return nil
			})
			got := h.send(request(encodePod(t, labelled)))
			if got.Allowed == test.refused || pages != test.pages {
				t.Errorf("allowed %t after %d pages, want %t after %d: %s", got.Allowed, pages, !test.refused, test.pages, got.Result.Message)
			}
			if test.refused && !strings.Contains(got.Result.Message, "more than 100 Services of namespace shop select it: name those to ask for in annotation certwright.dev/dns-names") {
				t.Errorf("message is %q", got.Result.Message)
			}
			if n := strings.Count(string(got.Patch), `.shop.svc\"`); got.Allowed && n != test.selecting {
				t.Errorf("%d names of Services in the patch, want %d", n, test.selecting)
			}
		})
	}
}
