// Copyright The Certwright Authors.
// SPDX-License-Identifier: Apache-2.0

package faultproxy

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"
)

// Fault is what happens to requests on their way to the server, which next is.
type Fault func(next http.Handler) http.Handler

// Only has the fault happen to some requests, and lets the others pass.
func Only(some func(*http.Request) bool, f Fault) Fault {
	return func(next http.Handler) http.Handler {
		broken := f(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if some(r) {
				broken.ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Hang takes requests and never answers.
func Hang(http.Handler) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the client goes away
		<-r.Context().Done()
	})
}

// Slow lets each request wait before it passes.
func Slow(d time.Duration) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(d):
				next.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
		})
	}
}

// Answer answers in place of the server.
func Answer(status int, header http.Header, body string) Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for name, values := range header {
				w.Header()[name] = values
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
}

// Endless answers with a body of JSON that is larger than anyone should read: a string of the given size.
func Endless(size int64) Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, err := io.WriteString(w, `{"data":"`)
			for block := bytes.Repeat([]byte{'a'}, 1<<16); err == nil && size > 0; size -= int64(len(block)) {
				_, err = w.Write(block)
			}
		})
	}
}

// Cut sends the first half of what the server answers, and closes the connection.
func Cut(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		real := ask(next, r)
		send(w, real, real.Body.Bytes()[:real.Body.Len()/2], real.Body.Len()+1)
		panic(http.ErrAbortHandler)
	})
}

// Change sends what change makes of the body of what the server answers.
func Change(change func(body []byte) []byte) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			real := ask(next, r)
			body := change(real.Body.Bytes())
			send(w, real, body, len(body))
			for name, values := range real.Result().Trailer {
				w.Header()[http.TrailerPrefix+name] = values
			}
		})
	}
}

// ask returns what the server answers.
func ask(next http.Handler, r *http.Request) *httptest.ResponseRecorder {
	r.Header.Del("Accept-Encoding")
	recorder := httptest.NewRecorder()
	next.ServeHTTP(recorder, r)
	return recorder
}

// send sends an answer with another body, of which it says the length.
func send(w http.ResponseWriter, real *httptest.ResponseRecorder, body []byte, length int) {
	for name, values := range real.Result().Header {
		w.Header()[name] = values
	}
	w.Header().Del("Trailer")
	w.Header().Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(real.Code)
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).Flush()
}
