#!/bin/sh
# Copyright The Certwright Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Makes the requests in this folder anew, with OpenSSL 3. The keys are thrown away.
set -eu
cd "$(dirname "$0")"
key=$(mktemp)
conf=$(mktemp)
trap 'rm -f "$key" "$conf"' EXIT

cat >"$conf" <<'EOF'
[req]
prompt = no
distinguished_name = name
string_mask = utf8only
[name]
C = DE
1.O = example:b
2.O = example:a
CN = web.example.com
[names]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:web.example.com, DNS:*.web.example.com, IP:192.0.2.7, IP:2001:db8::7, URI:spiffe://example.com/web, email:ops@example.com
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[pathlen]
basicConstraints = critical, CA:TRUE, pathlen:0
[unknown]
subjectKeyIdentifier = hash
[othername]
subjectAltName = otherName:1.3.6.1.4.1.311.20.2.3;UTF8:admin@example.com
[dirname]
subjectAltName = dirName:name
[rid]
subjectAltName = RID:1.2.3.4
EOF

request() { # file, then arguments of openssl req
	out=$1
	shift
	openssl req -new -config "$conf" -key "$key" -out "$out" "$@"
}

openssl ecparam -name prime256v1 -genkey -noout -out "$key"
request all-names.pem -reqexts names
request ca.pem -reqexts ca
request pathlen.pem -reqexts pathlen
request unknown-extension.pem -reqexts unknown
request othername.pem -reqexts othername
request directoryname.pem -reqexts dirname
request registeredid.pem -reqexts rid
request sha1.pem -sha1
request multivalued.pem -subj "/O=example+CN=web.example.com"
sed 's/^prompt = no/&\nattributes = challenge/; $a [challenge]\nchallengePassword = secret-word' "$conf" >"$conf.2"
openssl req -new -config "$conf.2" -key "$key" -out challenge-password.pem
sed 's/utf8only/MASK:0x800/' "$conf" >"$conf.2" # BMPString alone
openssl req -new -config "$conf.2" -key "$key" -out bmpstring.pem
rm -f "$conf.2"

openssl genrsa -out "$key" 2048 2>/dev/null
request rsa-pss.pem -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -sha384
request rsa-pss-long-salt.pem -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:64 -sha256
request md5.pem -md5
openssl genrsa -out "$key" 8192 2>/dev/null
request rsa-8192.pem
openssl genrsa -out "$key" 1024 2>/dev/null
request rsa-1024.pem
openssl genrsa -3 -out "$key" 2048 2>/dev/null
request rsa-exponent-3.pem
openssl ecparam -name secp224r1 -genkey -noout -out "$key"
request p224.pem
openssl dsaparam -genkey -out "$key" 2048 2>/dev/null
request dsa.pem
