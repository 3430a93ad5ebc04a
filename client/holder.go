package client

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
)

// Holder is who uses a seat. The same holder of the same license has one seat, never two; empty fields are filled in.
type Holder struct {
	User    string // default: the name of the operating system's user
	Machine string // what stays the same on one machine; default: the host's name
	Process string // tells programs of one user on one machine apart; default: one value per Client, never the same again
}

// DefaultHolder returns the user and the machine this program runs on, without a process. Errors: the operating system does
// not tell.
func DefaultHolder() (Holder, error) {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if name == "" {
		return Holder{}, errors.New("the operating system does not name its user: say who uses the seat")
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return Holder{}, fmt.Errorf("the host has no name (%w): say which machine uses the seat", err)
	}
	return Holder{User: name, Machine: host}, nil
}

func (h Holder) complete(process string) (Holder, error) {
	if h.User == "" || h.Machine == "" {
		here, err := DefaultHolder()
		if err != nil {
			return h, err
		}
		h.User, h.Machine = cmp.Or(h.User, here.User), cmp.Or(h.Machine, here.Machine)
	}
	h.Process = cmp.Or(h.Process, process)
	return h, nil
}

// newProcess returns the process id, which a person can look for, and a random part, because ids come again.
func newProcess() string {
	return fmt.Sprintf("%d-%s", os.Getpid(), strings.ToLower(rand.Text()[:8]))
}
