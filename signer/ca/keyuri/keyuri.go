// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package keyuri reads the URIs that name private keys outside Kubernetes: in a PKCS #11 token (RFC 7512), or in the KMS of
// Amazon, Google or Microsoft. It is strict: what it does not know is refused rather than ignored, and a secret in a URI, which
// everybody who reads Signers would see, is never taken and never repeated in an error.
package keyuri

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// URI is a *PKCS11, *AWSKMS, *CloudKMS or *AzureKMS. String gives it in one form, whatever form it was read from.
type URI interface{ String() string }

// AWSKMS names a key in AWS KMS.
type AWSKMS struct {
	// Region, such as eu-north-1. Empty: that of the process's environment.
	Region string
	// KeyID is the key's id or ARN, or the name or ARN of an alias.
	KeyID string
}

// CloudKMS names a version of a key in Google Cloud KMS.
type CloudKMS struct {
	// Version is projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/V.
	Version string
}

// AzureKMS names a key in Azure Key Vault.
type AzureKMS struct {
	Vault, Name string
	// Version of the key. It must be set, as a new version is another key, which the CA certificate is not for.
	Version string
	// Environment is public, usgov, china or german. Empty: public.
	Environment string
}

var (
	awsRegion  = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)
	awsKey     = regexp.MustCompile(`^(arn:[a-z0-9-]+:kms:[a-z0-9-]+:[0-9]{12}:)?((key/)?[a-z0-9-]{1,64}|alias/[a-z0-9/_-]{1,250})$`)
	cloudKey   = regexp.MustCompile(`^projects/[a-z0-9:.-]{1,80}/locations/[a-zA-Z0-9_-]{1,63}/keyRings/[a-zA-Z0-9_-]{1,63}/cryptoKeys/[a-zA-Z0-9_-]{1,63}/cryptoKeyVersions/[0-9]{1,10}$`)
	azureVault = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]$`)
	azureName  = regexp.MustCompile(`^[a-zA-Z0-9-]{1,127}$`)
	azureKey   = regexp.MustCompile(`^[a-f0-9]{32}$`)
)

// Parse reads a URI. The error says what is allowed.
func Parse(raw string) (URI, error) {
	for i := range len(raw) {
		if raw[i] <= ' ' || raw[i] > '~' {
			return nil, fmt.Errorf("the byte %#02x at position %d must be percent-encoded", raw[i], i+1)
		}
	}
	scheme, rest, _ := strings.Cut(raw, ":")
	switch scheme {
	case "pkcs11":
		return parsePKCS11(rest)
	case "awskms":
		return parseAWS(rest)
	case "cloudkms":
		if !cloudKey.MatchString(rest) {
			return nil, errors.New("cloudkms: the rest must be projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY/cryptoKeyVersions/NUMBER")
		}
		return &CloudKMS{Version: rest}, nil
	case "azurekms":
		return parseAzure(rest)
	}
	return nil, errors.New("the scheme must be pkcs11, awskms, cloudkms or azurekms")
}

func parseAWS(rest string) (URI, error) {
	a, err := attributes(rest, ";", "key-id", "region")
	if err != nil {
		return nil, fmt.Errorf("awskms: %w", err)
	}
	u := &AWSKMS{Region: a["region"], KeyID: a["key-id"]}
	switch {
	case u.Region != "" && !awsRegion.MatchString(u.Region):
		return nil, fmt.Errorf("awskms: region %q is not one such as eu-north-1", u.Region)
	case !awsKey.MatchString(u.KeyID):
		return nil, fmt.Errorf("awskms: key-id %q must be a key's id or ARN, or alias/NAME, in lower case", u.KeyID)
	}
	return u, nil
}

func parseAzure(rest string) (URI, error) {
	path, query, _ := strings.Cut(rest, "?")
	a, err := attributes(path, ";", "vault", "name", "environment", "version")
	if err != nil {
		return nil, fmt.Errorf("azurekms: %w", err)
	}
	if query != "" {
		q, err := attributes(query, "&", "version")
		if err != nil || a["version"] != "" {
			return nil, errors.New("azurekms: behind the question mark there may only be one version, and no other before it")
		}
		a["version"] = q["version"]
	}
	u := &AzureKMS{Vault: a["vault"], Name: a["name"], Version: a["version"], Environment: a["environment"]}
	switch {
	case !azureVault.MatchString(u.Vault):
		return nil, fmt.Errorf("azurekms: vault %q must be the name of a key vault", u.Vault)
	case !azureName.MatchString(u.Name):
		return nil, fmt.Errorf("azurekms: name %q must be the name of a key", u.Name)
	case !azureKey.MatchString(u.Version):
		return nil, fmt.Errorf("azurekms: version %q must be the version of the key that the CA certificate is for, 32 hexadecimal digits", u.Version)
	case u.Environment != "" && !slices.Contains([]string{"public", "usgov", "china", "german"}, u.Environment):
		return nil, fmt.Errorf("azurekms: environment %q must be public, usgov, china or german", u.Environment)
	}
	return u, nil
}

// attributes reads name=value pairs with percent-encoded values. The error never repeats a value, which may be a secret.
func attributes(text, separator string, allowed ...string) (map[string]string, error) {
	read := map[string]string{}
	if text == "" {
		return read, nil
	}
	for pair := range strings.SplitSeq(text, separator) {
		name, encoded, found := strings.Cut(pair, "=")
		if !found {
			return nil, fmt.Errorf("attributes must be of the form name=value, with %q between them", separator)
		}
		if strings.HasPrefix(name, "pin-") || strings.Contains(name, "secret") || strings.Contains(name, "credential") {
			return nil, errors.New("a PIN or other credential does not belong into the URI, which everybody who may read Signers sees: use pinRef for a PIN, and the pod's own identity in a cloud")
		}
		if !slices.Contains(allowed, name) {
			return nil, fmt.Errorf("attribute %q is not one of %s", name, strings.Join(allowed, ", "))
		}
		if _, twice := read[name]; twice {
			return nil, fmt.Errorf("attribute %q is there twice", name)
		}
		value, err := url.PathUnescape(encoded)
		if err != nil || value == "" {
			return nil, fmt.Errorf("attribute %q must have a value, percent-encoded where it is not plain", name)
		}
		read[name] = value
	}
	return read, nil
}

func (u *AWSKMS) String() string {
	if u.Region == "" {
		return "awskms:key-id=" + u.KeyID
	}
	return "awskms:region=" + u.Region + ";key-id=" + u.KeyID
}

func (u *CloudKMS) String() string { return "cloudkms:" + u.Version }

func (u *AzureKMS) String() string {
	s := "azurekms:vault=" + u.Vault + ";name=" + u.Name
	if u.Environment != "" {
		s += ";environment=" + u.Environment
	}
	return s + "?version=" + u.Version
}
