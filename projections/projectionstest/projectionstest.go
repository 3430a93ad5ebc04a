// Package projectionstest gives tests a Postgres with the read models, and histories to project.
package projectionstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coditect-ai/license-ledger/internal/embedded"
	"github.com/coditect-ai/license-ledger/projections"
)

// Run runs the tests of a package; call it from TestMain. All of them share one throwaway Postgres, started when the
// first needs it and stopped here.
func Run(m *testing.M) int {
	code := m.Run()
	if cluster.stop != nil {
		if err := cluster.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop Postgres:", err)
			return 1
		}
	}
	return code
}

// cluster is the Postgres of this test binary.
var cluster struct {
	once sync.Once
	url  string
	stop func() error
	err  error
}

const template = "read_template"

var databases atomic.Int64

// New returns a database of its own with empty read models. It is dropped when the test ends.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	cluster.once.Do(func() { cluster.err = start(context.Background()) })
	if cluster.err != nil {
		t.Fatalf("Postgres for tests: %v", cluster.err)
	}
	ctx := context.Background()
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), databases.Add(1))
	if err := execute(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatal(err)
	}
	db, err := connect(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		db.Close()
		if err := execute(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return db
}

// As returns another pool on the database of db, with a role of the services such as projections.QueryRole.
func As(t testing.TB, db *pgxpool.Pool, role string) *pgxpool.Pool {
	t.Helper()
	config := db.Config()
	config.ConnConfig.RuntimeParams["role"] = role
	as, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(as.Close)
	return as
}

func connect(ctx context.Context, database string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(cluster.url)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.Database = database
	return pgxpool.NewWithConfig(ctx, config)
}

// execute runs one statement on a connection of its own.
func execute(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, cluster.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// start starts Postgres and makes the template of all databases.
func start(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "ledger-postgres-")
	if err != nil {
		return err
	}
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: dir, NoFsync: true})
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	cluster.url = postgres.URL()
	cluster.stop = func() error { return errors.Join(postgres.Stop(ctx), os.RemoveAll(dir)) }
	if err := execute(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	db, err := connect(ctx, template)
	if err != nil {
		return err
	}
	defer db.Close() // a template must have no connections
	return projections.Migrate(ctx, db)
}
