package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/audit"
)

type exportCommand struct {
	historyOf
	period
	Out   string `required:"" short:"o" placeholder:"FILE" help:"The file to write; - for the standard output."`
	Names bool   `help:"Add what the pseudonyms in the events stand for today. Such a file holds personal data."`
}

func (exportCommand) Help() string {
	return `Writes the events of a tenant as they are stored, with what is needed to check that none was changed, left out or moved:
ledger verify does, anywhere, without the ledger. The file is text, a JSON object a line; docs/AUDIT.md describes it.

It is written whole or not at all.

Examples:

  ledger export --tenant acme --out acme.ledger
  ledger verify acme.ledger
  ledger export --tenant acme --from 2026-01-01 --to 2026-02-01 --out acme-january.ledger`
}

// Run implements the command.
func (c *exportCommand) Run(ctx context.Context, t terminal) (err error) {
	s, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer s.close()
	var end audit.End
	err = whole(c.Out, t.out, func(out io.Writer) error {
		end, err = c.export(ctx, s, out)
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.logs, "%d events of %s, up to version %d. Note the head, to know this history again: %s\n", end.Events, c.Tenant, end.Version, end.Head)
	return err
}

func (c *exportCommand) export(ctx context.Context, s *source, out io.Writer) (audit.End, error) {
	tenant := domain.TenantID(c.Tenant)
	var x *audit.Exporter
	begin := func() {
		if x == nil {
			x = audit.NewExporter(out, audit.Header{
				Ledger: s.ledger, Tenant: tenant, Partition: uint16(s.partition), ExportedAt: time.Now().UTC().Truncate(time.Second), From: c.From.orNil(), To: c.To.orNil(),
			})
		}
	}
	seen, any := map[domain.Pseudonym]bool{}, false
	err := s.read(ctx, func(slice audit.Slice) error {
		any = true
		if !c.holds(slice.Events[0].Time) {
			return nil
		}
		begin()
		for _, e := range slice.Events {
			for _, p := range domain.Pseudonyms(e.Data) {
				seen[p] = true
			}
		}
		return x.Add(slice)
	})
	if err != nil {
		return audit.End{}, err
	}
	if !any {
		return audit.End{}, noEvents(c.Tenant)
	}
	begin()
	if c.Names {
		text, err := s.texts(ctx)
		if err == nil {
			err = audit.AddNames(x, seen, text)
		}
		if err != nil {
			return audit.End{}, err
		}
	}
	return x.Close()
}

// whole writes a file whole or not at all.
func whole(path string, stdout io.Writer, write func(io.Writer) error) (err error) {
	if path == "-" {
		buffered := bufio.NewWriter(stdout)
		if err := write(buffered); err != nil {
			return err
		}
		return buffered.Flush()
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // after the rename there is nothing to remove
	defer file.Close()
	buffered := bufio.NewWriterSize(file, 1<<20)
	if err := write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
