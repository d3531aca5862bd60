// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/certwright/certwright/api/v1alpha1"
	"github.com/certwright/certwright/signer/remote"
)

// segment is one part of a path. What is not in it could lead to another path than the one that is written: a slash, a dot
// alone or twice, a percent sign, a question mark.
var segment = regexp.MustCompile(`^[A-Za-z0-9_@-][A-Za-z0-9_.@-]*$`)

// withDefaults checks the configuration and fills in what may be left out. The error names the field.
func withDefaults(v v1alpha1.Vault) (v1alpha1.Vault, error) {
	v.Path = cmp.Or(v.Path, "pki")
	v.Namespace = strings.Trim(v.Namespace, "/")
	if err := errors.Join(checkPath(v.Path, "path"), checkName(v.Role, "role")); err != nil {
		return v, err
	}
	if v.Namespace != "" {
		if err := checkPath(v.Namespace, "namespace"); err != nil {
			return v, err
		}
	}
	var err error
	v.Auth, err = authWithDefaults(v.Auth)
	return v, err
}

func authWithDefaults(a v1alpha1.VaultAuth) (v1alpha1.VaultAuth, error) {
	methods := 0
	var errs []error
	if k := a.Kubernetes; k != nil {
		methods++
		k = k.DeepCopy()
		k.Path, k.Audience = cmp.Or(k.Path, "kubernetes"), cmp.Or(k.Audience, "vault")
		errs = append(errs, checkPath(k.Path, "auth.kubernetes.path"), checkName(k.Role, "auth.kubernetes.role"), checkName(k.Audience, "auth.kubernetes.audience"))
		a.Kubernetes = k
	}
	if r := a.AppRole; r != nil {
		methods++
		r = r.DeepCopy()
		r.Path = cmp.Or(r.Path, "approle")
		errs = append(errs, checkPath(r.Path, "auth.appRole.path"), remote.CheckRef(r.SecretIDRef, "vault.auth.appRole.secretIDRef"))
		if r.RoleID == "" {
			errs = append(errs, errors.New("vault.auth.appRole.roleID: is empty: it must be the role's ID, which role/NAME/role-id of the auth method tells"))
		}
		a.AppRole = r
	}
	if c := a.Certificate; c != nil {
		methods++
		c = c.DeepCopy()
		c.Path = cmp.Or(c.Path, "cert")
		errs = append(errs, checkPath(c.Path, "auth.certificate.path"))
		if c.Role != "" {
			errs = append(errs, checkName(c.Role, "auth.certificate.role"))
		}
		errs = append(errs, remote.CheckSecret(c.SecretRef, "vault.auth.certificate.secretRef"))
		a.Certificate = c
	}
	if t := a.TokenSecretRef; t != nil {
		methods++
		errs = append(errs, remote.CheckRef(*t, "vault.auth.tokenSecretRef"))
	}
	if methods != 1 {
		return a, fmt.Errorf("vault.auth: %d methods are set: exactly one must be: kubernetes, appRole, certificate or tokenSecretRef", methods)
	}
	return a, errors.Join(errs...)
}

// checkPath refuses what could leave the path that is written.
func checkPath(path, field string) error {
	for part := range strings.SplitSeq(path, "/") {
		if !segment.MatchString(part) {
			return fmt.Errorf("vault.%s: %q is no plain path: it must be NAME or NAME/NAME, of letters, digits, - _ . and @, and no name may begin with a dot", field, path)
		}
	}
	return nil
}

func checkName(name, field string) error {
	if !segment.MatchString(name) {
		return fmt.Errorf("vault.%s: %q is no plain name: it must be of letters, digits, - _ . and @, and not begin with a dot", field, name)
	}
	return nil
}
