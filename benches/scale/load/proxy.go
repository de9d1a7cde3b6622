package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// certificate is a new one for loopback.
func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "scale"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// serve answers over TLS until the context ends; the address is the one that was got.
func serve(ctx context.Context, address string, handler http.Handler) (string, error) {
	made, err := certificate()
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	server := &http.Server{
		Handler: handler, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{made}},
	}
	go server.ServeTLS(listener, "", "")
	context.AfterFunc(ctx, func() { server.Close() })
	return listener.Addr().String(), nil
}

// count is of one kind of calls, such as `PATCH trials/status`.
type count struct{ calls, sent, received int64 }

// counter is a proxy before the API server that counts what passes.
type counter struct {
	lock  sync.Mutex
	kinds map[string]count
	// When Trials were listed: a live look begins with that.
	looks []time.Time
	lists int
}

func (c *counter) add(kind string, calls, sent, received int64) {
	c.lock.Lock()
	defer c.lock.Unlock()
	n := c.kinds[kind]
	c.kinds[kind] = count{n.calls + calls, n.sent + sent, n.received + received}
	if calls > 0 && strings.HasPrefix(kind, "LIST ") {
		c.lists++
		if kind == "LIST trials" {
			c.looks = append(c.looks, time.Now())
		}
	}
}

// reset begins anew, and tells what there was.
func (c *counter) reset() (map[string]count, []time.Time, int) {
	c.lock.Lock()
	defer c.lock.Unlock()
	kinds, looks, lists := c.kinds, c.looks, c.lists
	c.kinds, c.looks, c.lists = map[string]count{}, nil, 0
	return kinds, looks, lists
}

// kind is verb and resource of a request, and its status where it was refused.
func kind(request *http.Request, status int) string {
	path := strings.Split(strings.Trim(request.URL.Path, "/"), "/")
	switch path[0] {
	case "api":
		path = path[min(2, len(path)):]
	case "apis":
		path = path[min(3, len(path)):]
	default:
		path = nil
	}
	if len(path) > 2 && path[0] == "namespaces" {
		path = path[2:]
	}
	verb, resource := request.Method, "discovery"
	if len(path) > 0 {
		resource = path[0]
		switch {
		case verb == "GET" && request.URL.Query().Get("watch") != "" && request.URL.Query().Get("watch") != "false":
			verb = "WATCH"
		case verb == "GET" && len(path) == 1:
			verb = "LIST"
		}
	}
	if len(path) > 2 {
		resource += "/" + path[2]
	}
	if request.URL.Query().Get("dryRun") != "" {
		resource += " (dry run)"
	}
	if status >= 400 {
		resource += fmt.Sprintf(" (%d)", status)
	}
	return verb + " " + resource
}

// body counts what is read of it, while it is: a watch has no end.
type body struct {
	io.ReadCloser
	read func(int64)
}

func (b body) Read(buffer []byte) (int, error) {
	n, err := b.ReadCloser.Read(buffer)
	b.read(int64(n))
	return n, err
}

type buffers struct{ sync.Pool }

func (b *buffers) Get() []byte       { return *b.Pool.Get().(*[]byte) }
func (b *buffers) Put(buffer []byte) { b.Pool.Put(&buffer) }

// start has the proxy on an address that it gives.
func (c *counter) start(ctx context.Context, server string) (string, error) {
	to, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	pool := &buffers{sync.Pool{New: func() any { buffer := make([]byte, 32*1024); return &buffer }}}
	return serve(ctx, "127.0.0.1:0", &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) { request.SetURL(to) },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 1024, DisableCompression: true,
		},
		ModifyResponse: func(response *http.Response) error {
			kind := kind(response.Request, response.StatusCode)
			c.add(kind, 1, max(response.Request.ContentLength, 0), 0)
			response.Body = body{response.Body, func(n int64) { c.add(kind, 0, 0, n) }}
			return nil
		},
		BufferPool: pool,
		ErrorLog:   log.New(io.Discard, "", 0),
	})
}
