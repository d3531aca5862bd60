// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"strings"
)

// removeRules removes the packet filter rules and chains that kube-proxy, the kubelet and Up made.
func removeRules(ctx context.Context) error {
	var errs []error
	for _, family := range []string{"iptables", "ip6tables"} {
		if _, err := exec.LookPath(family + "-save"); err != nil {
			continue // Without the program, nobody made rules.
		}
		saved, err := run(ctx, "", family+"-save")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if input := removal(saved); input != "" {
			_, err := run(ctx, input, family+"-restore", "-w", "--noflush")
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// jump finds the chain that a rule sends packets to.
var jump = regexp.MustCompile(` -[jg] (\S+)`)

// removal returns the input for iptables-restore that removes our rules from what iptables-save printed, and nothing
// else: the chains named KUBE-*, the rules that lead to them, and the rules with our comment. It is empty if there are none.
func removal(saved string) string {
	var out strings.Builder
	var table string
	var flush, rules, remove []string
	for line := range strings.Lines(saved) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			table, flush, rules, remove = line, nil, nil, nil
		case strings.HasPrefix(line, ":"):
			if chain, _, _ := strings.Cut(line[1:], " "); ours(chain) {
				// Naming a chain empties it, so that no rule in it keeps another one from going.
				flush = append(flush, ":"+chain+" - [0:0]")
				remove = append(remove, "-X "+chain)
			}
		case strings.HasPrefix(line, "-A "):
			chain, rule, _ := strings.Cut(line[len("-A "):], " ")
			target := jump.FindStringSubmatch(line)
			if !ours(chain) && (target != nil && ours(target[1]) || strings.Contains(rule, "--comment "+comment+" ")) {
				rules = append(rules, "-D "+chain+" "+rule)
			}
		case line == "COMMIT" && len(flush)+len(rules) > 0:
			for _, part := range [][]string{{table}, flush, rules, remove, {line}} {
				for _, line := range part {
					out.WriteString(line + "\n")
				}
			}
		}
	}
	return out.String()
}

// ours says whether a chain is one of kube-proxy's or the kubelet's.
func ours(chain string) bool {
	return strings.HasPrefix(chain, "KUBE-")
}
