package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/coditect-ai/license-ledger/client"
)

// Exit codes of ledger run that are not the program's own.
const (
	exitNoSeat      = 70
	exitLost        = 71
	exitUnreachable = 72
	exitRefused     = 73
	exitCannotRun   = 126
	exitNotFound    = 127
	exitSignal      = 128 // and the signal's number
)

// patience is how long ledger run looks for a ledger that does not answer: somebody may be sitting in front of it.
const patience = 10 * time.Second

// exit ends the process with a code; err is what to say, nil when there is nothing to say.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return "exit " + strconv.Itoa(e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

type runCommand struct {
	server
	licenseKey
	holder
	Wait    time.Duration `placeholder:"TIME" help:"Wait that long for a seat when all are in use: first come, first served. Default: do not."`
	OnLost  string        `enum:"warn,stop" default:"warn" help:"When the seat is lost: warn, and go on while trying to get one again; or stop the program. Default: ${default}."`
	Grace   time.Duration `default:"30s" help:"With --on-lost stop: how long the program may take after SIGTERM, before SIGKILL. Default: ${default}."`
	Quiet   bool          `short:"q" help:"Say nothing but errors."`
	Program []string      `arg:"" passthrough:"" help:"The program and its arguments."`
}

func (runCommand) Help() string {
	return `Takes a seat, runs the program while keeping the seat, gives it back, and exits as the program did. The program finds
its lease in LEDGER_LEASE and LEDGER_FENCE. When the ledger cannot be reached the seat is held until its lease ends; a
restart of the ledger goes unnoticed.

Signals sent to ledger run reach the program. In a terminal the two are one job: Ctrl-C, Ctrl-\ and Ctrl-Z do what they
always do. A program that is stopped with Ctrl-Z for longer than its lease loses the seat.

Exit codes: the program's own; 128 + n when signal n ended it; and

   70   no seat was available
   71   the seat was lost, and the program was stopped (--on-lost stop)
   72   the ledger could not be reached
   73   the ledger refused: the key is not known; the license is suspended, revoked or not valid; a limit is reached
  126   the program cannot be run
  127   there is no such program

Examples:

  ledger run -- blender scene.blend
  ledger run --wait 5m --on-lost stop --grace 10s -- ./simulate --steps 1000`
}

// Run implements the command.
func (c *runCommand) Run(ctx context.Context, t terminal) error {
	if len(c.Program) > 0 && c.Program[0] == "--" {
		c.Program = c.Program[1:]
	}
	if len(c.Program) == 0 {
		return hintf("Such as: ledger run -- sleep 60", "no program to run")
	}
	path, err := exec.LookPath(c.Program[0]) // before a seat is taken for it
	if err != nil {
		return cannotRun(err)
	}
	program := exec.Command(path, c.Program[1:]...)
	program.Args[0] = c.Program[0]
	key, err := c.key()
	if err != nil {
		return err
	}
	said := t.logs
	if c.Quiet {
		said = io.Discard
	}
	say := func(format string, args ...any) { fmt.Fprintf(said, "ledger: "+format+"\n", args...) }
	ledger, err := client.New(client.Config{Server: c.Server, LicenseKey: key, Patience: patience, OnChange: func(_ *client.Lease, s client.Status) {
		if s.State == client.AtRisk {
			say("the ledger does not renew the seat; it is held until %s: %v", s.Until.Local().Format(time.TimeOnly), s.Err)
		}
	}})
	if err != nil {
		return err
	}
	seat := client.Holder{User: c.User, Machine: c.Machine, Process: c.Process}
	lease, err := c.acquire(ctx, ledger, seat, say)
	switch {
	case err != nil && ctx.Err() != nil:
		return interrupted
	case err != nil:
		return &exit{exitCodeOf(err), err}
	}
	program.Stdin, program.Stdout, program.Stderr = os.Stdin, os.Stdout, os.Stderr
	program.Env = append(os.Environ(), "LEDGER_LEASE="+lease.ID(), "LEDGER_FENCE="+strconv.FormatInt(lease.Fence(), 10))
	s := &supervisor{runCommand: c, ledger: ledger, lease: lease, program: program, say: say}
	code, err := s.run(ctx)
	if closed := s.lease.Close(context.Background()); closed != nil {
		say("the seat was not given back, it comes free at %s: %v", s.lease.Status().Until.Local().Format(time.TimeOnly), closed)
	}
	if code == 0 && err == nil {
		return nil
	}
	return &exit{code, err}
}

// interrupted: somebody did not want to wait for the program to start.
var interrupted = &exit{exitSignal + int(syscall.SIGINT), nil}

