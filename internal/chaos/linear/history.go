package linear

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// History is what clients did with one license, and what they heard. It is safe for concurrent use.
type History struct {
	Name    string
	License License

	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

// NewHistory returns an empty history.
func NewHistory(name string, l License) *History {
	return &History{Name: name, License: l, began: time.Now()}
}

// Add notes a call that was sent, or sent first, at from, and its answer now. What is lost has no end: that it may have
// happened from then on is all there is to it.
func (h *History) Add(client int, from time.Time, c Call, a Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op := porcupine.Operation{ClientId: client, Input: c, Output: a, Call: int64(from.Sub(h.began)), Return: int64(time.Since(h.began))}
	if c.Kind == LostAcquire || c.Kind == LostRelease {
		op.Return = op.Call
	}
	h.ops = append(h.ops, op)
}

// Len returns how many operations there are.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// Order is when a server says that things happened: the ranks, even and from 2 up, of acquires and releases by lease, and
// between which of them the license was full, because not every denial leaves an event. It is a hint for the search and
// nothing more: an order that explains every answer is an explanation, whoever found it, and a history without one is
// refused, whatever the server says.
type Order struct {
	Acquired, Released map[string]int64
	Full               []Span // ascending
}

// Span is from just after one rank, until just before another: both are odd.
type Span struct{ From, To int64 }

// rank returns when an operation happened; 0 when the order does not say. Of a denial it is the last moment that its answer
// can speak of at which the license was full: what came before that was decided before the answer was given, and what comes
// after it was answered later than the denial was asked for.
func (o Order) rank(c Call, a Answer) int64 {
	switch a.Outcome {
	case Granted, Held:
		return o.Acquired[a.Lease]
	case Released:
		return o.Released[c.Lease]
	case Denied:
		for _, full := range slices.Backward(o.Full) {
			if full.From <= a.Position {
				return min(full.To, a.Position)
			}
		}
	}
	return 0
}

// Check returns nil when the history is linearizable. Otherwise the error says which answer cannot be explained, and in
// which file the history is drawn. Where the server's own order explains nothing, it searches for another one for as long
// as search; a history that is not decided by then counts as wrong.
func (h *History) Check(o Order, search time.Duration) error {
	model, ops := h.License.Model(), h.operations()
	told, err := follow(ops, o)
	if err == nil && porcupine.CheckOperations(model, told) {
		return nil
	}
	other := "no other order explains it"
	switch porcupine.CheckOperationsTimeout(model, ops, search) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		other = fmt.Sprintf("whether another order explains it was not decided within %v", search)
	}
	text := fmt.Sprintf("%s: not linearizable: its %d operations cannot be explained in the order of the server, and %s", h.Name, len(ops), other)
	if err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	text += "\n" + unexplained(model, told)
	_, info := porcupine.CheckOperationsVerbose(model, told, search)
	dir, err := os.MkdirTemp("", "linear-") // stays: it is what a person looks at next
	if err == nil {
		path := filepath.Join(dir, strings.ReplaceAll(h.Name, "/", "-")+".html")
		err = porcupine.VisualizePath(model, info, path)
		text += "\ndrawn in " + path
	}
	if err != nil {
		text += fmt.Sprintf("\ncannot be drawn: %v", err)
	}
	return errors.New(text)
}

