package clients

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(program(os.Getenv(asProgram)))
	}
	// What starts the tests may ignore signals, as nohup does, and its children inherit that; not from who catches them.
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	// These tests wait more than they work; by default as many run at once as there are processors.
	if err := flag.Set("test.parallel", fmt.Sprint(max(4, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	ledgertest.Main(m, "ledger")
}

// asProgram makes this test binary a program to run with a seat, of a kind.
const asProgram = "LEDGER_TEST_PROGRAM"

// program says what it hears. A line "exit 7" ends it with that code; so does SIGTERM, with 0, unless it is stubborn.
func program(kind string) int {
	signals := make(chan os.Signal, 100)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	lines := make(chan string)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
	}()
	fmt.Printf("ready pid %d lease %s fence %s.\n", os.Getpid(), os.Getenv("LEDGER_LEASE"), os.Getenv("LEDGER_FENCE"))
	orphaned := time.NewTicker(time.Second)
	for parent := os.Getppid(); ; {
		select {
		case s := <-signals:
			fmt.Printf("heard %d.\n", s)
			if s == syscall.SIGTERM && kind != "stubborn" {
				return 0
			}
		case line := <-lines:
			fmt.Printf("read %s.\n", line)
			if code, ok := strings.CutPrefix(line, "exit "); ok {
				n := 0
				fmt.Sscan(code, &n)
				return n
			}
		case <-orphaned.C: // nothing is left behind
			if os.Getppid() != parent {
				return 1
			}
		}
	}
}
