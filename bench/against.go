package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
)

// pairs is how often a row is measured on both builds, each time for an eighth of the duration: a machine whose speed
// changes from one second to the next changes it for both.
const pairs = 40

// measureAgainst measures rows on the servers of this build and on those of another in turns, and prints the ratios.
func measureAgainst(ctx context.Context, cfg config, all []measured) error {
	for i, m := range all {
		other, err := startProgram(ctx, cfg.Against, "ledger", filepath.Join(cfg.Dir, fmt.Sprint("against-", i)), m.server.fills)
		if err != nil {
			return fmt.Errorf("%s: %w", cfg.Against, err)
		}
		servers := [2]measured{m, {server: other, do: m.work(newWorkload(other))}}
		var answered [2]int
		var ratios []float64
		for range pairs {
			var now [2]float64
			for i, s := range servers {
				times, err := load(ctx, s.server.addr, cfg.Connections, cfg.Duration/8, s.do)
				if err != nil {
					other.stop()
					return fmt.Errorf("%s: %w", m.row, err)
				}
				answered[i] += len(times)
				now[i] = float64(len(times))
			}
			ratios = append(ratios, now[0]/now[1])
		}
		other.stop()
		slices.Sort(ratios)
		fmt.Printf("%s: %.3f × (%d requests against %d); of the pairs %.3f, half of them between %.3f and %.3f\n", m.row, float64(answered[0])/float64(answered[1]),
			answered[0], answered[1], ratios[pairs/2], ratios[pairs/4], ratios[pairs*3/4])
	}
	return nil
}
