// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"strings"
	"testing"
)

func TestParseTemplate(t *testing.T) {
	const twoWays = "can be read in two ways"
	for name, c := range map[string]struct {
		text string
		dns  inDNSName
		want string // part of the error; none if it is good
	}{
		"empty":                         {"", never, ""},
		"literal":                       {"a.example.com", always, ""},
		"all placeholders":              {"{pod}.{hostname}.{service}.{serviceAccount}.{namespace}.{trustDomain}.{clusterDomain}", always, ""},
		"unknown":                       {"{svc}.x", always, "unknown placeholder {svc}: known are {namespace}, {serviceAccount}, {pod}, {hostname}, {service}, {trustDomain}, {clusterDomain}"},
		"no name":                       {"{}", always, "unknown placeholder {}"},
		"other case":                    {"{Namespace}", always, "unknown placeholder {Namespace}"},
		"space":                         {"{ namespace}", always, "unknown placeholder { namespace}"},
		"not closed":                    {"{namespace", always, "a brace without its pair"},
		"not opened":                    {"namespace}", always, "a brace without its pair"},
		"closed before it is opened":    {"}x{namespace}", always, "a brace without its pair"},
		"one in another":                {"{a{namespace}}", always, "unknown placeholder {a{namespace}"},
		"closed twice":                  {"{namespace}}", always, "a brace without its pair"},
		"hostname alone":                {"{hostname}.{namespace}.svc", always, "{hostname} without {service}"},
		"nothing between":               {"{namespace}{serviceAccount}", never, twoWays},
		"hyphen between":                {"{serviceAccount}-{namespace}.example.com", always, "{serviceAccount} and {namespace} " + twoWays},
		"letters between":               {"{serviceAccount}-in-{namespace}.example.com", always, twoWays},
		"cluster domain between":        {"{service}{clusterDomain}{namespace}", always, twoWays},
		"dot between":                   {"{serviceAccount}.in.{namespace}", always, ""},
		"dot, then hyphen":              {"{service}.{namespace}-{pod}", always, "{namespace} and {pod} " + twoWays},
		"dot after a hyphen":            {"{service}-x.{namespace}", always, ""},
		"dot between dotted":            {"{pod}.{serviceAccount}", never, twoWays},
		"dots between dotted":           {"{pod}.{namespace}.{serviceAccount}", never, twoWays},
		"dot between dotted in a name":  {"{pod}.{serviceAccount}.svc", always, ""},
		"dot after dotted":              {"{serviceAccount}.{namespace}", never, ""},
		"slash between":                 {"spiffe://{trustDomain}/{namespace}/{serviceAccount}/{pod}", inHost, ""},
		"colon between":                 {"{namespace}:{serviceAccount}:{pod}", never, ""},
		"underscore between":            {"{serviceAccount}_{pod}", never, ""},
		"hyphen in a segment":           {"spiffe://x/{namespace}-{serviceAccount}", inHost, twoWays},
		"hyphen after a slash":          {"spiffe://x/{namespace}/{service}-{serviceAccount}", inHost, twoWays},
		"dotted in a host":              {"https://{pod}.{serviceAccount}/", inHost, ""},
		"dotted in a path":              {"https://x/{pod}.{serviceAccount}", inHost, twoWays},
		"dotted before the @":           {"{pod}.{serviceAccount}@example.com", inDomain, twoWays},
		"dotted behind the @":           {"ops@{pod}.{serviceAccount}.example.com", inDomain, ""},
		"trust domain next to anything": {"{trustDomain}-{namespace}", never, ""},
	} {
		t.Run(name, func(t *testing.T) {
			parsed, err := parseTemplate(c.text, c.dns)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want == "" && parsed.text != c.text:
				t.Errorf("text is %q", parsed.text)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestSaneValues(t *testing.T) {
	for value, want := range map[string]bool{
		"web": true, "web-0": true, "a.b": true, "A_b": true, "": false,
		"*": false, "a*": false, "a/b": false, "{pod}": false, "a@b": false, "a%2fb": false, "a b": false, "a:b": false,
		"a?b": false, "a#b": false, `a\b`: false, "a\x00": false, "\u212aey": false,
	} {
		_, got := Values{"x": value}.Sane()["x"]
		if got != want {
			t.Errorf("%q is sane: %v, want %v", value, got, want)
		}
	}
}
