// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/go-logr/logr"

	"github.com/certwright/certwright/api/v1alpha1"
)

const (
	installManifest = "../manifests/install.yaml"
	systemNamespace = "certwright-system"
	demoImage       = "certwright/demo:dev"

	approver = "certwright-approver"
	signer   = "certwright-signer"
	webhook  = "certwright-webhook"
)

var components = []string{approver, signer, webhook}

// The administrator's view of the cluster, set by TestMain.
var (
	adminConfig *rest.Config
	admin       client.Client
	kube        kubernetes.Interface
	scheme      = runtime.NewScheme()
)

func TestMain(m *testing.M) {
	flag.Parse()
	moreAtOnce()
	endInTime()
	ctrl.SetLogger(logr.Discard())
	if err := setUp(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := takeAway(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: taking away what the tests left:", err)
		code = max(code, 1)
	}
	conclude(os.Stdout)
	os.Exit(code)
}

// moreAtOnce lets more tests wait at the same time than there are processors, unless the command line says how many.
func moreAtOnce() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", "8") //nolint:errcheck // the flag exists and takes numbers
	}
}

func setUp(ctx context.Context) error {
	path := os.Getenv("KUBECONFIG")
	if path == "" {
		return errors.New("KUBECONFIG is not set: set it to the kubeconfig of a cluster whose nodes have the images, or run make e2e")
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return fmt.Errorf("reading KUBECONFIG: %w", err)
	}
	config.QPS = -1
	adminConfig = config
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	if admin, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("reaching the cluster of KUBECONFIG: %w", err)
	}
	if kube, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	version, err := kube.Discovery().ServerVersion()
	if err != nil {
		return fmt.Errorf("reaching the cluster of KUBECONFIG: %w", err)
	}
	start := time.Now()
	if err := install(ctx); err != nil {
		return fmt.Errorf("installing %s: %w", installManifest, err)
	}
	fmt.Printf("Kubernetes %s; installed %s in %.1f s\n", version.GitVersion, installManifest, time.Since(start).Seconds())
	return nil
}

// install applies the manifest as kubectl apply --server-side does, and waits until every component is there. Components
// that were there before are started anew: their images may be newer, as the tag is the same.
func install(ctx context.Context) error {
	before := map[string][]corev1.Pod{}
	for _, name := range components {
		err := admin.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: name}, &appsv1.Deployment{})
		if err == nil {
			before[name], err = componentPods(ctx, name)
		}
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	objects, err := manifest(installManifest)
	if err != nil {
		return err
	}
	for _, o := range objects {
		err := admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("kubectl"), client.ForceOwnership)
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	for name := range before {
		if err := restart(ctx, name); err != nil {
			return err
		}
	}
	for _, name := range components {
		if err := rolledOut(ctx, name); err != nil {
			return err
		}
		// The old ones work for some seconds after they were told to end.
		if err := poll(ctx, starting, func(ctx context.Context) error { return replacedBy(ctx, name, before[name]) }); err != nil {
			return fmt.Errorf("waiting for new pods of %s: %w", name, err)
		}
	}
	if err := established(ctx); err != nil {
		return err
	}
	if err := guarded(ctx); err != nil {
		return err
	}
	return admits(ctx)
}

// guarded waits until the signer answers what kubelets ask: not what was asked in the first seconds of the admission policy that keeps
// everybody else from asking.
func guarded(ctx context.Context) error {
	return poll(ctx, time.Minute, func(ctx context.Context) error {
		binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
		if err := admin.Get(ctx, client.ObjectKey{Name: "certwright-pod-certificate-requests"}, binding); err != nil {
			return err
		}
		if age := time.Since(binding.CreationTimestamp.Time); age < 12*time.Second {
			return fmt.Errorf("the admission policy is %s old", age)
		}
		return nil
	})
}

// manifest reads the objects of a YAML file.
func manifest(path string) ([]*unstructured.Unstructured, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	objects, err := decodeManifest(file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return objects, nil
}

func decodeManifest(from io.Reader) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(from, 4096)
	for {
		o := &unstructured.Unstructured{}
		switch err := decoder.Decode(&o.Object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		case len(o.Object) > 0:
			objects = append(objects, o)
		}
	}
}

// established waits until the API server serves our kinds.
func established(ctx context.Context) error {
	return poll(ctx, time.Minute, func(ctx context.Context) error {
		return errors.Join(admin.List(ctx, &v1alpha1.SignerList{}), admin.List(ctx, &v1alpha1.CertificatePolicyList{}))
	})
}

// restart does what kubectl rollout restart does.
func restart(ctx context.Context, component string) error {
	deployment := &appsv1.Deployment{}
	deployment.Namespace, deployment.Name = systemNamespace, component
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
	return admin.Patch(ctx, deployment, client.RawPatch(mergePatch, []byte(patch)))
}

// rolledOut waits until all pods of a component are of its newest template, and ready.
func rolledOut(ctx context.Context, component string) error {
	err := poll(ctx, 2*time.Minute, func(ctx context.Context) error {
		var d appsv1.Deployment
		if err := admin.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: component}, &d); err != nil {
			return err
		}
		want, s := *d.Spec.Replicas, d.Status
		if s.ObservedGeneration < d.Generation || s.Replicas != want || s.UpdatedReplicas != want || s.AvailableReplicas != want {
			return fmt.Errorf("%d of %d replicas are updated and %d available", s.UpdatedReplicas, want, s.AvailableReplicas)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", component, err)
	}
	return nil
}

// admits waits until the API server reaches the webhook: its Service leads to new pods a moment after they are ready.
func admits(ctx context.Context) error {
	return poll(ctx, time.Minute, func(ctx context.Context) error {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{demo("demo", 1000, "server")}}}
		pod.Namespace, pod.GenerateName = metav1.NamespaceDefault, "e2e-"
		pod.Annotations = map[string]string{autoTLS: "certwright.dev/e2e"}
		return admin.Create(ctx, pod, client.DryRunAll)
	})
}

// poll tries until the check has no complaint, and returns the last one when the time is up.
func poll(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	last := errors.New("nothing was seen")
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, limit, true, func(ctx context.Context) (bool, error) {
		if err := check(ctx); err != nil {
			if ctx.Err() == nil {
				last = err
			}
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("after %s: %w", limit, last)
	}
	return nil
}
