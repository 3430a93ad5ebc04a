package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresOptions says where a private Postgres lives and how careful it is.
type PostgresOptions struct {
	// Dir is the directory of everything Postgres: the cluster, its socket, its log. Made when absent, with its parents.
	// Moving it away and starting again gives an empty Postgres, which the projector fills from the journal.
	Dir string
	// Bin is the folder of initdb and postgres. Empty means $PG_BIN, and when that is empty too the newest of
	// /usr/lib/postgresql/*/bin, then PATH. Major version 15 or later.
	Bin string
	// NoFsync is for throwaway clusters of tests. A crash of the machine may then leave a cluster that is silently wrong,
	// not only one that is behind. A crash of a process loses nothing.
	NoFsync bool
	// Log gets a line for each thing worth knowing. Nil means none.
	Log *slog.Logger
}

// Postgres is a running private Postgres.
type Postgres struct {
	dir      string
	sockets  string // as we see it
	log      *slog.Logger
	lock     *DirLock
	server   *child
	stopping atomic.Bool
	done     chan struct{}
	err      error // set before done is closed
}

const (
	database  = "ledger" // also the name of the superuser
	port      = "5432"   // part of the socket's name; nothing listens on TCP
	startTime = 2 * time.Minute
	quitTime  = 5 * time.Second
)

// StartPostgres starts Postgres on options.Dir, making a cluster there first when there is none, and returns when it
// takes connections and has the database "ledger".
//
// ctx bounds the start only, by two minutes when it has no deadline: after a crash Postgres first replays its own log.
//
// Errors name what to do: no binaries or too old ones, a cluster of another major version, a directory in use. When
// Postgres itself fails, its last log lines are in the error. A failed start leaves no process behind and deletes no data.
func StartPostgres(ctx context.Context, options PostgresOptions) (_ *Postgres, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTime)
		defer cancel()
	}
	log := options.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(options.Dir)
	if err != nil {
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	// The lock also makes it safe to stop what looks like the remains of a former run.
	lock, err := Lock(dir)
	if err != nil {
		return nil, err
	}
	p := &Postgres{dir: dir, log: log, lock: lock, done: make(chan struct{})}
	if err := p.start(ctx, options); err != nil {
		removeSocketDir(dir, p.sockets)
		return nil, errors.Join(fmt.Errorf("start Postgres: %w", err), lock.Unlock())
	}
	return p, nil
}

func (p *Postgres) start(ctx context.Context, options PostgresOptions) error {
	user, err := serverAccount()
	if err != nil {
		return err
	}
	c := cluster{dir: p.dir, user: user, log: p.log}
	major, err := c.major()
	if err != nil {
		return err
	}
	bin := options.Bin
	if bin == "" {
		bin = os.Getenv("PG_BIN")
	}
	binaries, err := findBinaries(ctx, bin, debianBinaries, os.Getenv("PATH"), major, user)
	if other := (*otherVersionError)(nil); errors.As(err, &other) {
		install := ""
		if other.cluster >= oldestPostgres {
			install = fmt.Sprintf("install that version (`apt-get install postgresql-%d`), or ", other.cluster)
		}
		return fmt.Errorf("%s was %w: %smove %s away and start again, which rebuilds the read models from the journal", c.data(), err, install, p.dir)
	}
	if err != nil {
		return err
	}
	if err := c.stopRemains(ctx); err != nil {
		return err
	}
	logFile, err := c.openLog()
	if err != nil {
		return err
	}
	defer logFile.Close() // Postgres has its own descriptor
	if major == 0 {
		if err := c.create(ctx, binaries, !options.NoFsync, logFile); err != nil {
			return err
		}
	} else if err := c.own(); err != nil {
		return err
	}
	if p.sockets, err = socketDir(p.dir, user); err != nil {
		return err
	}
	if err := c.freeSocket(p.sockets); err != nil {
		return err
	}
	if err := p.launch(c, binaries, !options.NoFsync, logFile); err != nil {
		return err
	}
	if err := p.ready(ctx); err != nil {
		tail := c.logTail() // before the shutdown adds to it
		p.server.signal(syscall.SIGQUIT)
		<-p.server.exited
		return fmt.Errorf("%w%s", err, tail)
	}
	go p.watch(c)
	p.log.Info("Postgres is running", "version", binaries.major, "directory", p.dir, "user", user.name, "pid", p.server.cmd.Process.Pid)
	return nil
}

