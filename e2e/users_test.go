// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// user is somebody at the API server, with the rights that this user has and no others.
type user struct {
	client.Client
	name   string
	config *rest.Config
}

// Rights of people.
var (
	mayRequest = rbacv1.PolicyRule{
		APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests"}, Verbs: []string{"create", "get"},
	}
	mayWriteApproval = rbacv1.PolicyRule{
		APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests", "certificatesigningrequests/approval"},
		Verbs: []string{"get", "update"},
	}
)

func mayApprove(signerName string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{
		APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"signers"}, ResourceNames: []string{signerName}, Verbs: []string{"approve"},
	}
}

// requester is a person who may ask for certificates.
func (s *story) requester() user {
	s.Helper()
	return s.person("requester", mayRequest)
}

// approver is a person who may approve and deny what the story's signerName is asked for.
func (s *story) approver() user {
	s.Helper()
	return s.person("approver", mayWriteApproval, mayApprove(s.signerName))
}

// person is a user with these rights.
func (s *story) person(name string, rules ...rbacv1.PolicyRule) user {
	s.Helper()
	name = s.name + "-" + name
	return s.personOf([]string{"system:authenticated"}, name, rules...)
}

// personOf is a user with these groups and rights, of which one is to read requests.
func (s *story) personOf(groups []string, name string, rules ...rbacv1.PolicyRule) user {
	s.Helper()
	s.grant(rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}, rules...)
	u := s.impersonate(rest.ImpersonationConfig{UserName: name, Groups: groups})
	s.until("the rights of "+name, soon, func(ctx context.Context) error {
		return client.IgnoreNotFound(u.Get(ctx, client.ObjectKey{Name: "none"}, newCSR()))
	})
	return u
}

// impersonate acts as somebody whom the API server takes the administrator's word for.
func (s *story) impersonate(as rest.ImpersonationConfig) user {
	s.Helper()
	config := rest.CopyConfig(adminConfig)
	config.Impersonate = as
	return s.login(config, as.UserName)
}

// podUser is the pod's service account with a token that is bound to the pod, as the pod's own containers have.
func (s *story) podUser(pod *corev1.Pod) user {
	s.Helper()
	return s.tokenUser(pod.Namespace, pod.Spec.ServiceAccountName, &authenticationv1.BoundObjectReference{
		APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
	})
}

// serviceAccount is a service account with a token of its own, bound to no pod.
func (s *story) serviceAccount(namespace, name string) user {
	s.Helper()
	return s.tokenUser(namespace, name, nil)
}

func (s *story) tokenUser(namespace, name string, bound *authenticationv1.BoundObjectReference) user {
	s.Helper()
	seconds := int64(1800)
	token, err := kube.CoreV1().ServiceAccounts(namespace).CreateToken(s.ctx, name, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound, ExpirationSeconds: &seconds},
	}, metav1.CreateOptions{})
	s.must(err, "getting a token of service account %s/%s", namespace, name)
	config := rest.AnonymousClientConfig(adminConfig)
	config.BearerToken = token.Status.Token
	return s.login(config, "system:serviceaccount:"+namespace+":"+name)
}

func (s *story) login(config *rest.Config, name string) user {
	s.Helper()
	config.QPS = -1
	c, err := client.New(config, client.Options{Scheme: scheme, Mapper: admin.RESTMapper()})
	s.must(err, "logging in as %s", name)
	return user{Client: c, name: name, config: config}
}
