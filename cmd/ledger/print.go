package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// print writes value as indented JSON if asked, else the rows as an aligned table.
func (o output) print(t terminal, value any, rows ...[]string) error {
	if o.JSON {
		e := json.NewEncoder(t.out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(value)
	}
	return table(t.out, rows...)
}

// table aligns rows. Names come from elsewhere: what would move the cursor is not printed.
func table(out io.Writer, rows ...[]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		clean := make([]string, len(row))
		for i, cell := range row {
			clean[i] = printable(cell)
		}
		fmt.Fprintln(w, strings.Join(clean, "\t"))
	}
	return w.Flush()
}

func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// when is an instant as a person reads it, in their time zone.
func when(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// seconds is a number of seconds as a person reads it: 5m, 1h30m.
func seconds(n int) string {
	text := (time.Duration(n) * time.Second).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}
