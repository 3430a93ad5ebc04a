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

// Migrate brings the schema "read" to what this program needs, and row-level security under it; it only goes forward.
// Several services may call it at once: one migrates, the others wait for it, up to five minutes. Who does not own the schema
// only finds out whether it is there.
func Migrate(ctx context.Context, db *pgxpool.Pool) error {
	mine, err := owned(ctx, db)
	if err != nil || !mine {
		return err
	}
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
	return secure(ctx, db)
}

const ownedSelect = `
	SELECT coalesce((SELECT pg_has_role(current_user, nspowner, 'MEMBER') FROM pg_namespace WHERE nspname = 'read'), true)`

// owned reports whether the schema "read" is, or is going to be, this user's. Errors: it is another's, and older than this
// program.
func owned(ctx context.Context, db *pgxpool.Pool) (bool, error) {
	var mine bool
	if err := db.QueryRow(ctx, ownedSelect).Scan(&mine); err != nil || mine {
		return mine, err
	}
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return false, err
	}
	newest, err := goose.NumericComponent(files[len(files)-1])
	if err != nil {
		return false, err
	}
	var at int64
	if err := db.QueryRow(ctx, `SELECT max(version_id) FROM `+migrationsTable).Scan(&at); err != nil {
		return false, fmt.Errorf("look how new the read models are: %w", err)
	}
	if at < newest {
		return false, fmt.Errorf("the read models are at migration %d, this program needs %d: start a projector of this version first, as the owner of the schema", at, newest)
	}
	return false, nil
}
