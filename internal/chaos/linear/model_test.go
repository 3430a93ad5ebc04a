package linear

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Each history in testdata/histories.txt is judged as it says, whatever the server says of its order; and one that is refused is
// explained, and drawn.
func TestHistories(t *testing.T) {
	t.Parallel()
	judged := map[string]int{}
	for _, h := range readHistories(t) {
		judged[h.verdict]++
		err := h.Check(Order{}, time.Minute)
		if (err == nil) != (h.verdict == "good") {
			t.Errorf("line %d: %s: judged wrongly: %v", h.line, h.Name, err)
		}
		if err == nil {
			continue
		}
		_, path, drawn := strings.Cut(err.Error(), "drawn in ")
		if !drawn || !strings.Contains(err.Error(), "\n> ") || !strings.Contains(err.Error(), "no other order explains it") {
			t.Fatalf("line %d: %s: the report says too little: %v", h.line, h.Name, err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			t.Error(err)
		}
	}
	if judged["good"] < 10 || judged["bad"] < 10 || len(judged) != 2 {
		t.Errorf("judged: %v", judged)
	}
}

// An answer that came before what the server says came first is named.
func TestOrderAgainstTime(t *testing.T) {
	t.Parallel()
	h := readHistories(t)[0] // l1, then l2
	h.License.Seats = 1
	err := h.Check(Order{Acquired: map[string]int64{"l2": 1, "l1": 2}}, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "acquire bob -> granted l2\n") || !strings.HasSuffix(err.Error(), "acquire alice -> granted l1") {
		t.Error(err)
	}
}

// In the server's order, too, what follows from something lost comes after that was sent, though it was asked earlier.
func TestOrderAroundWhatIsLost(t *testing.T) {
	t.Parallel()
	h := NewHistory("lost", License{Seats: 1})
	h.ops = []porcupine.Operation{
		{ClientId: 1, Input: Call{Kind: Acquire, Holder: "alice"}, Call: 1, Output: Answer{Outcome: Granted, Lease: "l1"}, Return: 2},
		{ClientId: 2, Input: Call{Kind: Acquire, Holder: "bob"}, Call: 3, Output: Answer{Outcome: Granted, Lease: "l2"}, Return: 9},
		{ClientId: 1, Input: Call{Kind: LostRelease, Lease: "l1"}, Call: 4, Output: Answer{Outcome: None}, Return: 4},
	}
	told, err := follow(h.operations(), Order{Acquired: map[string]int64{"l1": 1, "l2": 2}})
	if err != nil || !porcupine.CheckOperations(h.License.Model(), told) {
		t.Errorf("%v: %v", told, err)
	}
}

// written is a history from the file.
type written struct {
	*History
	verdict string
	line    int
}

// readHistories reads the stories of testdata/histories.txt, whose head says how they are written.
func readHistories(t *testing.T) []written {
	t.Helper()
	file, err := os.Open("testdata/histories.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []written
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if verdict := fields[0]; verdict == "good" || verdict == "bad" {
			l := License{Seats: number(t, n, strings.TrimPrefix(fields[1], "seats=")), Remembers: 3, Lasting: fields[2] == "lasting"}
			all = append(all, written{NewHistory(strings.Join(fields[2:], " "), l), verdict, n})
			continue
		}
		h := all[len(all)-1]
		h.ops = append(h.ops, readOperation(t, n, len(h.ops), fields))
	}
	return all
}

// readOperation reads a line such as "1-3 acquire alice = granted l1 until 30 ghost 9".
func readOperation(t *testing.T, line, client int, fields []string) porcupine.Operation {
	t.Helper()
	from, to, _ := strings.Cut(fields[0], "-")
	op := porcupine.Operation{ClientId: client, Call: int64(number(t, line, from)), Return: int64(number(t, line, from))}
	if to != "" {
		op.Return = int64(number(t, line, to))
	}
	c, a := Call{Kind: Kind(fields[1])}, Answer{Outcome: None, By: op.Return, At: op.Return}
	rest := fields[2:]
	if c.Kind == "lost" {
		c.Kind, rest = Kind("lost "+rest[0]), rest[1:]
	}
	if c.Kind == Acquire || c.Kind == LostAcquire {
		c.Holder = rest[0]
	} else {
		c.Lease = rest[0]
	}
	const forever = 1000
	a.Expires = forever
	for rest = rest[1:]; len(rest) > 0; rest = rest[1:] {
		next := func() int64 {
			rest = rest[1:]
			return int64(number(t, line, rest[0]))
		}
		switch word := rest[0]; word {
		case "ghost":
			c.Ghost = next()
		case "until":
			a.Expires = next()
		case "at":
			a.At = next()
		case "=":
			rest = rest[1:]
			a.Outcome = Outcome(rest[0])
			if a.Outcome == Granted || a.Outcome == Held {
				rest = rest[1:]
				a.Lease = rest[0]
			}
		default:
			t.Fatalf("line %d: %q", line, word)
		}
	}
	op.Input, op.Output = c, a
	return op
}

func number(t *testing.T, line int, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(fmt.Errorf("line %d: %w", line, err))
	}
	return n
}
