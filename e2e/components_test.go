// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/certwright/certwright/api/v1alpha1"
)

// Approver and signer decide and sign, and leave alone what others put beside that: no label, no finalizer, no annotation but
// the approver's own. All of these are dry runs.
func TestTheComponentsChangeNothingElseOfRequests(t *testing.T) {
	t.Parallel()
	s := tell(t)
	const policy = "certwright-request-writes"
	approver, signer := s.serviceAccount(systemNamespace, approver), s.serviceAccount(systemNamespace, signer)
	someone := s.requester()
	request, foreign := s.request(someone), s.request(someone, signerName("example.org/"+s.name))
	type csr = certificatesv1.CertificateSigningRequest
	patch := func(as user, subresource string, of *csr, change func(*csr)) error {
		o := of.DeepCopy()
		change(o)
		if subresource == "" {
			return as.Patch(s.ctx, o, client.MergeFrom(of), client.DryRunAll)
		}
		return as.SubResource(subresource).Patch(s.ctx, o, client.MergeFrom(of), &client.SubResourcePatchOptions{PatchOptions: client.PatchOptions{DryRun: []string{metav1.DryRunAll}}})
	}
	annotated := func(key string) func(*csr) {
		return func(o *csr) { o.Annotations = map[string]string{key: "text"} }
	}
	decided := func(o *csr) {
		o.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{
			Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Permitted", Message: "in a dry run",
		}}
	}
	failed := func(o *csr) {
		decided(o)
		o.Status.Conditions[0].Type = certificatesv1.CertificateFailed
	}
	both := func(first, second func(*csr)) func(*csr) {
		return func(o *csr) { first(o); second(o) }
	}
	s.must(patch(approver, "", request, annotated(v1alpha1.AnnotationReview)), "saying what a request asks for")
	s.must(patch(approver, "approval", request, decided), "approving")
	s.must(patch(signer, "status", request, failed), "failing a request")
	renewAt := func(text string) func(*csr) {
		return func(o *csr) { o.Annotations = map[string]string{v1alpha1.AnnotationRenewAt: text} }
	}
	s.must(patch(signer, "status", request, renewAt("2028-02-29T12:34:56Z")), "saying when to renew")
	s.refusedBy(policy, patch(signer, "status", request, renewAt("tomorrow")), "saying when to renew in another form", "renew-at")
	s.refusedBy(policy, patch(approver, "approval", request, both(decided, renewAt("2028-02-29T12:34:56Z"))), "saying when to renew as the approver", "renew-at")
	s.refusedBy(policy, patch(approver, "", foreign, annotated(v1alpha1.AnnotationReview)), "annotating the request of another signerName", "example.org/"+s.name)
	s.isForbidden(patch(signer, "", request, annotated(v1alpha1.AnnotationReview)), "annotating a request as the signer")
	for name, c := range map[string]struct {
		change func(*csr)
		want   string
	}{
		"a label":     {func(o *csr) { o.Labels = map[string]string{"a": "b"} }, "metadata"},
		"a finalizer": {func(o *csr) { o.Finalizers = []string{"example.com/forever"} }, "metadata"},
		"an owner": {func(o *csr) {
			o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "a", UID: "b"}}
		}, "metadata"},
		"another annotation": {annotated("example.com/a"), "certwright.dev/review"},
	} {
		s.refusedBy(policy, patch(approver, "", request, c.change), name+", on the request", c.want)
		s.refusedBy(policy, patch(approver, "approval", request, both(decided, c.change)), name+", when approving", c.want)
		s.refusedBy(policy, patch(signer, "status", request, both(failed, c.change)), name+", when failing", c.want)
	}
	s.refusedBy(policy, patch(approver, "approval", request, annotated(v1alpha1.AnnotationReview)), "its annotation, when approving", "certwright.dev/review")
}

