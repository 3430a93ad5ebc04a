package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A test binary started with this variable is the program that gets killed: it starts what the value names in the
// directory of the first argument, says so, and waits.
const victim = "EMBEDDED_TEST_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(victim) == "" {
		os.Exit(m.Run())
	}
	if err := runVictim(os.Getenv(victim), os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

func runVictim(what, dir string) error {
	switch what {
	case "postgres":
		_, err := StartPostgres(context.Background(), PostgresOptions{Dir: dir, NoFsync: true})
		return err
	case "lock":
		_, err := Lock(dir)
		return err
	}
	return fmt.Errorf("no victim %q", what)
}

// startVictim starts this test binary as a program to kill, and returns when it is ready.
func startVictim(t *testing.T, what, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), victim+"="+what)
	in, err := cmd.StdinPipe() // open until the victim dies, or we do
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); in.Close() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		rest, _ := io.ReadAll(out)
		t.Fatalf("victim said %q %s", line, rest)
	}
	return cmd
}

func start(t *testing.T, dir string) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir, NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(context.Background()) })
	return p
}

func startFails(t *testing.T, options PostgresOptions, words ...string) {
	t.Helper()
	p, err := StartPostgres(t.Context(), options)
	if err == nil {
		p.Stop(context.Background())
		t.Fatalf("started, want an error with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error does not say %q:\n%v", w, err)
		}
	}
}

func stop(t *testing.T, p *Postgres) {
	t.Helper()
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func execute(t *testing.T, p *Postgres, sql string) {
	t.Helper()
	conn := connect(t, p)
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func query[T any](t *testing.T, p *Postgres, sql string) (value T) {
	t.Helper()
	conn := connect(t, p)
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func connect(t *testing.T, p *Postgres) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URL())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// eventually waits for a condition, for as long as the test may run.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !condition() {
		if end, ok := t.Deadline(); ok && time.Until(end) < 5*time.Second {
			t.Fatalf("never happened: %s", what)
		}
		<-poll.C
	}
}

func runningIn(t *testing.T, dir string) []int {
	t.Helper()
	pids, ok := postgresProcesses(filepath.Join(dir, "cluster"))
	if !ok {
		t.Fatal("processes cannot be listed here")
	}
	return pids
}

func TestPostgresKeepsItsDataAcrossARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a new", "50% directory")
	p := start(t, dir)
	if got := query[string](t, p, "SELECT current_database() || ' ' || current_user"); got != "ledger ledger" {
		t.Errorf("database and user are %q", got)
	}
	execute(t, p, "CREATE TABLE seats AS SELECT 5 AS n")
	stop(t, p)
	if pids := runningIn(t, dir); len(pids) > 0 {
		t.Errorf("still running after Stop: %v", pids)
	}
	if err := p.Err(); err != nil {
		t.Errorf("Err after Stop = %v", err)
	}
	stop(t, p) // twice is harmless

	p = start(t, dir)
	if got := query[int](t, p, "SELECT n FROM seats"); got != 5 {
		t.Errorf("after a restart the table holds %d, want 5", got)
	}
	if got := query[string](t, p, "SHOW fsync"); got != "off" {
		t.Errorf("fsync is %s", got)
	}
	stop(t, p)
	p, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, p)
	if got := query[string](t, p, "SHOW fsync"); got != "on" {
		t.Errorf("fsync is %s", got)
	}
}

func TestPostgresIsOutOfReach(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, dir)
	if got := query[string](t, p, "SHOW listen_addresses"); got != "" {
		t.Errorf("listens on %q", got)
	}
	for _, sub := range []string{"run", "cluster"} {
		info, err := os.Stat(filepath.Join(dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, want 0700", sub, info.Mode().Perm())
		}
	}
	// Not one of our variables reaches it: they may hold secrets.
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.server.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for v := range strings.SplitSeq(strings.Trim(string(env), "\x00"), "\x00") {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains([]string{"HOME", "LC_ALL", "PATH", "LD_LIBRARY_PATH"}, name) {
			t.Errorf("Postgres sees %s", v)
		}
	}
}

