// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/certwright/certwright/gate"
	"github.com/certwright/certwright/terminal"
)

// prompt asks a person before something is written.
type prompt struct {
	in  *bufio.Reader
	out io.Writer
	// ask is true where somebody can be asked: at a terminal.
	ask bool
	// yes goes on without asking.
	yes bool
}

func (c *cli) prompt(yes bool) *prompt {
	return &prompt{in: bufio.NewReader(c.In), out: c.Out, ask: terminal.IsTerminal(c.In) && terminal.IsTerminal(c.Out), yes: yes}
}

// confirm wants a yes.
func (p *prompt) confirm(question string) error {
	return p.answer(question+" [y/N] ", func(answer string) bool {
		answer = strings.ToLower(answer)
		return answer == "y" || answer == "yes"
	})
}

// typed wants a word typed in full.
func (p *prompt) typed(question, word string) error {
	return p.answer(question+" ", func(answer string) bool { return answer == word })
}

func (p *prompt) answer(question string, good func(string) bool) error {
	if p.yes {
		return nil
	}
	if !p.ask {
		return fmt.Errorf("%w: there is no terminal to ask at, say --yes to go on without being asked", gate.ErrDeclined)
	}
	fmt.Fprint(p.out, question)
	answer, err := p.in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !good(strings.TrimSpace(answer)) {
		return gate.ErrDeclined
	}
	return nil
}