// What a person reads about a request is in the approver's words, and in nobody else's.
func TestNobodyButTheApproverWritesTheReview(t *testing.T) {
	t.Parallel()
	s := tell(t)
	const policy = "certwright-request-review"
	s.makeServiceAccounts("app")
	person, app := s.almighty(s.name+"-person"), s.almighty("system:serviceaccount:"+s.namespace+":app")
	for _, u := range []user{person, app} {
		o, err := s.newRequest(signerName("certwright.dev/e2e"))
		s.must(err, "making a request")
		s.must(u.Create(s.ctx, o.DeepCopy(), client.DryRunAll), "asking without a review as %s", u.name)
		o.Annotations = map[string]string{v1alpha1.AnnotationReview: "harmless"}
		s.refusedBy(policy, u.Create(s.ctx, o, client.DryRunAll), "asking with a review of one's own as "+u.name, "only the approver")
	}
	s.policy(manual, forPeople(person))
	request := s.request(person)
	s.warned(request, "WaitingForApproval")
	s.refresh(request)
	change := func(text string) error {
		changed := request.DeepCopy()
		changed.Annotations[v1alpha1.AnnotationReview] = text
		return person.Patch(s.ctx, changed, client.MergeFrom(request), client.DryRunAll)
	}
	s.must(change(request.Annotations[v1alpha1.AnnotationReview]), "leaving the review alone")
	s.refusedBy(policy, change("harmless"), "changing the review", "only the approver")
}

// tokenSecret would hold a token of another service account, and be filled in by Kubernetes.
func tokenSecret(name, of string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: of}},
		Type:       corev1.SecretTypeServiceAccountToken,
	}
}

// The signer creates Secrets of CAs, and no token of another component.
func TestTheSignerWritesOnlyItsSecretsAndConfigMaps(t *testing.T) {
	t.Parallel()
	s := tell(t)
	const policy = "certwright-signer-writes"
	itself := s.serviceAccount(systemNamespace, signer)
	create := func(o client.Object) error { return itself.Create(s.ctx, o, client.DryRunAll) }
	secret := func(name string, kind corev1.SecretType) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: name}, Type: kind}
	}
	for _, name := range []string{"certwright-ca-", "certwright-acme-", "certwright-acme-order-", "certwright-venafi-"} {
		s.must(create(secret(name+s.name, corev1.SecretTypeOpaque)), "creating Secret %s", name+s.name)
	}
	order, account := secret("certwright-acme-order-"+s.name, ""), secret("certwright-acme-"+s.name+".local", "")
	s.make(order)
	s.make(account)
	s.must(itself.Delete(s.ctx, order, client.DryRunAll), "deleting an order")
	s.refusedBy(policy, itself.Delete(s.ctx, account, client.DryRunAll), "deleting an account", account.Name, "certwright-acme-order-HASH")
	s.refusedBy(policy, create(tokenSecret("certwright-ca-x", approver)), "creating a token of the approver", "kubernetes.io/service-account-token", "Opaque")
	s.refusedBy(policy, create(secret("other", corev1.SecretTypeOpaque)), "creating another Secret", `Secret "other"`, "certwright-ca-*")
	s.refusedBy(policy, create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, GenerateName: "x-"}}), "creating a Secret of no name", "certwright-ca-*")
	tls := secret("certwright-webhook-tls", "")
	s.must(itself.Get(s.ctx, client.ObjectKeyFromObject(tls), tls), "reading the Secret of the webhook")
	tls.Data["tls.key"] = []byte("mine")
	s.refusedBy(policy, itself.Update(s.ctx, tls, client.DryRunAll), "changing the Secret of the webhook", "certwright-webhook-tls")
	s.must(admin.Create(s.ctx, tokenSecret("certwright-ca-x", approver), client.DryRunAll), "creating a token as the administrator")

	config := func(name, prefix string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name, GenerateName: prefix}}
	}
	another := config("app", "")
	s.make(another)
	almighty := s.almightyComponent(signer)
	if err := create(config("certwright-trust", "")); err != nil && !apierrors.IsAlreadyExists(err) {
		s.Errorf("creating the ConfigMap certwright-trust: %v", err)
	}
	s.refusedBy(policy, create(config("other", "")), "creating another ConfigMap", `ConfigMap "other"`, "certwright-trust")
	s.refusedBy(policy, create(config("", "certwright-trust")), "creating a ConfigMap of no name", "certwright-trust")
	s.refusedBy(policy, almighty.Delete(s.ctx, another, client.DryRunAll), "deleting another ConfigMap", `ConfigMap "app"`)
	another.Data = map[string]string{"a": "b"}
	s.refusedBy(policy, almighty.Update(s.ctx, another, client.DryRunAll), "changing another ConfigMap", `ConfigMap "app"`)
}