// As root a data directory of mode 0700 is closed to the user that Postgres runs as, and so is everything below /root.
func TestPostgresRunsBelowADirectoryThatItsUserMayNotEnter(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "data", "postgres")
	p := start(t, dir)
	execute(t, p, "CREATE TABLE numbers AS SELECT generate_series(1, 200000) AS n")
	execute(t, p, "SELECT pg_reload_conf()")
	// Parallel workers and a reload open files by name, too.
	const sum = `SELECT set_config('parallel_setup_cost', '0', false) <> '' AND set_config('parallel_tuple_cost', '0', false) <> '' AND
		(SELECT count(*) FROM numbers) = 200000`
	if !query[bool](t, p, sum) {
		t.Error("rows are missing")
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.server.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(status), "\nUid:\t0\t") || strings.Contains(string(status), "\nGroups:\t0 ") {
		t.Errorf("Postgres runs as root:\n%s", status)
	}
	stop(t, p)
	p = start(t, dir)
	if got := query[int](t, p, "SELECT count(*) FROM numbers"); got != 200000 {
		t.Errorf("after a restart there are %d rows", got)
	}
}

// After a backend dies Postgres starts over from its own log, within the same process.
func TestPostgresGoesOnAfterABackendWasKilled(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	execute(t, p, "CREATE TABLE seats AS SELECT 5 AS n")
	conn, witness := connect(t, p), connect(t, p)
	defer conn.Close(context.Background())
	defer witness.Close(context.Background())
	if err := syscall.Kill(int(conn.PgConn().PID()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Postgres cut off the other sessions", func() bool { return witness.Ping(t.Context()) != nil })
	eventually(t, "connections again", func() bool {
		again, err := pgx.Connect(t.Context(), p.URL())
		if err != nil {
			return false
		}
		return again.Close(t.Context()) == nil
	})
	if got := query[int](t, p, "SELECT n FROM seats"); got != 5 {
		t.Errorf("the table holds %d, want 5", got)
	}
	if err := p.Err(); err != nil {
		t.Error(err)
	}
}

func TestPostgresDirectoryThatCannotHoldASocket(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"too long": strings.Repeat("long", 40), "with a comma": "data, old"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testShortSocketDir(t, filepath.Join(t.TempDir(), dir))
		})
	}
}

func testShortSocketDir(t *testing.T, dir string) {
	p := start(t, dir)
	if got := query[int](t, p, "SELECT 1"); got != 1 {
		t.Error(got)
	}
	sockets := shortDir(dir)
	if p.sockets != sockets {
		t.Fatalf("socket is in %s, want %s", p.sockets, sockets)
	}
	info, err := os.Stat(sockets)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("%s has mode %v, want 0700", sockets, info.Mode().Perm())
	}
	stop(t, p)
	if _, err := os.Stat(sockets); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there after Stop: %v", sockets, err)
	}
	// A link that somebody else put there is not followed.
	if err := os.Symlink(t.TempDir(), sockets); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(sockets)
	startFails(t, PostgresOptions{Dir: dir, NoFsync: true}, sockets, "remove it")
}

func TestPostgresDiesWithItsParent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v := startVictim(t, "postgres", dir)
	if len(runningIn(t, dir)) == 0 {
		t.Fatal("the victim runs no Postgres")
	}
	v.Process.Kill()
	v.Wait()
	eventually(t, "Postgres ended after kill -9 of its parent", func() bool { return len(runningIn(t, dir)) == 0 })
	start(t, dir)
}

// Nothing waits between kill and start: the old Postgres may be on its way out, or at work.
func TestPostgresStartsRightAfterAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stop(t, start(t, dir))
	for range 5 {
		v := startVictim(t, "postgres", dir)
		v.Process.Kill()
		v.Wait()
		stop(t, start(t, dir))
	}
}

// orphan runs the cluster as a parent that left no way to be told would have left it.
func orphan(t *testing.T, dir string) *child {
	t.Helper()
	user, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{dir: dir, user: user, log: slog.New(slog.DiscardHandler)}
	bin, err := findBinaries(t.Context(), os.Getenv("PG_BIN"), debianBinaries, os.Getenv("PATH"), 0, user)
	if err != nil {
		t.Fatal(err)
	}
	logFile, err := c.openLog()
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	sockets, err := socketDir(dir, user)
	if err != nil {
		t.Fatal(err)
	}
	p := &Postgres{dir: dir, sockets: sockets}
	if err := p.launch(c, bin, false, logFile); err != nil {
		t.Fatal(err)
	}
	if err := p.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.server.signal(syscall.SIGKILL); <-p.server.exited })
	return p.server
}

func TestPostgresStopsAnOrphan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stop(t, start(t, dir))
	old := orphan(t, dir)
	p := start(t, dir)
	<-old.exited
	if old.err != nil {
		t.Errorf("the orphan ended with %v, want the end of a fast shutdown", old.err)
	}
	if got := query[int](t, p, "SELECT 1"); got != 1 {
		t.Error(got)
	}
}

