package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// conn is one keep-alive connection. It is a client for this one server and no more: net/http's own costs more than the
// server, on the same cores.
type conn struct {
	net.Conn
	in   *bufio.Reader
	out  []byte
	body []byte
}

func dial(addr string) (*conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, in: bufio.NewReaderSize(c, 64<<10)}, nil
}

// post sends a request and returns status and body. The body is valid until the next call.
func (c *conn) post(path, key string, body []byte) (int, []byte, error) {
	c.out = fmt.Appendf(c.out[:0], "POST %s HTTP/1.1\r\nHost: ledger\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, key, len(body), body)
	if _, err := c.Write(c.out); err != nil {
		return 0, nil, err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, fmt.Errorf("status line %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, nil, fmt.Errorf("status line %q", line)
	}
	length := -1
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok && textproto.CanonicalMIMEHeaderKey(string(name)) == "Content-Length" {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, nil, fmt.Errorf("header %q", line)
			}
		}
	}
	if length < 0 {
		// Large answers come in chunks.
		return c.chunks(status)
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	_, err = io.ReadFull(c.in, c.body)
	return status, c.body, err
}

func (c *conn) chunks(status int) (int, []byte, error) {
	c.body = c.body[:0]
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return 0, nil, err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(line), 16, 32)
		if err != nil {
			return 0, nil, err
		}
		start := len(c.body)
		c.body = append(c.body, make([]byte, size+2)...)
		if _, err := io.ReadFull(c.in, c.body[start:]); err != nil {
			return 0, nil, err
		}
		c.body = c.body[:start+int(size)]
		if size == 0 {
			return status, c.body, nil
		}
	}
}

// step is what a worker does again and again: one or more calls. i counts the steps of the worker.
type step func(c *conn, worker, i int, call caller) error

// caller sends one request, notes the time and fails unless the status is wanted.
type caller func(path, key string, body []byte, want ...int) ([]byte, error)

// load runs step on n connections until d has passed, and returns how long each call took.
func load(ctx context.Context, addr string, n int, d time.Duration, do step) ([]time.Duration, error) {
	return runLoad(ctx, addr, n, d, do, 0)
}

// paced is load with perSecond calls a second, each due at its time: a call that begins late, because the one before took
// long, has taken that much longer.
func paced(ctx context.Context, addr string, n int, d time.Duration, do step, perSecond float64) ([]time.Duration, error) {
	return runLoad(ctx, addr, n, d, do, time.Duration(float64(n)/perSecond*float64(time.Second)))
}

func runLoad(ctx context.Context, addr string, n int, d time.Duration, do step, every time.Duration) ([]time.Duration, error) {
	var conns []*conn
	for range n {
		c, err := dial(addr)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		conns = append(conns, c)
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	all := make([][]time.Duration, n)
	errs := make(chan error, n)
	began := time.Now() // all are connected: that is no part of a call
	var wg sync.WaitGroup
	for worker, c := range conns {
		wg.Go(func() {
			due := began.Add(every * time.Duration(worker) / time.Duration(n))
			call := func(path, key string, body []byte, want ...int) ([]byte, error) {
				started := time.Now()
				if every > 0 {
					time.Sleep(time.Until(due))
					started, due = due, due.Add(every)
				}
				status, answer, err := c.post(path, key, body)
				if err != nil {
					return nil, err
				}
				all[worker] = append(all[worker], time.Since(started))
				if slices.Contains(want, status) {
					return answer, nil
				}
				return nil, fmt.Errorf("%s: %d %s", path, status, answer)
			}
			for i := 0; ctx.Err() == nil; i++ {
				if err := do(c, worker, i, call); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
		return slices.Concat(all...), nil
	}
}
