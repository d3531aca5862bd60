// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bind9 runs BIND's name server (Debian: bind9) on loopback, for tests of what talks to a DNS server.
package bind9

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/certwright/certwright/hack/servers"
)

const (
	program  = "/usr/sbin/named"
	loopback = "127.0.0.1"
)

// Key is a TSIG key that a server knows.
type Key struct{ Name, Algorithm, Secret string }

// Zone is a zone that a server has.
type Zone struct {
	// Name, with a dot at the end.
	Name string
	// Records, one a line, in the form of a zone file. If empty, the zone has one name server, ns1, at the server's own address.
	Records string
	// Options of the zone, such as "allow-update { key k; };".
	Options string
	// Primary, as an address, is where a secondary gets the zone from.
	Primary string
}

// Config describes a server.
type Config struct {
	// IP of loopback and Port that the server is reached at. Default: 127.0.0.1, and a free port.
	IP   string
	Port int
	Keys []Key
	// Options are added to BIND's options, such as "recursion yes;".
	Options string
	Zones   []Zone
}

// Server is a name server that runs until the test ends.
type Server struct {
	*servers.Process
	IP   string
	Port int
}

// Address of the server, as HOST:PORT.
func (s *Server) Address() string { return net.JoinHostPort(s.IP, strconv.Itoa(s.Port)) }

// Start starts a server, waits until it has loaded its zones, and stops it when the test ends.
func Start(t testing.TB, config Config) *Server {
	t.Helper()
	if config.IP == "" {
		config.IP = loopback
	}
	if config.Port == 0 {
		config.Port = Port(t)
	}
	port := config.Port
	if config.IP != loopback { // BIND listens only where an interface has an address
		port = Port(t)
		relay(t, net.JoinHostPort(config.IP, strconv.Itoa(config.Port)), net.JoinHostPort(loopback, strconv.Itoa(port)))
	}
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, `options { directory %q; listen-on port %d { %s; }; listen-on-v6 { none; }; pid-file none; session-keyfile none;
  dnssec-validation no; notify no; recursion no; empty-zones-enable no; allow-transfer { any; }; min-refresh-time 1; %s };
controls { };
`, dir, port, loopback, config.Options)
	for _, k := range config.Keys {
		fmt.Fprintf(&conf, "key %q { algorithm %s; secret %q; };\n", k.Name, k.Algorithm, k.Secret)
	}
	for i, z := range config.Zones {
		file := fmt.Sprintf("zone%d", i)
		kind := "primary"
		if z.Primary != "" {
			kind = fmt.Sprintf("secondary; primaries port %d { %s; }", config.Port, z.Primary)
		} else {
			write(file, zoneFile(z, config.IP))
		}
		fmt.Fprintf(&conf, "zone %q { type %s; file %q; %s };\n", z.Name, kind, file, z.Options)
	}
	write("named.conf", conf.String())
	// It logs "running" when the zones are loaded, and a secondary when it has got its zone.
	process := servers.Start(t, servers.Spec{
		Path: program, Args: []string{"-g", "-4", "-n", "1", "-c", filepath.Join(dir, "named.conf")}, Dir: dir,
		ReadyLine: func(line string) bool { return strings.HasSuffix(line, " running") },
	})
	return &Server{Process: process, IP: config.IP, Port: config.Port}
}

// relay passes what comes to one address on to a server at another one, and its answers back. What is not answered there is
// not answered here.
func relay(t testing.TB, from, to string) {
	t.Helper()
	udp, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", from)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	pass := func(network string) dns.HandlerFunc {
		return func(w dns.ResponseWriter, q *dns.Msg) {
			if answer, _, err := (&dns.Client{Net: network}).Exchange(q, to); err == nil {
				_ = w.WriteMsg(answer) // who asked may be gone
			}
		}
	}
	var running sync.WaitGroup
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: pass("udp")}, {Listener: tcp, Handler: pass("tcp")}} {
		s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
		running.Go(func() { _ = s.ActivateAndServe() }) // it ends with an error when its socket is closed
	}
	t.Cleanup(func() {
		_, _ = udp.Close(), tcp.Close()
		running.Wait()
	})
}

// Port returns a free port of loopback.
func Port(t testing.TB) int {
	t.Helper()
	_, port, err := net.SplitHostPort(servers.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func zoneFile(z Zone, ip string) string {
	records := z.Records
	if records == "" {
		records = "@ NS ns1\nns1 A " + ip
	}
	return fmt.Sprintf("$ORIGIN %s\n$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 1\n%s\n", z.Name, records)
}
