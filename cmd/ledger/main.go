// Command ledger is the whole license ledger in one process, and its command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/coditect-ai/license-ledger/internal/process"
)

const description = `The license ledger: floating seats, every change an immutable event.

  ledger up            start everything on http://127.0.0.1:8080, data in ./data
  ledger up --demo     the same, with a tenant whose programs come and go

Flags can be given in the environment, too; each help text names the variable.`

type commands struct {
	Up upCommand `cmd:"" help:"Start the whole ledger in one process: journal, read models, API and page."`
}

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, process.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

// terminal is where a command talks to a person, and where it logs.
type terminal struct{ out, logs io.Writer }

func run(ctx context.Context, args []string, out, logs io.Writer) error {
	// The first signal lets a command drain; the second, with the handler gone, ends the process.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	var cli commands
	exited := false
	parser, err := kong.New(&cli, kong.Name("ledger"), kong.Description(description), kong.Writers(out, logs),
		kong.Exit(func(int) { exited = true }), kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 110}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(terminal{out, logs}))
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	switch {
	case exited:
		return process.ErrHelp
	case err != nil:
		return fmt.Errorf("%w (ledger --help tells more)", err)
	}
	return command.Run()
}
