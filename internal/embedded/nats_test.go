package embedded

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func startNATS(t *testing.T, options NATSOptions) *NATS {
	t.Helper()
	n, err := StartNATS(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Shutdown)
	return n
}

func streams(t *testing.T, n *NATS) jetstream.JetStream {
	t.Helper()
	nc, err := n.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func createStream(t *testing.T, js jetstream.JetStream, name string, messages int) {
	t.Helper()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name)}}); err != nil {
		t.Fatal(err)
	}
	for range messages {
		if _, err := js.Publish(t.Context(), strings.ToLower(name), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
}

// Not parallel: it looks at the ports of the whole process.
func TestNATSOpensNoPortUnlessAsked(t *testing.T) {
	before := listening(t)
	n := startNATS(t, NATSOptions{Dir: t.TempDir()})
	if now := listening(t); len(now) != len(before) {
		t.Errorf("listens on %v", now)
	}
	if n.URL() != "" {
		t.Errorf("URL = %q, want none", n.URL())
	}

	n = startNATS(t, NATSOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if now := listening(t); len(now) != len(before)+1 {
		t.Errorf("listens on %v, want one port", now)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestNATSRefusesAnAddressThatOthersCanReach(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:4222", ":4222", "[::]:4222", "192.0.2.1:4222", "ledger.example:4222", "4222", "127.0.0.1:many"} {
		n, err := StartNATS(NATSOptions{Dir: t.TempDir(), Listen: listen})
		if err == nil {
			n.Shutdown()
			t.Errorf("%s was accepted", listen)
		}
	}
}

func TestNATSSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, options := range map[string]NATSOptions{
		"address already in use": {Dir: t.TempDir(), Listen: taken.Addr().String()},
		"not a directory":        {Dir: "/dev/null/ledger"},
	} {
		n, err := StartNATS(options)
		if err == nil {
			n.Shutdown()
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("StartNATS = %v, want %q", err, name)
		}
	}
}

func TestNATSKeepsStreamsAcrossARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "journal")
	n, err := StartNATS(NATSOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	createStream(t, streams(t, n), "LEDGER_00", 3)
	n.Shutdown()

	js := streams(t, startNATS(t, NATSOptions{Dir: dir}))
	s, err := js.Stream(t.Context(), "LEDGER_00")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().State.Msgs; got != 3 {
		t.Errorf("%d messages after a restart, want 3", got)
	}
	if got := js.Conn().ConnectedServerName(); got != "ledger" {
		t.Errorf("server is called %q", got)
	}
	if got := js.Conn().MaxPayload(); got != 1<<20 {
		t.Errorf("largest message is %d bytes", got)
	}
}

// Whether a message is on disk before its acknowledgement shows only in a power cut. What can be seen is the setting of
// the stream's own file store, which is not the one that the server prints.
func TestNATSSyncAlwaysReachesTheStreams(t *testing.T) {
	t.Parallel()
	for _, always := range []bool{true, false} {
		n := startNATS(t, NATSOptions{Dir: t.TempDir(), NoSync: !always})
		createStream(t, streams(t, n), "LEDGER_00", 1)
		if got := streamSyncsAlways(t, n, "LEDGER_00"); got != always {
			t.Errorf("a stream syncs always: %v, want %v", got, always)
		}
	}
}

// streamSyncsAlways reads the setting out of the server: it has no way to ask. The fields are those of the version in go.mod.
func streamSyncsAlways(t *testing.T, n *NATS, name string) bool {
	t.Helper()
	all := reflect.ValueOf(n.server.GlobalAccount()).Elem().FieldByName("js").Elem().FieldByName("streams")
	for streams := all.MapRange(); streams.Next(); {
		if streams.Key().String() == name {
			return streams.Value().Elem().FieldByName("store").Elem().Elem().FieldByName("fcfg").FieldByName("SyncAlways").Bool()
		}
	}
	t.Fatalf("the server has no stream %s", name)
	return false
}

func TestNATSRefusesAStreamThatDoesNotLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, err := StartNATS(NATSOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	js := streams(t, n)
	createStream(t, js, "LEDGER_00", 3)
	createStream(t, js, "LEDGER_01", 3)
	n.Shutdown()
	stream := filepath.Join(dir, "jetstream", "$G", "streams", "LEDGER_01")
	sum := filepath.Join(stream, "meta.sum")
	good, err := os.ReadFile(sum)
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []func() error{
		func() error { return os.Remove(sum) },
		func() error { return os.WriteFile(sum, []byte("0123456789abcdef"), 0o600) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		n, err := StartNATS(NATSOptions{Dir: dir})
		if err == nil {
			n.Shutdown()
		}
		if err == nil || !strings.Contains(err.Error(), stream) || strings.Contains(err.Error(), "LEDGER_00") {
			t.Fatalf("StartNATS = %v, want an error about %s", err, stream)
		}
	}
	if err := os.WriteFile(sum, good, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := streams(t, startNATS(t, NATSOptions{Dir: dir})).Stream(t.Context(), "LEDGER_01")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().State.Msgs; got != 3 {
		t.Errorf("%d messages in the repaired stream, want 3", got)
	}
}

// A crash between the two files of a new stream leaves a folder that never held anything.
func TestNATSRemovesAHalfCreatedStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, err := StartNATS(NATSOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	createStream(t, streams(t, n), "LEDGER_00", 0)
	n.Shutdown()
	stream := filepath.Join(dir, "jetstream", "$G", "streams", "LEDGER_00")
	for _, name := range []string{"meta.sum", "msgs/index.db"} { // the index is written by a clean end only
		if err := os.Remove(filepath.Join(stream, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	js := streams(t, startNATS(t, NATSOptions{Dir: dir}))
	createStream(t, js, "LEDGER_00", 2)
	if _, err := os.Stat(filepath.Join(stream, "meta.sum")); err != nil {
		t.Errorf("the new stream is not complete: %v", err)
	}
}

func TestNATSWarningsReachTheLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := natsLog{slog.New(slog.NewTextHandler(&out, nil)), make(chan string, 1)}
	log.Warnf("disk %s", "slow")
	log.Errorf("disk %s", "gone")
	log.Fatalf("disk %s", "dead")
	log.Fatalf("one more") // nobody may be reading
	log.Noticef("hello")
	for _, want := range []string{`level=WARN msg="disk slow"`, `level=ERROR msg="disk gone"`, `level=ERROR msg="disk dead"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "hello") {
		t.Error("notices are debug lines")
	}
}
