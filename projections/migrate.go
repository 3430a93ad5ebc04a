package projections

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationsTable is where goose notes what it applied. It stays out of the schema "read", which a rebuild may drop.
const migrationsTable = "read_migrations"

// Migrate brings the schema "read" to what this program needs; it only goes forward. Several services may call it at
// once: one migrates, the others wait for it, up to five minutes.
func Migrate(ctx context.Context, db *pgxpool.Pool) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	store, err := database.NewStore(database.DialectPostgres, migrationsTable)
	if err != nil {
		return err
	}
	conns := stdlib.OpenDBFromPool(db)
	defer conns.Close() // of the adapter; the pool stays open
	provider, err := goose.NewProvider("", conns, files,
		goose.WithStore(store), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true),
		goose.WithAllowOutofOrder(true)) // each stands for itself: their numbers tell read models apart, not when they came
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate the read models: %w", err)
	}
	return nil
}
