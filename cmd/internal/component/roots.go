// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package component

// The public roots, for servers with no caBundle of their own. The image has no files of them; those of a system that has
// some, or that SSL_CERT_FILE and SSL_CERT_DIR name, are taken instead.
import _ "golang.org/x/crypto/x509roots/fallback"
