package linear

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func TestProxy(t *testing.T) {
	t.Parallel()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	p, err := NewProxy(echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	dial := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, bufio.NewReader(c)
	}
	say := func(c net.Conn, text string) {
		if _, err := io.WriteString(c, text+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(r *bufio.Reader, want string) {
		t.Helper()
		if got, err := r.ReadString('\n'); err != nil || got != want+"\n" {
			t.Fatalf("got %q %v, want %q", got, err, want)
		}
	}
	c, r := dial()
	say(c, "one")
	hear(r, "one")

	p.Silence()
	say(c, "two")
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if text, err := r.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("while silent: %q %v", text, err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	p.Heal()
	hear(r, "two")

	p.Cut()
	if text, err := r.ReadString('\n'); err == nil {
		t.Fatalf("after the cut: %q", text)
	}
	refused, rr := dial()
	if text, err := rr.ReadString('\n'); err == nil {
		t.Fatalf("while cut: %q from %v", text, refused.RemoteAddr())
	}
	p.Heal()
	c, r = dial()
	say(c, "three")
	hear(r, "three")
}