// With a short socket directory, which is not in Dir, the old Postgres is also in the way of the new one.
func TestPostgresDeletedDirectoryMeansAFreshCluster(t *testing.T) {
	t.Parallel()
	for name, sub := range map[string]string{"socket inside": "data", "socket outside": strings.Repeat("long", 40)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), sub)
			p := start(t, dir)
			execute(t, p, "CREATE TABLE seats AS SELECT 5 AS n")
			stop(t, p)
			old := orphan(t, dir)
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			p = start(t, dir)
			<-old.exited
			if query[bool](t, p, "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'seats')") {
				t.Error("the deleted cluster came back")
			}
		})
	}
}

// After a crash a short socket directory keeps a number that another process may have by now.
func TestPostgresIgnoresAStaleSocketLock(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	user, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := socketDir(dir, user)
	if err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(sockets, ".s.PGSQL."+port+".lock")
	other := sameUser(t, user)
	if err := os.WriteFile(lock, []byte(strconv.Itoa(other)+"\n/somewhere\n1795445943\n5432\n"+sockets+"\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := user.own(lock); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
}

// sameUser runs something else as the user of Postgres until the test ends, and fails the test if that was killed.
func sameUser(t *testing.T, user account) (pid int) {
	t.Helper()
	other := exec.Command("cat")
	other.SysProcAttr, other.Dir = user.attributes(), "/"
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := other.Wait(); err != nil {
			t.Errorf("the process that has the number now: %v", err)
		}
	})
	return other.Process.Pid
}

// The postmaster alone was killed: its backends may live on for a moment, and its pid file stays.
func TestPostgresStartsAfterItsPostmasterWasKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stop(t, start(t, dir))
	old := orphan(t, dir)
	old.signal(syscall.SIGKILL)
	<-old.exited
	if _, err := os.Stat(filepath.Join(dir, "cluster", "postmaster.pid")); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
}

// After a reboot the number in the pid file may be another process of the same user, which is not to be touched.
func TestPostgresIgnoresAStalePidFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stop(t, start(t, dir))
	user, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	other := sameUser(t, user)
	for _, name := range []string{"cluster/postmaster.pid", "run/.s.PGSQL.5432.lock"} {
		text := strconv.Itoa(other) + "\n" + filepath.Join(dir, "cluster") + "\n1795445943\n5432\n" + filepath.Join(dir, "run") + "\n\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := user.own(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	start(t, dir)
}

func TestPostgresThatEndsOnItsOwnSaysSo(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	if err := p.Err(); err != nil {
		t.Fatal(err)
	}
	p.server.signal(syscall.SIGQUIT)
	<-p.Done()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "immediate shutdown") {
		t.Errorf("Err = %v, want the end of the log", err)
	}
	stop(t, p)
}

func TestPostgresStopsHardWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, dir)
	p.server.signal(syscall.SIGSTOP) // it does nothing about a polite request
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop = %v, want context.Canceled", err)
	}
	start(t, dir)
}

func TestPostgresThrowsAwayHalfACluster(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	half := filepath.Join(dir, creating+"123")
	if err := os.Mkdir(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
	if left, _ := filepath.Glob(filepath.Join(dir, creating+"*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPostgresGivenUpWhileItMakesACluster(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := StartPostgres(ctx, PostgresOptions{Dir: dir, NoFsync: true})
		result <- err
	}()
	eventually(t, "initdb began", func() bool {
		begun, _ := filepath.Glob(filepath.Join(dir, creating+"*", "PG_VERSION"))
		return len(begun) > 0
	})
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Fatalf("StartPostgres = %v, want context.Canceled", err)
	}
	start(t, dir)
}

func TestPostgresDirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, dir)
	startFails(t, PostgresOptions{Dir: dir, NoFsync: true}, "in use by process "+strconv.Itoa(os.Getpid()), dir)
	if got := query[int](t, p, "SELECT 1"); got != 1 {
		t.Error("the first one was disturbed")
	}
}

func TestPostgresClusterOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "cluster")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	version := filepath.Join(data, "PG_VERSION")
	for major, advice := range map[string]string{"11": "move " + dir + " away", "99": "apt-get install postgresql-99"} {
		if err := os.WriteFile(version, []byte(major+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		startFails(t, PostgresOptions{Dir: dir, NoFsync: true}, data, "Postgres "+major, "installed is Postgres", advice, "move "+dir+" away", "rebuilds the read models")
		if _, err := os.Stat(version); err != nil {
			t.Errorf("the old cluster was touched: %v", err)
		}
	}

	if err := os.Rename(version, filepath.Join(data, "notes.txt")); err != nil {
		t.Fatal(err)
	}
	startFails(t, PostgresOptions{Dir: dir, NoFsync: true}, data, "no PG_VERSION", "move it away")
}

func TestPostgresQuotesItsLogWhenItDoesNotStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stop(t, start(t, dir))
	hba := filepath.Join(dir, "cluster", "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	startFails(t, PostgresOptions{Dir: dir, NoFsync: true}, "could not load pg_hba.conf", filepath.Join(dir, "postgres.log"))
	if pids := runningIn(t, dir); len(pids) > 0 {
		t.Errorf("still running: %v", pids)
	}
	if err := os.WriteFile(hba, []byte("local all all trust\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
}

func TestNoPostgresBinaries(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	startFails(t, PostgresOptions{Dir: t.TempDir(), Bin: empty}, "PG_BIN="+empty, "apt-get install postgresql")
}

// fakeBinaries makes a folder whose postgres answers with version.
func fakeBinaries(t *testing.T, root, version string) string {
	t.Helper()
	dir := filepath.Join(root, version, "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "postgres"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s (Debian)'\n", name, version)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindBinaries(t *testing.T) {
	t.Parallel()
	user := account{name: "of the test"} // who may be the only one to see the directory
	root := t.TempDir()
	old, current, newest := fakeBinaries(t, root+"/old", "9.6"), fakeBinaries(t, root+"/usr", "15.4"), fakeBinaries(t, root+"/usr", "18beta1")
	onPath := fakeBinaries(t, root+"/local", "17.2")
	glob := filepath.Join(root, "usr", "*", "bin")
	none := filepath.Join(root, "none", "*", "bin")
	for _, c := range []struct {
		name, bin, glob, path string
		cluster               int
		want                  string
		problem               []string
	}{
		{name: "newest installed", glob: glob, path: onPath, want: newest},
		{name: "PG_BIN goes first", bin: current, glob: glob, path: onPath, want: current},
		{name: "PATH goes last", glob: none, path: root + ":" + onPath, want: onPath},
		{name: "the one that made the cluster", glob: glob, path: onPath, cluster: 15, want: current},
		{name: "the one on PATH made it", glob: glob, path: onPath, cluster: 17, want: onPath},
		{name: "an old one is passed over", glob: filepath.Join(root, "*", "*", "bin"), want: newest},
		{name: "only an old one", glob: filepath.Join(root, "old", "*", "bin"), problem: []string{"Postgres 9", old, "too old", "15", "apt-get install postgresql"}},
		{name: "PG_BIN hides the others", bin: root, glob: glob, problem: []string{"PG_BIN=" + root, "apt-get install postgresql"}},
		{name: "none", glob: none, problem: []string{none, "PATH", "PG_BIN", "apt-get install postgresql"}},
		{name: "too old, cluster and all", glob: filepath.Join(root, "old", "*", "bin"), cluster: 9, problem: []string{"Postgres 9", old}},
		{name: "none for the cluster", glob: glob, cluster: 14, problem: []string{"Postgres 14", "Postgres 18"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := findBinaries(t.Context(), c.bin, c.glob, c.path, c.cluster, user)
			if got.dir != c.want {
				t.Errorf("found %q, want %q (%v)", got.dir, c.want, err)
			}
			for _, word := range c.problem {
				if err == nil || !strings.Contains(err.Error(), word) {
					t.Errorf("error does not say %q: %v", word, err)
				}
			}
		})
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v := startVictim(t, "lock", dir)
	_, err := Lock(dir)
	if err == nil {
		t.Fatal("two processes have one directory")
	}
	for _, word := range []string{dir, strconv.Itoa(v.Process.Pid), "stop it first", "--data"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error does not say %q: %v", word, err)
		}
	}
	v.Process.Kill()
	v.Wait()
	l, err := Lock(dir)
	if err != nil {
		t.Fatalf("after the holder was killed: %v", err)
	}
	if _, err := Lock(dir); err == nil || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("second lock in one process = %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	l, err = Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Unlock()
}

// A command that is being started has a copy of every open file for a moment.
func TestUnlockWhileACommandStarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	held, err := syscall.Dup(int(l.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(held)
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if l, err = Lock(dir); err != nil {
		t.Fatal(err)
	}
	l.Unlock()
}

// listening returns the TCP ports that this process listens on, by its open sockets.
func listening(t *testing.T) []string {
	t.Helper()
	mine := map[string]bool{}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			mine[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var ports []string
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st … inode
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && mine[f[9]] {
				ports = append(ports, f[1])
			}
		}
	}
	return ports
}
