// Package progress tells a person how far long work is: a bar on a terminal, elsewhere a line now and then.
package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Bar is the progress of one piece of work. It is not safe for concurrent use.
type Bar struct {
	out   io.Writer
	what  string
	unit  string
	bar   *progressbar.ProgressBar // nil when out is no terminal
	began time.Time
	said  time.Time // when the last line was written
	done  uint64
	total uint64
}

// lineEvery is how often a line is written where there is no terminal.
const lineEvery = 10 * time.Second

// New returns a bar that writes to out: what is being done, such as "reading", and of what, such as "commits". Nothing is
// written before the first Set, so work that is short says nothing.
func New(out io.Writer, what, unit string) *Bar {
	b := &Bar{out: out, what: what, unit: unit, began: time.Now(), said: time.Now()}
	if IsTerminal(out) {
		b.bar = progressbar.NewOptions64(-1,
			progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString(unit), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetPredictTime(true),
			progressbar.OptionClearOnFinish(), progressbar.OptionFullWidth())
	}
	return b
}

// Set tells that done of total are done. The total may change.
func (b *Bar) Set(done, total uint64) {
	b.done, b.total = done, total
	if b.bar != nil {
		if b.bar.GetMax64() != int64(total) {
			b.bar.ChangeMax64(int64(total))
		}
		_ = b.bar.Set64(int64(done)) // that the terminal is gone stops no work
		return
	}
	if now := time.Now(); now.Sub(b.said) >= lineEvery {
		b.said = now
		fmt.Fprintf(b.out, "%s: %d of %d %s (%d %%), %.0f/s, %s left\n", b.what, done, total, b.unit, percent(done, total), b.Rate(), b.left())
	}
}

// Rate is how many were done a second, so far.
func (b *Bar) Rate() float64 { return float64(b.done) / max(time.Since(b.began).Seconds(), 1e-9) }

// End takes the bar away.
func (b *Bar) End() {
	if b.bar != nil {
		_ = b.bar.Finish()
		_ = b.bar.Clear()
	}
}

func (b *Bar) left() time.Duration {
	return time.Duration(float64(b.total-min(b.done, b.total)) / max(b.Rate(), 1e-9) * float64(time.Second)).Round(time.Second)
}

func percent(done, total uint64) uint64 {
	if total == 0 {
		return 100
	}
	return done * 100 / total
}

// IsTerminal reports whether a person sees what is written to out.
func IsTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