// The signer makes routes that lead challenges to its solver, in its own namespace, and no others.
func TestTheSignerMakesOnlyRoutesOfChallenges(t *testing.T) {
	t.Parallel()
	s := tell(t)
	const policy = "certwright-signer-routes"
	itself, almighty := s.serviceAccount(systemNamespace, signer), s.almightyComponent(signer)
	ingress := func(namespace, name, path, service string) *networkingv1.Ingress {
		o := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		o.Spec.Rules = []networkingv1.IngressRule{{Host: "www.example.com", IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: path, PathType: ptr.To(networkingv1.PathTypeExact), Backend: networkingv1.IngressBackend{
					Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Number: 80}},
				},
			}}},
		}}}
		return o
	}
	const name, path, solver = "certwright-acme-e2e", "/.well-known/acme-challenge/token", "certwright-acme-solver"
	create := func(as user, o client.Object) error { return as.Create(s.ctx, o, client.DryRunAll) }
	s.must(create(itself, ingress(systemNamespace, name, path, solver)), "creating the route of a challenge")
	s.refusedBy(policy, create(itself, ingress(systemNamespace, "www", path, solver)), "a route of another name", "certwright-acme-*")
	s.refusedBy(policy, create(itself, ingress(systemNamespace, name, "/", solver)), "a route of another path", "/.well-known/acme-challenge/")
	s.refusedBy(policy, create(itself, ingress(systemNamespace, name, path, "web")), "a route to another Service", solver)
	s.isForbidden(create(itself, ingress(s.namespace, name, path, solver)), "creating a route in another namespace")
	s.refusedBy(policy, create(almighty, ingress(s.namespace, name, path, solver)), "a route in another namespace", s.namespace, systemNamespace)
	s.must(admin.Create(s.ctx, ingress(s.namespace, "www", "/", "web"), client.DryRunAll), "creating a route as somebody else")

	another := ingress(systemNamespace, s.name, "/", "web")
	s.make(another)
	s.refusedBy(policy, itself.Delete(s.ctx, another, client.DryRunAll), "deleting the route of another", s.name)
}

// The signer publishes the bundles of its signerNames under one name each, and takes away no others.
func TestTheSignerWritesOnlyItsTrustBundles(t *testing.T) {
	t.Parallel()
	s := tell(t)
	if _, err := newTrustBundle(); err != nil {
		s.contains("a cluster without ClusterTrustBundles", err.Error(), "no matches")
		return
	}
	const policy = "certwright-signer-writes"
	itself := s.serviceAccount(systemNamespace, signer)
	bundle := func(signerName, name string) client.Object {
		o, err := newTrustBundle()
		s.must(err, "making a bundle")
		o.SetName(name)
		spec := map[string]any{"trustBundle": string(s.newCA(nil).crt)}
		if signerName != "" {
			spec["signerName"] = signerName
		}
		o.Object["spec"] = spec
		return o
	}
	create := func(signerName, name string) error {
		return itself.Create(s.ctx, bundle(signerName, name), client.DryRunAll)
	}
	s.must(create(s.signerName, "certwright.dev:"+s.name+":certwright"), "publishing a bundle")
	s.refusedBy(policy, create(s.signerName, "certwright.dev:"+s.name+":other"), "publishing under another name", "DOMAIN:NAME:certwright")
	s.refusedBy(policy, create("", s.name), "publishing a bundle of no signerName", "DOMAIN:NAME:certwright")
	s.isForbidden(create("example.org/e2e", "example.org:e2e:certwright"), "publishing a bundle of another signerName")

	remove := func(signerName, name string) error {
		o := bundle(signerName, name)
		s.make(o)
		return itself.Delete(s.ctx, o, client.DryRunAll)
	}
	s.must(remove(s.signerName+"x", "certwright.dev:"+s.name+"x:certwright"), "withdrawing a bundle")
	s.refusedBy(policy, remove(s.signerName, "certwright.dev:"+s.name+":other"), "deleting a bundle of another name", "DOMAIN:NAME:certwright")
	s.refusedBy(policy, remove("", s.name), "deleting a bundle of no signerName", s.name)
	s.refusedBy(policy, remove("example.org/"+s.name, "example.org:"+s.name+":certwright"), "deleting the bundle of another signerName", "may attest")
}

