package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/audit"
	"github.com/coditect-ai/license-ledger/internal/progress"
)

type verifyCommand struct {
	File   string `arg:"" optional:"" placeholder:"FILE" help:"An export, as ledger export writes it."`
	Live   bool   `help:"Check a whole ledger instead: see below."`
	Tenant string `placeholder:"TENANT" help:"Whose export it has to be. Default: whosever it is."`
	Head   string `placeholder:"HEAD" help:"With what head the tenant's chain has to end, from where the file's maker could not change it."`
	liveLedger
	output
}

func (verifyCommand) Help() string {
	return `With a file: needs that and nothing else. It checks that the file is undamaged; that its events follow from each other, by the tenant's own
chain, so that none was changed, left out, added or moved since it was stored; and that they obey the rules: that no seat was
oversold. The first thing that is wrong is named, and the exit code is 1.

What it cannot see without --head is a history that was written anew as a whole, or cut at its end. docs/AUDIT.md tells more.

With --live: reads a whole ledger, every event of it, and checks the chain of each partition and of each tenant, and the rules; that the
archive holds the same commits as the journal; and that every row of the read models is what the events add up to. Name the
services' nats-server and Postgres, which may be at work meanwhile; or the --data folder of a ledger up that is down.
All of the ledger's present state is held in memory.

Examples:

  ledger verify acme.ledger
  ledger verify --live --data ./data
  ledger verify --live --nats-url nats://nats:4222 --database-url postgres://…`
}

// verified is what ledger verify --json prints of a file that is right.
type verified struct {
	File  string         `json:"file"`
	Bytes int64          `json:"bytes"`
	From  audit.Header   `json:"from"`
	End   audit.End      `json:"end"`
	First *time.Time     `json:"first,omitempty"`
	Last  *time.Time     `json:"last,omitempty"`
	Types map[string]int `json:"types"`
	Whole bool           `json:"whole"` // it begins with the tenant's first event, so that the rules could be checked, too
	Head  bool           `json:"head"`  // it ends with the head that was asked for
}

// Run implements the command.
func (c *verifyCommand) Run(ctx context.Context, t terminal) error {
	switch {
	case c.Live && (c.File != "" || c.Tenant != "" || c.Head != ""):
		return errors.New("--live checks a whole ledger: it goes with neither a file nor --tenant and --head")
	case c.Live:
		return c.live(ctx, t, c.output)
	case c.File == "":
		return hintf("Name an export: ledger verify acme.ledger. Or check a whole ledger: ledger verify --live", "no file to verify")
	}
	o := audit.Options{Tenant: domain.TenantID(c.Tenant)}
	if c.Head != "" {
		if err := o.Head.UnmarshalText([]byte(c.Head)); err != nil {
			return fmt.Errorf("--head: %w", err)
		}
	}
	file, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	bar := progress.New(t.logs, "verifying", "bytes")
	o.Read = func(n int64) { bar.Set(uint64(n), uint64(info.Size())) }
	report, err := audit.Verify(file, o)
	bar.End()
	if err != nil {
		return fmt.Errorf("%s is not right: %w", c.File, err)
	}
	if c.JSON {
		v := verified{
			File: c.File, Bytes: info.Size(), From: report.Header, End: report.End, Types: report.Types,
			Whole: report.Tenant != nil, Head: o.Head != eventstore.Hash{},
		}
		if report.End.Events > 0 {
			v.First, v.Last = &report.First, &report.Last
		}
		return c.print(t, v)
	}
	return c.tell(t, report, o)
}

func (c *verifyCommand) tell(t terminal, r audit.Report, o audit.Options) error {
	rules := "the file does not begin with the first event, so they were not checked"
	if r.Tenant != nil {
		rules = "obeyed by every event: no seat was oversold"
	}
	end := "not compared with one from elsewhere (--head): a history cut here, or written anew, would look the same"
	if o.Head != (eventstore.Hash{}) {
		end = "the one asked for"
	}
	rows := [][]string{
		{"Tenant", string(r.Header.Tenant) + ", of the ledger " + r.Header.Ledger},
		{"Events", fmt.Sprintf("%d in %d commits, versions %d to %d", r.End.Events, r.End.Slices, r.Header.After+1, r.End.Version)},
	}
	if r.End.Events == 0 {
		rows[1][1] = "none"
	} else {
		rows = append(rows, []string{"Time", when(r.First) + " to " + when(r.Last)})
	}
	rows = append(rows, []string{"File", "whole and undamaged"}, []string{"Chain", "whole: nothing was changed, left out, added or moved"},
		[]string{"Rules", rules}, []string{"Head", r.End.Head.String()}, []string{"", end})
	if err := table(t.out, rows...); err != nil {
		return err
	}
	types := [][]string{{"", ""}}
	for eventType, n := range r.Types {
		types = append(types, []string{strconv.Itoa(n), shortType(eventType)})
	}
	slices.SortFunc(types[1:], compareCounts)
	return table(t.out, types...)
}

// compareCounts puts the most frequent first.
func compareCounts(a, b []string) int {
	m, _ := strconv.Atoi(a[0])
	n, _ := strconv.Atoi(b[0])
	if m != n {
		return n - m
	}
	return slices.Compare(a[1:], b[1:])
}
