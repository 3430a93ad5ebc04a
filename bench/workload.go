package main

import (
	"bytes"
	"fmt"
	"strings"
)

// The paths of the seat commands.
const (
	acquirePath   = "/api/v1/licenses/acquire"
	heartbeatPath = "/api/v1/licenses/heartbeat"
	releasePath   = "/api/v1/licenses/release"
)

// workload is what is asked of a server. Users come back: their names are known after the first time.
type workload struct {
	keys []string // license keys, in an order that has nothing to do with tenants
	s    *server
}

func newWorkload(s *server) *workload {
	w := &workload{s: s, keys: make([]string, s.licenses())}
	for i := range w.keys {
		// Neighbors in the list are of different tenants.
		tenant, license := i%s.fills.Tenants, i/s.fills.Tenants
		w.keys[i] = s.key(tenant, license)
	}
	return w
}

// license returns the license for the i-th cycle of a worker: one after the other, far apart.
func (w *workload) license(worker, i int) int { return (worker*7919 + i*104729) % len(w.keys) }

func holder(user string) []byte {
	return fmt.Appendf(nil, `{"user":%q,"machine":"ws-%s"}`, user, user)
}

func leaseBody(id string) []byte { return fmt.Appendf(nil, `{"lease":%q}`, id) }

// leaseOf takes the id out of an answer without decoding it all.
func leaseOf(answer []byte) (string, error) {
	_, rest, ok := bytes.Cut(answer, []byte(`"lse_`))
	id, _, ok2 := bytes.Cut(rest, []byte(`"`))
	if !ok || !ok2 {
		return "", fmt.Errorf("no lease in %s", answer)
	}
	return "lse_" + string(id), nil
}

func (w *workload) echo(_ *conn, worker, _ int, call caller) error {
	_, err := call(echoPath, "", holder(fmt.Sprint("user", worker)), 200)
	return err
}

// cycle takes a seat, heartbeats and gives it back.
func (w *workload) cycle(heartbeats int) step { return w.cycleNoting(heartbeats, func(int, string) {}) }

// cycleNoting is cycle, and calls acquired with each license and lease as soon as the answer is there.
func (w *workload) cycleNoting(heartbeats int, acquired func(license int, lease string)) step {
	return func(_ *conn, worker, i int, call caller) error {
		license := w.license(worker, i)
		key := w.keys[license]
		answer, err := call(acquirePath, key, holder(fmt.Sprint("user", worker)), 201)
		if err != nil {
			return err
		}
		id, err := leaseOf(answer)
		if err != nil {
			return err
		}
		acquired(license, id)
		body := leaseBody(id)
		for range heartbeats {
			if _, err := call(heartbeatPath, key, body, 200); err != nil {
				return err
			}
		}
		_, err = call(releasePath, key, body, 200)
		return err
	}
}

// mixHeartbeats is how many heartbeats a lease gets in the mix: a short session at the suggested interval.
const mixHeartbeats = 4

// batch is how many leases one batched heartbeat names: as many as the API allows.
const batch = 1000

// batches renews the leases that licenses were filled with, as many at once as the API allows.
func (w *workload) batches() step {
	bodies := make([][]byte, w.s.licenses())
	for i := range bodies {
		ids := make([]string, batch)
		for n := range ids {
			ids[n] = leaseID(i%w.s.fills.Tenants, i/w.s.fills.Tenants, n)
		}
		bodies[i] = []byte(`{"leases":["` + strings.Join(ids, `","`) + `"]}`)
	}
	return func(_ *conn, worker, i int, call caller) error {
		license := (worker + i) % len(bodies)
		answer, err := call(heartbeatPath, w.keys[license], bodies[license], 200)
		if err == nil && bytes.Contains(answer, []byte(`"code"`)) {
			err = fmt.Errorf("a lease was refused: %.300s", answer)
		}
		return err
	}
}
