package powercut

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// A ledger whose creation was cut short at any step comes up at the next start, and keeps what it acknowledges then.
func TestPowerCutWhileCreating(t *testing.T) {
	t.Parallel()
	const all = 0
	for k, cuts := range map[kind]int{services: pick(3, all), allInOne: pick(1, 40)} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, k, rand.Uint64(), syncAlways)
			m.launch()
			m.serving()
			steps := m.Steps()
			m.gone()

			tries, cut := cuts, 0
			if cuts == all {
				tries = 2 * steps // torn and not
			}
			for i := range tries {
				at := 1 + m.random.IntN(steps)
				if cuts == all {
					at = 1 + i/2
				}
				t.Run(fmt.Sprintf("step %d of %d", at, steps), func(t *testing.T) {
					m := newMachine(t, k, m.random.Uint64(), syncAlways)
					m.cutAfter(at, i%2 == 1, func(Loss) {})
					m.launch()
					if !m.serving() {
						cut++
						m.restore()
						m.launch()
						m.serving()
					}
					m.keeps()
				})
			}
			t.Logf("%d power cuts in the %d steps of a ledger's creation, half of them torn", cut, steps)
		})
	}
}

// keeps checks that what is acknowledged now is there after the next power cut.
func (m *machine) keeps() {
	m.t.Helper()
	cs := m.customers()
	for _, c := range cs {
		c.work(m.t.Context(), m.client(), "ada")
	}
	if did := count(cs); did.acquired != partitions || did.released != partitions {
		m.t.Fatal(did)
	}
	m.cutAfter(1, false, func(Loss) {})
	m.client().Do(m.t.Context(), "POST", "/api/v1/tenants", m.operator, map[string]any{"id": "last", "name": "Last"}, nil)
	m.dead()
	m.restore()
	m.launch()
	m.serving()
	for _, err := range m.broken(cs) {
		m.t.Error(err)
	}
}

// What a power cut between meta.inf and meta.sum of a new stream leaves: the server skips it, and would skip it again at every start
// after it was created anew, with what it acknowledged in between.
func TestHalfMadeStreamIsMadeWhole(t *testing.T) {
	t.Parallel()
	for _, half := range []string{"LEDGER_00", "DIRECTORY_01", "KV_LEDGER", "KV_LEDGER_OWNERS"} {
		t.Run(half, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, services, 0, syncAlways)
			restart := func() {
				m.gone()
				m.launch()
				m.serving()
			}
			restart()
			// As if it had not gone further than this stream.
			m.gone()
			m.must(os.Remove(filepath.Join(m.stream(half), "meta.sum")))
			for _, name := range []string{"LEDGER_00", "LEDGER_01", "KV_LEDGER", "KV_LEDGER_OWNERS"} {
				m.must(os.RemoveAll(filepath.Join(m.stream(name), "msgs")))
			}
			if half != "KV_LEDGER_OWNERS" { // it is the last
				m.must(os.RemoveAll(m.stream("KV_LEDGER_OWNERS")))
			}
			restart()
			if _, err := os.Stat(filepath.Join(m.stream(half), "meta.sum")); err != nil {
				t.Errorf("not made whole: %v", err)
			}
			cs := m.customers()
			cs[0].work(t.Context(), m.client(), "ada")
			restart()
			for _, err := range m.broken(cs) {
				t.Error(err)
			}
			if did := count(cs); did.acquired != 1 || did.released != 1 {
				t.Error(did)
			}
		})
	}
}

func (m *machine) stream(name string) string {
	return filepath.Join(m.dir, "jetstream", "$G", "streams", name)
}
