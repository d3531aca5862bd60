// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestPaged(t *testing.T) {
	for _, pods := range []int{0, 1, pageSize, pageSize + 1, 3*pageSize - 1} {
		t.Run(fmt.Sprint(pods), func(t *testing.T) {
			t.Parallel()
			answers := 0
			k := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
				answers++
				from, _ := strconv.Atoi(r.URL.Query().Get("continue"))
				most, _ := strconv.Atoi(r.URL.Query().Get("limit"))
				if most == 0 || r.URL.Query().Get("labelSelector") != "app=web" {
					t.Errorf("asked for %s", r.URL.RawQuery)
				}
				list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: "47"}}
				for i := from; i < min(from+most, pods); i++ {
					pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("web-", i)}}
					if i%2 == 0 { // what one has and the next one has not must not stay
						pod.Labels = map[string]string{"even": "true"}
					}
					list.Items = append(list.Items, pod)
				}
				if from+most < pods {
					list.Continue = strconv.Itoa(from + most)
				}
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(list)
			})
			var list corev1.PodList
			if err := (paged{k}).List(t.Context(), &list, client.MatchingLabels{"app": "web"}); err != nil {
				t.Fatal(err)
			}
			if len(list.Items) != pods || list.ResourceVersion != "47" || list.Continue != "" || answers != max(1, (pods+pageSize-1)/pageSize) {
				t.Errorf("%d pods in %d answers, %+v", len(list.Items), answers, list.ListMeta)
			}
			for i, pod := range list.Items {
				if _, even := pod.Labels["even"]; pod.Name != fmt.Sprint("web-", i) || even != (i%2 == 0) {
					t.Fatalf("pod %d is %s %v", i, pod.Name, pod.Labels)
				}
			}
		})
	}
}

// The API server forgets the moment of a list after some minutes, which a slow one may take.
func TestPagedWhenItTakesTooLong(t *testing.T) {
	k := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: make([]corev1.Pod, 1)}
		switch query := r.URL.Query(); {
		case query.Get("continue") != "":
			w.WriteHeader(http.StatusGone)
			_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: http.StatusGone})
			return
		case query.Get("limit") != "":
			list.Continue = "1"
		default:
			list.Items = make([]corev1.Pod, 2*pageSize)
		}
		_ = json.NewEncoder(w).Encode(list)
	})
	var list corev1.PodList
	if err := (paged{k}).List(t.Context(), &list); err != nil || len(list.Items) != 2*pageSize {
		t.Errorf("%d pods, error %v", len(list.Items), err)
	}
}

// clientOf is a client, which knows of pods, of an API server that answers so.
func clientOf(t *testing.T, answer http.HandlerFunc) client.WithWatch {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	k, err := client.NewWithWatch(&rest.Config{Host: server.URL}, client.Options{Scheme: scheme.Scheme, Mapper: mapper})
	if err != nil {
		t.Fatal(err)
	}
	return k
}
