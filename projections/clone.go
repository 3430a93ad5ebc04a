package projections

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// create makes empty tables like those of the schema "read", with the indexes by which projections find rows.
func (b *rebuild) create(ctx context.Context) error {
	made := schemaOf(b.version)
	return pgx.BeginFunc(ctx, b.o.DB, func(tx pgx.Tx) error {
		if err := b.checkMovable(ctx, tx); err != nil {
			return err
		}
		statements := []string{
			`CREATE SCHEMA ` + made,
			`COMMENT ON SCHEMA ` + made + ` IS '` + noteMaking + strings.Join(group{projections: b.projections}.names(), ",") + `'`,
			`CREATE TABLE ` + made + `.checkpoints (LIKE read.checkpoints INCLUDING ALL)`,
		}
		for _, table := range b.tables {
			statements = append(statements, fmt.Sprintf(`CREATE TABLE %s.%s (LIKE read.%s INCLUDING ALL EXCLUDING INDEXES)`, made, table, table))
		}
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		for _, table := range b.tables {
			for _, missing := range []string{cloneOptions, cloneKeys} {
				if err := executeAll(ctx, tx, missing, made, table); err != nil {
					return err
				}
			}
			if err := executeAll(ctx, tx, cloneNeededIndexes, made, table, neededIndexes); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, admit(made))
		return err
	})
}

// indexingMax is how many tables are indexed at the same time, each on a connection of its own.
const indexingMax = 2

// index adds the indexes that only queries use: made at once they cost less than row by row.
func (b *rebuild) index(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(indexingMax)
	for i, table := range b.tables {
		b.o.Progress("indexing", uint64(i), uint64(len(b.tables)))
		all.Go(func() error {
			return pgx.BeginFunc(ctx, b.o.DB, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, `SET LOCAL maintenance_work_mem = '128MB'`); err != nil {
					return err
				}
				if err := executeAll(ctx, tx, cloneOtherIndexes, schemaOf(b.version), table); err != nil {
					return err
				}
				return executeAll(ctx, tx, analyzeIndexed, schemaOf(b.version), table)
			})
		})
	}
	return all.Wait()
}

// neededIndexes are those by which projections find rows beside primary keys. One that is missing here makes a rebuild slow.
var neededIndexes = []string{
	"audit_entries_of_license", "history_present", "leases_active_of_license", "tenant_keys_of_member", "usage_leases_of_seat",
}

// Each of these gives the statements that make what table $2 of the schema $1 lacks of the one in "read", under the same names.
const (
	cloneOptions = `
		SELECT format('ALTER TABLE %I.%I SET (%s)', $1::text, c.relname, array_to_string(c.reloptions, ', '))
		FROM pg_class c WHERE c.oid = format('read.%I', $2::text)::regclass AND c.reloptions IS NOT NULL`

	cloneKeys = `
		SELECT format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', $1::text, $2::text, k.conname, pg_get_constraintdef(k.oid))
		FROM pg_constraint k WHERE k.conrelid = format('read.%I', $2::text)::regclass AND k.contype IN ('p', 'u', 'x')
		ORDER BY k.conname`

	cloneNeededIndexes = cloneIndexes + ` AND c.relname = ANY($3)`
	cloneOtherIndexes  = cloneIndexes

	// Rows are looked for by the columns of indexes. To look at the others, which are the long ones, is most of the work.
	analyzeIndexed = `
		SELECT format('ANALYZE %I.%I (%s)', $1::text, $2::text, string_agg(DISTINCT quote_ident(a.attname), ', '))
		FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
		WHERE i.indrelid = format('%I.%I', $1::text, $2::text)::regclass`

	cloneIndexes = `
		SELECT replace(pg_get_indexdef(i.indexrelid), format(' ON read.%I ', $2::text), format(' ON %I.%I ', $1::text, $2::text))
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid = format('read.%I', $2::text)::regclass
			AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
			AND to_regclass(format('%I.%I', $1::text, c.relname)) IS NULL`
)

// executeAll executes the statements that a query gives.
func executeAll(ctx context.Context, tx pgx.Tx, query string, args ...any) error {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// describeTable is what a table is, but for its schema, its rights and its rows.
const describeTable = `
	SELECT concat_ws(E'\n', array_to_string(c.reloptions, ', '),
		(SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated, a.attcompression, a.attstorage,
			pg_get_expr(d.adbin, d.adrelid)), E'\n' ORDER BY a.attnum)
		FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
		(SELECT string_agg(k.conname || ' ' || pg_get_constraintdef(k.oid), E'\n' ORDER BY k.conname) FROM pg_constraint k WHERE k.conrelid = c.oid),
		(SELECT string_agg(replace(pg_get_indexdef(i.indexrelid), format(' ON %I.', $1::text), ' ON '), E'\n' ORDER BY i.indexrelid::regclass::text)
		FROM pg_index i WHERE i.indrelid = c.oid))
	FROM pg_class c WHERE c.oid = format('%I.%I', $1::text, $2::text)::regclass`

func describe(ctx context.Context, tx pgx.Tx, schema, table string) (text string, err error) {
	err = tx.QueryRow(ctx, describeTable, schema, table).Scan(&text)
	return text, err
}

// checkMovable refuses what a rebuild does not know how to make again: it must not be lost in silence.
func (b *rebuild) checkMovable(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		SELECT format('the table %s is partitioned', c.relname) FROM pg_class c
			WHERE c.relnamespace = 'read'::regnamespace AND c.relname = ANY($1) AND c.relkind = 'p'
		UNION ALL SELECT format('the table %s has the foreign key %s', c.relname, k.conname) FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid
			WHERE c.relnamespace = 'read'::regnamespace AND c.relname = ANY($1) AND k.contype = 'f'
		UNION ALL SELECT format('the table %s has the trigger %s', c.relname, g.tgname) FROM pg_class c JOIN pg_trigger g ON g.tgrelid = c.oid
			WHERE c.relnamespace = 'read'::regnamespace AND c.relname = ANY($1) AND NOT g.tgisinternal
		UNION ALL SELECT format('the view %s reads the table %s', r.ev_class::regclass, c.relname) FROM pg_class c
			JOIN pg_depend d ON d.refobjid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_rewrite'::regclass
			JOIN pg_rewrite r ON r.oid = d.objid
			WHERE c.relnamespace = 'read'::regnamespace AND c.relname = ANY($1)`, b.tables)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("a rebuild cannot make this again: %s", strings.Join(found, "; "))
	}
	return err
}
