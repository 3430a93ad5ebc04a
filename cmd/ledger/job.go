package main

import (
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that reach the program when they are sent to ledger run.
var forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH,
}

// job is a running program and how signals reach it.
//
// With a terminal the program is in our process group: then job control, pipelines and prompts work as if we were not
// there, and the terminal sends Ctrl-C, Ctrl-\ and changes of its size to both of us; forwarded they would arrive twice,
// and many programs take the second Ctrl-C for "at once". Without a terminal it has a process group of its own: what is
// sent to the group of ours reaches it through us, once.
type job struct {
	program  *exec.Cmd
	terminal *os.File // nil: there is none
}

func newJob(program *exec.Cmd) *job {
	j := &job{program: program}
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		j.terminal = tty
	}
	program.SysProcAttr = &syscall.SysProcAttr{Setpgid: j.terminal == nil}
	return j
}

func (j *job) close() {
	if j.terminal != nil {
		j.terminal.Close()
	}
}

// hears reports whether the program got s from the terminal, as we did. Nobody tells where a signal came from; while we are
// in the foreground it is the terminal that sends these.
func (j *job) hears(s syscall.Signal) bool {
	if j.terminal == nil || !slices.Contains([]syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH}, s) {
		return false
	}
	foreground, err := unix.IoctlGetInt(int(j.terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}

// signal sends s to the program, and if it has a process group of its own to all of that.
func (j *job) signal(s syscall.Signal) {
	if j.terminal == nil {
		syscall.Kill(-j.program.Process.Pid, s)
		return
	}
	j.program.Process.Signal(s)
}