// acquire takes a seat, or waits for one if asked to.
func (c *runCommand) acquire(ctx context.Context, ledger *client.Client, h client.Holder, say func(string, ...any)) (*client.Lease, error) {
	if c.Wait == 0 {
		return ledger.Acquire(ctx, h)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Wait, fmt.Errorf("waited %v", c.Wait))
	defer cancel()
	waiting, start := waitingAloud(c.Wait, say), time.Now()
	waited := false
	lease, err := ledger.Wait(ctx, h, func(reason *client.Error) { waited = true; waiting(reason) })
	if err == nil && waited {
		say("got a seat after %v", time.Since(start).Round(time.Second))
	}
	return lease, err
}

// waitingAloud says why a program waits, and what place it has whenever that changes.
func waitingAloud(atMost time.Duration, say func(string, ...any)) func(*client.Error) {
	first, said := true, ""
	return func(reason *client.Error) {
		text := reason.Error()
		if reason.Position > 0 {
			text = reason.Place()
		}
		switch {
		case first:
			say("waiting up to %v for a seat: %s", atMost, text)
		case text != said:
			say("%s", text)
		}
		first, said = false, text
	}
}

func exitCodeOf(err error) int {
	switch {
	case errors.Is(err, client.NoSeatAvailable):
		return exitNoSeat
	case errors.Is(err, client.Unreachable):
		return exitUnreachable
	}
	return exitRefused
}

func cannotRun(err error) error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return &exit{exitNotFound, err}
	}
	return &exit{exitCannotRun, err}
}

// supervisor runs a program that has a seat.
type supervisor struct {
	*runCommand
	ledger  *client.Client
	lease   *client.Lease // the present one, also when it is lost
	program *exec.Cmd
	say     func(string, ...any)
}

// run starts the program, unless ctx has ended, and returns when it has ended: with its exit code, and with an error if that
// needs a word.
func (s *supervisor) run(ctx context.Context) (code int, err error) {
	job := newJob(s.program)
	defer job.close()
	signals := make(chan os.Signal, 64)
	for _, sig := range forwarded {
		if !signal.Ignored(sig) { // such as by nohup: then the program ignores it, too
			signal.Notify(signals, sig)
		}
	}
	defer signal.Stop(signals)
	// A warning that nobody reads any more is no reason to die and leave the program alone. Not ignored, but caught and
	// dropped: what is ignored the program would inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if ctx.Err() != nil { // Ctrl-C before anybody else could hear it
		return interrupted.code, nil
	}
	if err := s.program.Start(); err != nil {
		return exitCannotRun, err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.program.Wait() }()

	searching, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	found := make(chan *client.Lease, 1)
	lost := s.lease.Lost()
	var kill <-chan time.Time
	stopping := false
	for {
		select {
		case sig := <-signals:
			if !job.hears(sig.(syscall.Signal)) {
				job.signal(sig.(syscall.Signal))
			}
		case <-lost:
			lost = nil
			if s.OnLost == "stop" {
				stopping, kill = true, time.After(s.Grace)
				job.signal(syscall.SIGTERM)
				job.signal(syscall.SIGCONT) // one that is stopped would not hear it
				s.say("%v; the program has %v to end", s.lease.Err(), s.Grace)
				continue
			}
			s.say("%v; the program goes on without a seat, and another is looked for", s.lease.Err())
			go s.search(searching, s.lease.Holder(), found)
		case lease := <-found:
			s.say("there is a seat again")
			s.lease, lost = lease, lease.Lost()
		case <-kill:
			job.signal(syscall.SIGKILL)
			s.say("the program did not end in %v, and is killed", s.Grace)
		case err := <-ended:
			var ended *exec.ExitError
			switch {
			case err != nil && !errors.As(err, &ended):
				return exitCannotRun, err
			case stopping:
				return exitLost, fmt.Errorf("the seat was lost: %w", s.lease.Err())
			}
			return exitCodeOfProgram(s.program), nil
		}
	}
}

// search looks for another seat until ctx ends or the ledger refuses.
func (s *supervisor) search(ctx context.Context, h client.Holder, found chan<- *client.Lease) {
	lease, err := s.ledger.Wait(ctx, h, nil)
	switch {
	case err == nil && ctx.Err() == nil:
		found <- lease
	case err == nil:
		lease.Close(context.Background())
	case ctx.Err() == nil:
		s.say("no other seat: %v", err)
	}
}

// exitCodeOfProgram returns what a shell would call the exit code.
func exitCodeOfProgram(program *exec.Cmd) int {
	status := program.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return status.ExitStatus()
}