// follow puts each operation at one instant between its call and its answer, in the order o: the latest there is. Those that
// o does not rank concern one lease, and so one client, which does one thing after the other: any instant is as good as another.
//
// What is lost may have happened as soon as it was sent. Only the latest instants leave whatever followed from it behind that.
//
// An error names an answer that came before what the server says happened before it was even asked.
func follow(ops []porcupine.Operation, o Order) ([]porcupine.Operation, error) {
	const finer = 1000 // room for many in one nanosecond
	told := make([]porcupine.Operation, len(ops))
	type ranked struct {
		rank int64
		op   *porcupine.Operation
	}
	var order []ranked
	for i, op := range ops {
		told[i] = op
		c := op.Input.(Call)
		told[i].Metadata = op
		if c.Kind == LostAcquire || c.Kind == LostRelease {
			told[i].Call, told[i].Return = op.Call*finer, op.Call*finer
			continue
		}
		told[i].Call, told[i].Return = op.Return*finer, op.Return*finer
		if rank := o.rank(c, op.Output.(Answer)); rank != 0 {
			order = append(order, ranked{rank, &told[i]})
		}
	}
	slices.SortStableFunc(order, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.op.Return, b.op.Return)) // several denials may have one rank
	})
	order = slices.CompactFunc(order, func(a, b ranked) bool { return a.rank == b.rank && a.rank%2 == 0 }) // without repetitions of what is done
	now := int64(math.MaxInt64)
	var earliest *porcupine.Operation // of those so far the one that was answered first
	for _, r := range slices.Backward(order) {
		was := r.op.Metadata.(porcupine.Operation)
		now = min(now-1, was.Return*finer)
		if now < was.Call*finer {
			return nil, fmt.Errorf("the server says that the first of these came before the second, and it was asked after that was answered:\n  %s\n  %s",
				line(was), line(*earliest))
		}
		if earliest == nil || was.Return < earliest.Return {
			earliest = &was
		}
		r.op.Call, r.op.Return = now, now
	}
	return told, nil
}

// operations returns the history with what its end tells about its beginning: which answer is the last sign of a lease, and
// which is the last to name it.
func (h *History) operations() []porcupine.Operation {
	h.mu.Lock()
	ops := slices.Clone(h.ops)
	h.mu.Unlock()
	slices.SortStableFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	lastSign, lastNamed, holderOf, ends := map[string]int{}, map[string]int{}, map[string]string{}, map[string]bool{}
	for i, op := range ops {
		c, a, id := op.Input.(Call), op.Output.(Answer), leaseOf(op)
		lastNamed["lease "+id], lastNamed["holder "+c.Holder] = i, i
		if a.Outcome == Granted || a.Outcome == Held {
			holderOf[id] = c.Holder
		}
		switch a.Outcome {
		case Granted, Held, Renewed:
			lastSign[id] = i
		case Released, None:
			ends[id] = true
		}
	}
	drop := map[int][]string{}
	for id, holder := range holderOf {
		i := max(lastNamed["lease "+id], lastNamed["holder "+holder])
		drop[i] = append(drop[i], id)
	}
	for i := range ops {
		c, a, id := ops[i].Input.(Call), ops[i].Output.(Answer), leaseOf(ops[i])
		switch a.Drop = drop[i]; a.Outcome {
		case Granted, Held, Renewed:
			a.LastSign = !ends[id] && lastSign[id] == i
			if !a.LastSign {
				c.Ghost = 0 // while the lease lasts, another acquire of its holder takes no seat
			}
		}
		ops[i].Input, ops[i].Output = c, a
	}
	return ops
}

// leaseOf returns the lease that an operation names; empty when it names none.
func leaseOf(op porcupine.Operation) string {
	return cmp.Or(op.Input.(Call).Lease, op.Output.(Answer).Lease)
}

// unexplained describes the first answer that does not follow from those before it, in the order in which ops are told.
func unexplained(model porcupine.Model, told []porcupine.Operation) string {
	told = slices.Clone(told)
	slices.SortStableFunc(told, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var b strings.Builder
	state := model.Init()
	for i, op := range told {
		ok, after := model.Step(state, op.Input, op.Output)
		if ok {
			state = after
			continue
		}
		for _, before := range told[max(0, i-20):i] {
			fmt.Fprintf(&b, "  %s\n", line(before.Metadata.(porcupine.Operation)))
		}
		fmt.Fprintf(&b, "> %s\n", line(op.Metadata.(porcupine.Operation)))
		fmt.Fprintf(&b, "  before it: %s", model.DescribeState(state))
		break
	}
	return b.String()
}

// line describes an operation.
func line(op porcupine.Operation) string {
	return fmt.Sprintf("%9.4f s to %9.4f s  client %2d  %s", float64(op.Call)/1e9, float64(op.Return)/1e9, op.ClientId,
		describe(op.Input.(Call), op.Output.(Answer)))
}
