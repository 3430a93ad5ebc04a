package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/coditect-ai/license-ledger/projections"
)

type projectionCommands struct {
	List  projectionList  `cmd:"" help:"Every read model: where it stands, and whether it is parked."`
	Park  projectionPark  `cmd:"" help:"Set a read model aside: it stands still, the others go on."`
	Retry projectionRetry `cmd:"" help:"Let a parked read model go on from where it stands."`
}

// Help is what ledger projection --help adds.
func (projectionCommands) Help() string {
	return `A read model is made from the journal, commit by commit. A commit that it cannot read or apply stops the projector, which
says which commit it is and why; nothing is skipped. To let the other read models go on meanwhile, park that one:

  ledger projection list             who stands where; parked ones say why
  ledger projection park usage       the projector goes on without it; its rows stay as old as they are
  ledger projection retry usage      after the cause is mended: it goes on from there

PROJECTOR_PARK of the projector names read models that are parked by themselves. Rows that are wrong, and not only old,
are made anew with: ledger rebuild`
}

type projectionList struct {
	database
	output
}

// Run prints where the projections stand.
func (c projectionList) Run(ctx context.Context, t terminal) error {
	db, stop, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer stop()
	all, err := projections.Standings(ctx, db)
	if err != nil {
		return err
	}
	if len(all) == 0 && !c.JSON {
		fmt.Fprintln(t.out, "No read models yet: the projector has not started.")
		return nil
	}
	rows := [][]string{{"PROJECTION", "PARTITION", "COMMIT", "OF", "BEHIND", "STATE", "WHY"}}
	for _, s := range all {
		state, at := "follows", "-"
		if !s.ParkedAt.IsZero() {
			state = "parked " + when(s.ParkedAt)
		}
		if !s.Time.IsZero() {
			at = when(s.Time)
		}
		behind := max(s.Archived, s.Seq) - s.Seq
		rows = append(rows, []string{s.Projection, strconv.Itoa(int(s.Partition)), strconv.FormatUint(s.Seq, 10), at, strconv.FormatUint(behind, 10), state, s.Because})
	}
	return c.print(t, all, rows...)
}

// projectionArg names a read model.
type projectionArg struct {
	Projection string `arg:"" help:"Name of the read model, such as usage; ledger projection list has them."`
}

type projectionPark struct {
	projectionArg
	database
	Reason string `placeholder:"TEXT" default:"by hand" help:"Why; ledger projection list shows it. Default: ${default}."`
}

// Run parks a projection.
func (c projectionPark) Run(ctx context.Context, t terminal) error {
	db, stop, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer stop()
	n, err := projections.Park(ctx, db, c.Projection, c.Reason)
	if err != nil {
		return c.explain(err)
	}
	if n == 0 {
		fmt.Fprintf(t.out, "%s is parked already, or has not begun.\n", c.Projection)
		return nil
	}
	fmt.Fprintf(t.out, "%s is parked in %d partitions. Its rows stay as they are until: ledger projection retry %s\n", c.Projection, n, c.Projection)
	return nil
}

func (c projectionArg) explain(err error) error {
	if errors.Is(err, projections.ErrNoProjection) {
		return hinted{err, "See which there are with: ledger projection list"}
	}
	return err
}

type projectionRetry struct {
	projectionArg
	database
}

// Run lets a projection go on.
func (c projectionRetry) Run(ctx context.Context, t terminal) error {
	db, stop, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer stop()
	n, err := projections.Retry(ctx, db, c.Projection)
	if err != nil {
		return c.explain(err)
	}
	if n == 0 {
		fmt.Fprintf(t.out, "%s is not parked.\n", c.Projection)
		return nil
	}
	fmt.Fprintf(t.out, "%s goes on in %d partitions, as soon as a projector runs. See how far it is with: ledger projection list\n", c.Projection, n)
	return nil
}
