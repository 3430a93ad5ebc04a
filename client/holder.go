package client

import (
	"crypto/rand"
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

func (h Holder) complete(process string) (Holder, error) {
	if h.User == "" {
		h.User = os.Getenv("USER")
		if u, err := user.Current(); err == nil && u.Username != "" {
			h.User = u.Username
		}
		if h.User == "" {
			return h, fmt.Errorf("client: the operating system does not name its user; set Holder.User")
		}
	}
	if h.Machine == "" {
		name, err := os.Hostname()
		if err != nil || name == "" {
			return h, fmt.Errorf("client: the host has no name; set Holder.Machine (%v)", err)
		}
		h.Machine = name
	}
	if h.Process == "" {
		h.Process = process
	}
	return h, nil
}

// newProcess returns the process id, which a person can look for, and a random part, because ids come again.
func newProcess() string {
	return fmt.Sprintf("%d-%s", os.Getpid(), strings.ToLower(rand.Text()[:8]))
}
