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
	"github.com/willabides/kongplete"

	"github.com/coditect-ai/license-ledger/internal/process"
)

const description = `The license ledger: floating seats, every change an immutable event.

  ledger up                                   start everything on http://127.0.0.1:8080, data in ./data
  ledger tenant create acme "Acme Corp"       in a second terminal, in the same folder: a customer
  ledger license issue acme cad --seats 5     a license with five seats; prints its key
  export LEDGER_LICENSE_KEY=lk_…
  ledger run -- PROGRAM                       run a program with a seat
  ledger status acme                          see who holds one

Flags can be given in the environment, too; each help text names the variable. Tab completion: ledger completion --help`

type commands struct {
	Up        upCommand        `cmd:"" group:"Serve" help:"Start the whole ledger in one process: journal, read models, API and page."`
	Demo      demoCommand      `cmd:"" group:"Serve" help:"Make a new ledger with a made-up past, to look around in."`
	Run       runCommand       `cmd:"" group:"Use a seat (license key)" help:"Run a program with a seat."`
	Acquire   acquireCommand   `cmd:"" group:"Use a seat (license key)" help:"Take a seat, for a script that keeps it itself."`
	Heartbeat heartbeatCommand `cmd:"" group:"Use a seat (license key)" help:"Keep a seat."`
	Release   releaseCommand   `cmd:"" group:"Use a seat (license key)" help:"Give a seat back."`
	Status    statusCommand    `cmd:"" group:"Manage (operator key)" help:"Seats in use, and who holds them."`
	Tenant    tenantCommands   `cmd:"" group:"Manage (operator key)" help:"Make and manage tenants."`
	License   licenseCommands  `cmd:"" group:"Manage (operator key)" help:"Issue and manage licenses."`
	Member    memberCommands   `cmd:"" group:"Manage (operator key)" help:"Invite and manage a tenant's people."`
	Key       keyCommands      `cmd:"" group:"Manage (operator key)" help:"Make and manage the keys of a tenant's people."`
	Forget    forgetCommand    `cmd:"" group:"Manage (operator key)" help:"Delete the name of a person for good."`

	Replay     replayCommand      `cmd:"" group:"Audit" help:"Print a tenant's history from the journal, or what it was at an instant."`
	Export     exportCommand      `cmd:"" group:"Audit" help:"Write a tenant's history into a file that proves itself."`
	Verify     verifyCommand      `cmd:"" group:"Audit" help:"Check such a file, without the ledger; or a whole ledger."`
	Restore    restoreCommand     `cmd:"" group:"Look after the ledger (its database)" help:"Bring a lost journal back from the archive."`
	Rebuild    rebuildCommand     `cmd:"" group:"Look after the ledger (its database)" help:"Make the read models anew next to the running ones, compare, and flip."`
	Projection projectionCommands `cmd:"" group:"Look after the ledger (its database)" help:"Read models: where they stand, and those that are set aside."`

	Completion kongplete.InstallCompletions `cmd:"" group:"Shell" help:"Print what makes your shell complete ledger commands; put its output into your shell's start file."`
}

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	var ended *exit
	switch {
	case err == nil || errors.Is(err, process.ErrHelp):
		return
	case errors.As(err, &ended) && ended.err == nil:
		os.Exit(ended.code)
	}
	fmt.Fprintln(os.Stderr, "ledger:", err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintln(os.Stderr, hint)
	}
	if ended != nil {
		os.Exit(ended.code)
	}
	os.Exit(1)
}

// terminal is where a command talks to a person, and where it logs.
type terminal struct{ out, logs io.Writer }

func run(ctx context.Context, args []string, out, logs io.Writer) error {
	// The first signal lets a command drain; the second, with the handler gone, ends the process.
	ends := []os.Signal{syscall.SIGTERM}
	if !signal.Ignored(os.Interrupt) { // in the background of a script it is
		ends = append(ends, os.Interrupt)
	}
	ctx, stop := signal.NotifyContext(ctx, ends...)
	context.AfterFunc(ctx, stop)
	defer stop()
	var cli commands
	exited := false
	parser, err := kong.New(&cli, kong.Name("ledger"), kong.Description(description), kong.Writers(out, logs),
		kong.Exit(func(int) { exited = true }), kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 110, Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(terminal{out, logs}))
	if err != nil {
		return err
	}
	if kongplete.Complete(parser); exited {
		return process.ErrHelp // the shell asked how a line goes on
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
