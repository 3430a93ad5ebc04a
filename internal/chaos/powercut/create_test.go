package powercut

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// A ledger whose creation was cut short at any step comes up at the next start, and keeps what it acknowledges then.
func TestPowerCutWhileCreating(t *testing.T) {
	t.Parallel()
	m := newMachine(t, rand.Uint64(), syncAlways)
	m.launch()
	m.serving()
	steps := m.Steps()
	m.kill()
	m.gone()

	tries := pick(6, 2*steps)
	inCreation := 0
	for try := range tries {
		at, torn := 1+m.random.IntN(steps), try%2 == 1
		if tries == 2*steps {
			at = 1 + try/2
		}
		t.Run("", func(t *testing.T) {
			m := newMachine(t, m.random.Uint64(), syncAlways)
			t.Logf("cut at step %d of %d, torn: %v", at, steps, torn)
			m.cutAfter(at, torn, func(Loss) {})
			m.launch()
			if !m.serving() {
				inCreation++
				m.restore()
				m.launch()
				m.serving()
			}
			m.keeps()
		})
	}
	t.Logf("%d cuts in the %d steps of a ledger's creation", inCreation, steps)
}

// keeps checks that what is acknowledged now is there after the next power cut.
func (m *machine) keeps() {
	m.t.Helper()
	cs := m.customers()
	for _, c := range cs {
		c.work(m.t.Context(), m.client(), "ada")
	}
	if acquired, heartbeats, released := counts(cs); acquired != partitions || heartbeats == 0 || released != partitions {
		m.t.Fatalf("%d acquires, %d heartbeats and %d releases acknowledged", acquired, heartbeats, released)
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
	for _, half := range []string{"LEDGER_00", "DIRECTORY_01", "KV_LEDGER"} {
		t.Run(half, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, 0, syncAlways)
			restart := func() {
				m.gone()
				m.launch()
				m.serving()
			}
			restart()
			// As if it had not gone further than this stream.
			m.gone()
			m.must(os.Remove(filepath.Join(m.stream(half), "meta.sum")))
			for _, name := range []string{"LEDGER_00", "LEDGER_01", "KV_LEDGER"} {
				m.must(os.RemoveAll(filepath.Join(m.stream(name), "msgs")))
			}
			restart()
			cs := m.customers()
			cs[0].work(t.Context(), m.client(), "ada")
			restart()
			for _, err := range m.broken(cs) {
				t.Error(err)
			}
			if acquired, _, released := counts(cs); acquired+released != 2 {
				t.Errorf("%d acquires and %d releases acknowledged", acquired, released)
			}
		})
	}
}

func (m *machine) stream(name string) string {
	return filepath.Join(m.at("nats"), "jetstream", "$G", "streams", name)
}
