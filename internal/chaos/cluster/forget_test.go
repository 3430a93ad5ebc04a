package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coditect-ai/license-ledger/internal/chaos"
	"github.com/coditect-ai/license-ledger/internal/ledgertest"
)

// Where a name may lie in the files of a nats-server.
const (
	inStream = "the stream"
	inLog    = "the Raft log"
)

// holding says where in its files a server has a text: inStream, inLog, or in a file where nobody expects it.
func (s *server) holding(text string) (where []string, err error) {
	err = filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		var content []byte
		if err == nil && entry.Type().IsRegular() {
			content, err = os.ReadFile(path)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist): // it was replaced meanwhile
			return nil
		case err != nil || !bytes.Contains(content, []byte(text)):
			return err
		case strings.Contains(path, "/streams/DIRECTORY_00/msgs/"):
			where = append(where, inStream)
		case strings.Contains(path, "/_js_/"):
			where = append(where, inLog)
		default:
			where = append(where, path)
		}
		return nil
	})
	slices.Sort(where)
	return slices.Compact(where), err
}

// compaction is longer than a server takes to compact the Raft log of a stream: it does so every two to three minutes.
const compaction = 5 * time.Minute

// held is a condition: each of the servers has a text in these places and no others.
func held(text string, servers []*server, places ...string) func(context.Context) error {
	slices.Sort(places)
	return func(context.Context) error {
		for _, s := range servers {
			where, err := s.holding(text)
			if err != nil {
				return err
			}
			if !slices.Equal(where, places) {
				return fmt.Errorf("%s has it in %q", s.name, where)
			}
		}
		return nil
	}
}

// Of a person who was forgotten each server overwrites the name, also one that was away for a moment. The Raft logs have it until they are
// compacted, each by its server's own clock: the long form waits for that. One that was away for longer keeps the name.
func TestForgottenOnEachServer(t *testing.T) {
	t.Parallel()
	const ada, bob = "Ada Quillfeather", "Bob Oxenbridge" // and their machines, which are named after them
	c := newThree(t)
	l := c.services[0]
	_, key := l.License(t, "acme", 5, 300)
	for _, user := range []string{"carol", ada, bob, "dan"} {
		l.Must(t, http.StatusCreated, "POST", "/api/v1/licenses/acquire", key, ledgertest.Holder(user))
	}
	c.await("on each server", held(ada, c.servers[:], inStream, inLog))

	_, followers := c.split()
	away, others := followers[0], slices.DeleteFunc(slices.Clone(c.servers[:]), func(s *server) bool { return s == followers[0] })
	away.process.Kill()
	c.forget(ada)
	c.await("erased on the servers that are there", held(ada, others, inLog))
	if err := held(ada, []*server{away}, inStream, inLog)(t.Context()); err != nil {
		t.Errorf("the server that is away: %v", err)
	}
	away.start()
	c.await("whole", c.whole)
	c.await("erased on each server", held(ada, c.servers[:], inLog))
	if !chaos.Long() {
		return
	}
	c.within(compaction, "out of the Raft logs", held(ada, c.servers[:]))

	// A server that was away until the others' logs were compacted is told which records there are, and not which to overwrite.
	away.process.Kill()
	c.forget(bob)
	c.within(compaction, "out of the other servers", held(bob, others))
	away.start()
	c.await("whole", c.whole)
	c.await("left in its stream alone", held(bob, []*server{away}, inStream))
	// What helps: it gets its copy anew.
	away.stop()
	if err := os.RemoveAll(away.dir); err != nil {
		t.Fatal(err)
	}
	away.start()
	c.await("whole", c.whole)
	c.await("nowhere", held(bob, c.servers[:]))
}

// forget forgets a user and the machine that ledgertest.Holder gives it.
func (c *three) forget(user string) {
	c.t.Helper()
	l := c.services[0]
	for kind, name := range map[string]string{"user": user, "machine": "m-" + user} {
		c.await(kind+" forgotten", func(ctx context.Context) error { // while a leader is elected, nobody may know whether it was
			answer, err := l.Do(ctx, "POST", "/api/v1/tenants/acme/forget", l.Operator, map[string]any{kind: name}, nil)
			if err == nil && answer.Status != http.StatusOK {
				err = fmt.Errorf("%d %v", answer.Status, answer.Body)
			}
			return err
		})
	}
}
