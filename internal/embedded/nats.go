package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// NATSOptions says where JetStream keeps its streams and who may talk to it.
type NATSOptions struct {
	// Dir is the directory of the streams. Made when absent, with its parents.
	Dir string
	// Listen is a loopback address such as 127.0.0.1:4222 for the nats command line; port 0 picks a free one. Empty
	// means no TCP port. There is no password, so an address that other machines can reach is refused.
	Listen string
	// NoSync acknowledges what a power cut may still lose. For measuring what the sync costs, and for the test that has to
	// fail without it.
	NoSync bool
	// StartTimeout bounds the start, which reads every stream in full after a crash. Default 10 minutes.
	StartTimeout time.Duration
	// Log gets the server's warnings and errors, and its notices as debug lines. Nil means none.
	Log *slog.Logger
}

// NATS is a nats-server with JetStream inside this process.
type NATS struct {
	server *server.Server
	log    *slog.Logger
}

// serverName is fixed: JetStream writes it into what it stores.
const serverName = "ledger"

// maxPayload is the largest message, in bytes. A commit is at most a quarter of it.
const maxPayload = 1 << 20

// StartNATS starts the server and returns when it answers and has loaded every stream on disk. A stream that it cannot
// load is an error, which names its directory; one that a crash left half created, before it could hold anything, is
// removed. After an error nothing is running.
func StartNATS(options NATSOptions) (*NATS, error) {
	log := options.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// JetStream names the place after the directory it gets, so the same one must always read the same.
	dir, err := filepath.Abs(options.Dir)
	if err != nil {
		return nil, fmt.Errorf("start nats-server: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start nats-server: %w", err)
	}
	opts := &server.Options{
		ServerName: serverName,
		JetStream:  true,
		StoreDir:   dir,
		// Streams read it from here. The copy in server.JetStreamConfig does not reach them.
		SyncAlways: !options.NoSync,
		MaxPayload: maxPayload,
		DontListen: options.Listen == "",
		NoSigs:     true, // the process that we are in decides when to stop
	}
	if options.Listen != "" {
		if opts.Host, opts.Port, err = loopback(options.Listen); err != nil {
			return nil, fmt.Errorf("start nats-server: %w", err)
		}
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("start nats-server: %w", err)
	}
	fatal := make(chan string, 1)
	srv.SetLoggerV2(natsLog{log.With("component", "nats-server"), fatal}, false, false, false)

	n := &NATS{srv, log}
	if err := n.start(dir, cmp.Or(options.StartTimeout, 10*time.Minute), fatal); err != nil {
		n.Shutdown()
		return nil, fmt.Errorf("start nats-server: %w", err)
	}
	return n, nil
}

func (n *NATS) start(dir string, timeout time.Duration, fatal <-chan string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ready := make(chan bool, 1)
	go func() {
		n.server.Start() // loads the streams, then returns
		ready <- n.server.ReadyForConnections(10 * time.Second)
	}()
	select {
	case reason := <-fatal: // it only logs this, and would go on without
		return errors.New(reason)
	case <-ctx.Done():
		return fmt.Errorf("not ready after %s: %w", timeout, ctx.Err())
	case ok := <-ready:
		select {
		case reason := <-fatal:
			return errors.New(reason)
		default:
		}
		if !ok {
			return errors.New("it takes no connections")
		}
	}
	return n.checkStreams(ctx, filepath.Join(dir, server.JetStreamStoreDir, server.DEFAULT_GLOBAL_ACCOUNT, "streams"))
}

// checkStreams compares the streams on disk with those that the server has: it skips, with only a warning, one whose
// meta.inf or meta.sum is missing or wrong. Creating that stream again would lose it.
func (n *NATS) checkStreams(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	nc, err := n.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	loaded := map[string]bool{}
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		loaded[name] = true
	}
	if err := names.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	var problems []error
	for _, e := range entries {
		stream := filepath.Join(dir, e.Name())
		if loaded[e.Name()] || strings.HasPrefix(e.Name(), ".") { // the server is removing those with a dot
			continue
		}
		empty, err := neverWritten(stream)
		switch {
		case err != nil:
			problems = append(problems, err)
		case !empty:
			problems = append(problems, fmt.Errorf("stream %s is on disk but does not load, see the warnings above: its meta.inf or meta.sum is damaged: restore the directory %s from a backup", e.Name(), stream))
		default:
			n.log.Warn("removing a stream that a crash left half created, without a message", "directory", stream)
			problems = append(problems, os.RemoveAll(stream))
		}
	}
	return errors.Join(problems...)
}

// neverWritten tells whether a stream's directory has no message in it, not even a deleted one.
func neverWritten(stream string) (bool, error) {
	files, err := os.ReadDir(filepath.Join(stream, "msgs"))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			return false, err
		}
		if info.IsDir() || info.Size() > 0 {
			return false, nil
		}
	}
	return true, err
}

// loopback splits an address that only this machine can reach.
func loopback(address string) (string, int, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, fmt.Errorf("%s can be reached from other machines and has no password: use 127.0.0.1, or a nats-server of its own with credentials", address)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port of %s: %w", address, err)
	}
	if port == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(port), nil
}

// Connect opens a connection through memory.
func (n *NATS) Connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append(opts, nats.InProcessServer(n.server))...)
	if err != nil {
		return nil, fmt.Errorf("connect to the nats-server in this process: %w", err)
	}
	return nc, nil
}

// URL is the address of the TCP port; empty when there is none.
func (n *NATS) URL() string {
	if n.server.Addr() == nil {
		return ""
	}
	return n.server.ClientURL()
}

// shutdownMax is how long a server may take to stop.
const shutdownMax = 30 * time.Second

// Shutdown writes out what is in memory and stops; it returns when everything has stopped. Close connections first.
//
// It gives up on a server that does not stop, and says so in the log. What it acknowledged is on the disk all the same, and the process has to be
// able to end: on a damaged file of a bucket nats-server 2.15.2 looks for ever for the record that it is to replace, with the stream locked
// (fileStore.storeRawMsg).
func (n *NATS) Shutdown() {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		n.server.Shutdown()
		n.server.WaitForShutdown()
	}()
	select {
	case <-stopped:
	case <-time.After(shutdownMax):
		n.log.Error("the nats-server does not stop; its files may be damaged. Nothing that was acknowledged is lost by ending the process now", "waited", shutdownMax)
	}
}

// natsLog hands the server's log lines on.
type natsLog struct {
	log   *slog.Logger
	fatal chan<- string // the first fatal line: it says why the server did not start
}

func (l natsLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l natsLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l natsLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l natsLog) Debugf(format string, v ...any)  {} // switched off
func (l natsLog) Tracef(format string, v ...any)  {} // switched off
func (l natsLog) Fatalf(format string, v ...any) {
	line := fmt.Sprintf(format, v...)
	l.log.Error(line)
	select {
	case l.fatal <- line:
	default:
	}
}