// launch starts the postmaster.
func (p *Postgres) launch(c cluster, bin binaries, fsync bool, logFile *os.File) error {
	shared := shared{user: c.user}
	defer shared.close()
	data, err := shared.see(c.data())
	if err != nil {
		return err
	}
	sockets, err := shared.see(p.sockets)
	if err != nil {
		return err
	}
	// On the command line rather than in postgresql.conf, so that a newer ledger changes them for an old cluster too.
	settings := []string{
		"listen_addresses=",
		"unix_socket_directories=" + `"` + strings.ReplaceAll(sockets, `"`, `""`) + `"`, // else a comma would split it
		"unix_socket_permissions=0700",
		"port=" + port,
		"cluster_name=license-ledger",
		"logging_collector=off",
		"log_destination=stderr",
		"log_checkpoints=off",
		"log_timezone=UTC",
		"timezone=UTC",
		// Nothing is replicated from here: the journal is the copy. Bulk loads of a rebuild then skip the log.
		"wal_level=minimal",
		"max_wal_senders=0",
	}
	if !fsync {
		settings = append(settings, "fsync=off", "full_page_writes=off")
	}
	args := []string{"-D", data}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	cmd := exec.Command(bin.path("postgres"), args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = logFile, logFile, shared.files
	// SIGQUIT ends it at once, as a crash of the machine would: whoever killed us may want to start again now.
	p.server, err = startChild(cmd, c.user, syscall.SIGQUIT)
	return err
}

// ready waits until Postgres takes connections, and makes the database when it is not there.
func (p *Postgres) ready(ctx context.Context) error {
	config, err := pgx.ParseConfig(p.URL())
	if err != nil {
		return err
	}
	config.Database = "postgres"
	for {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err == nil {
			defer conn.Close(ctx)
			return createDatabase(ctx, conn)
		}
		select {
		case <-p.server.exited:
			return fmt.Errorf("postgres ended: %w", p.server.err)
		case <-ctx.Done():
			return fmt.Errorf("it takes no connections: %w", errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func createDatabase(ctx context.Context, conn *pgx.Conn) error {
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&there); err != nil {
		return fmt.Errorf("look for database %s: %w", database, err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+database); err != nil {
		return fmt.Errorf("create database %s: %w", database, err)
	}
	return nil
}

// watch notes how the postmaster ended.
func (p *Postgres) watch(c cluster) {
	<-p.server.exited
	if !p.stopping.Load() {
		p.err = fmt.Errorf("Postgres ended on its own (%s)%s", p.server.cmd.ProcessState, c.logTail())
	}
	close(p.done)
}

// URL is the address of the database "ledger", for pgx and for psql, as a superuser.
func (p *Postgres) URL() string { return urlOf(p.sockets) }

func urlOf(sockets string) string {
	// PathEscape, because neither pgx nor psql reads a plus sign as a space.
	return "postgres://" + database + "@/" + database + "?host=" + url.PathEscape(sockets) + "&port=" + port + "&sslmode=disable"
}

// RunningPostgresURL is the URL of the Postgres that another process runs on dir, if one does. Its socket is for the user that runs it, and for
// root.
func RunningPostgresURL(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	sockets := runDir(dir)
	if !fits(sockets) {
		sockets = shortDir(dir)
	}
	return urlOf(sockets), nil
}

// Done is closed when Postgres has ended, whether by Stop or on its own.
func (p *Postgres) Done() <-chan struct{} { return p.done }

// Err says why Postgres ended on its own. It is nil before Done is closed, and after a Stop.
func (p *Postgres) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Stop ends Postgres: open sessions are cut off, everything committed is on disk. When ctx ends first, Postgres is
// stopped the hard way and repairs itself at the next start; the error says so. Stopping twice is harmless.
func (p *Postgres) Stop(ctx context.Context) error {
	if p.stopping.Swap(true) {
		<-p.done
		return nil
	}
	defer p.lock.Unlock()
	defer removeSocketDir(p.dir, p.sockets)
	p.server.signal(syscall.SIGINT)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	p.server.signal(syscall.SIGQUIT)
	select {
	case <-p.done:
	case <-time.After(quitTime):
		p.server.signal(syscall.SIGKILL)
		<-p.done
	}
	return fmt.Errorf("stop Postgres: it did not end in time and was stopped hard, its next start repairs it: %w", ctx.Err())
}