// The webhook changes its serving certificate and the CA that vouches for it, and nothing of what is sent to it.
func TestTheWebhookWritesOnlyItsCertificateAndItsCA(t *testing.T) {
	t.Parallel()
	s := tell(t)
	const policy = "certwright-webhook-writes"
	itself, almighty := s.serviceAccount(systemNamespace, webhook), s.almightyComponent(webhook)
	tls := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "certwright-webhook-tls"}}
	s.refresh(tls)
	tls.Data["ca.crt"] = s.newCA(nil).crt
	s.must(itself.Update(s.ctx, tls, client.DryRunAll), "writing the serving certificate")
	s.isForbidden(itself.Create(s.ctx, tokenSecret("e2e-token", signer), client.DryRunAll), "creating a Secret as the webhook")
	s.refusedBy(policy, almighty.Create(s.ctx, tokenSecret("e2e-token", signer), client.DryRunAll), "creating a token of the signer", "certwright-webhook-tls")
	ca := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: s.name}}
	s.make(ca)
	s.refusedBy(policy, almighty.Update(s.ctx, ca, client.DryRunAll), "changing another Secret", "certwright-webhook-tls")

	type config = admissionregistrationv1.MutatingWebhookConfiguration
	change := func(change func(*config)) error {
		o := &config{ObjectMeta: metav1.ObjectMeta{Name: webhook}}
		s.must(itself.Get(s.ctx, client.ObjectKeyFromObject(o), o), "reading the configuration")
		before := o.DeepCopy()
		change(o)
		return itself.Patch(s.ctx, o, client.MergeFrom(before), client.DryRunAll)
	}
	s.must(change(func(o *config) { o.Webhooks[0].ClientConfig.CABundle = s.newCA(nil).crt }), "writing caBundle")
	hook := func(change func(*admissionregistrationv1.MutatingWebhook)) func(*config) {
		return func(o *config) { change(&o.Webhooks[0]) }
	}
	ignore, url := admissionregistrationv1.Ignore, "https://example.com/"
	for name, c := range map[string]struct {
		change func(*config)
		want   string
	}{
		"one more webhook": {func(o *config) {
			more := o.Webhooks[0].DeepCopy()
			more.Name = "more.certwright.dev"
			o.Webhooks = append(o.Webhooks, *more)
		}, "webhooks differ"},
		"no webhook":      {func(o *config) { o.Webhooks = nil }, "webhooks differ"},
		"another name":    {hook(func(w *admissionregistrationv1.MutatingWebhook) { w.Name = "x.certwright.dev" }), "webhooks differ"},
		"all pods":        {hook(func(w *admissionregistrationv1.MutatingWebhook) { w.MatchConditions = nil }), "webhooks differ"},
		"Secrets as well": {hook(func(w *admissionregistrationv1.MutatingWebhook) { w.Rules[0].Resources = []string{"pods", "secrets"} }), "webhooks differ"},
		"all namespaces":  {hook(func(w *admissionregistrationv1.MutatingWebhook) { w.NamespaceSelector = nil }), "webhooks differ"},
		"Ignore":          {hook(func(w *admissionregistrationv1.MutatingWebhook) { w.FailurePolicy = &ignore }), "webhooks differ"},
		"another Service": {hook(func(w *admissionregistrationv1.MutatingWebhook) { w.ClientConfig.Service.Name = "x" }), "webhooks differ"},
		"a URL": {hook(func(w *admissionregistrationv1.MutatingWebhook) {
			w.ClientConfig.Service, w.ClientConfig.URL = nil, &url
		}), "webhooks differ"},
		"an annotation":       {func(o *config) { o.Annotations = map[string]string{"a": "b"} }, "metadata differs"},
		"one label less":      {func(o *config) { delete(o.Labels, "app.kubernetes.io/part-of") }, "metadata differs"},
		"caBundle and a rule": {hook(func(w *admissionregistrationv1.MutatingWebhook) { w.ClientConfig.CABundle, w.Rules = nil, nil }), "webhooks differ"},
	} {
		s.refusedBy(policy, change(c.change), name, "caBundle", c.want)
	}
	other := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: s.name}}
	s.refusedBy(policy, almighty.Create(s.ctx, other, client.DryRunAll), "creating another configuration", "but its own")
	installed := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhook}}
	s.refusedBy(policy, almighty.Delete(s.ctx, installed, client.DryRunAll), "deleting the configuration", "but its own")
	s.refresh(installed)
	before := installed.DeepCopy()
	for i := range installed.Webhooks {
		installed.Webhooks[i].ClientConfig.CABundle = s.newCA(nil).crt
	}
	s.must(itself.Patch(s.ctx, installed, client.MergeFrom(before), client.DryRunAll), "writing caBundle of the validating webhooks")
}
