package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// report prints the table and writes results.md and results.json.
func report(cfg config, r *results) error {
	var table strings.Builder
	echo := median(r.Samples[rowEcho]).PerSecond
	fmt.Fprintf(&table, "| %-28s | requests/s | × echo | p50 ms | p99 ms |\n|%s|---:|---:|---:|---:|\n", "row", strings.Repeat("-", 30))
	for _, row := range rows {
		s := median(r.Samples[row])
		fmt.Fprintf(&table, "| %-28s | %10.0f | %6.2f | %6.2f | %6.2f |\n", row, s.PerSecond, s.PerSecond/echo, ms(s.P50), ms(s.P99))
	}
	batches := median(r.Samples[rowBatches]).PerSecond
	fmt.Fprintf(&table, "\n%.0f leases/s renewed in batches. The disk alone: %.0f syncs/s.\n", batches*leasesPerWorker, r.SyncsPerSecond)
	fmt.Fprintf(&table, "%d connections, median of %d rounds of %s, %d licenses; every command fsynced before its answer.\n",
		cfg.Connections, cfg.Rounds, cfg.Duration, cfg.Licenses)
	fmt.Fprintf(&table, "%s, %d cores shared with the load generator, %s.\n", runtime.Version(), runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	fmt.Printf("\n%s", table.String())

	if err := os.WriteFile(filepath.Join(cfg.Out, "results.md"), []byte("# Command side\n\n"+table.String()), 0o644); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(cfg.Out, "results.json"), append(text, '\n'), 0o644)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
