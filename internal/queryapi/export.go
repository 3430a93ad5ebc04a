package queryapi

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/internal/serve"
)

// format is the form of a list: a page, or the media type of a file with all rows.
type format string

const (
	formatPage   format = "application/json"
	formatCSV    format = "text/csv"
	formatJSONL  format = "application/jsonl"
	formatNDJSON format = "application/x-ndjson"
)

// formatOf returns the form that an Accept header prefers. What it does not know is no reason to refuse: then a page.
func formatOf(accept []string) format {
	best, most := formatPage, 0.0
	for item := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		media, parameters, _ := strings.Cut(strings.ToLower(item), ";")
		quality := 1.0
		for parameter := range strings.SplitSeq(parameters, ";") {
			if q, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
				if n, err := strconv.ParseFloat(q, 64); err == nil {
					quality = n
				}
			}
		}
		f := format(strings.TrimSpace(media))
		if f == "*/*" || f == "application/*" {
			f = formatPage
		}
		switch f {
		case formatPage, formatCSV, formatJSONL, formatNDJSON:
			if quality > most {
				best, most = f, quality
			}
		}
	}
	return best
}

// exports bounds how many run at once: each holds a connection of the pool for as long as its reader takes.
type exports chan struct{}

// begin waits for a place and returns how to leave it. Errors: 503 overloaded.
func (e exports) begin(ctx context.Context) (end func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	select {
	case e <- struct{}{}:
		return func() { <-e }, nil
	case <-ctx.Done():
		p := serve.NewProblem(http.StatusServiceUnavailable, "overloaded", "Too many exports run",
			fmt.Sprintf("%d exports run already. Nothing was done; try again in a moment.", cap(e)))
		p.RetryAfterSeconds = 5
		return nil, p
	}
}

// exportList sends all rows, or limit of them, as they are read: in one snapshot, holding one row at a time. A reader that
// stands still is cut off. When it breaks off the connection is cut, so that a part never looks like the whole.
func exportList[T any](a *API, w http.ResponseWriter, r *http.Request, l list[T], q listing[T], s sorted, limit int, as format) error {
	end, err := a.exports.begin(r.Context())
	if err != nil {
		return err
	}
	defer end()
	file := newFile(w, as)
	_, err = q.read(func(ctx context.Context, tx pgx.Tx) error {
		rows, err := l.query(ctx, tx, q, s, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		file.name = fileName(r, l.name, as)
		return l.write(file, rows, len(s.keys))
	})
	if err != nil && file.begun {
		a.log.WarnContext(r.Context(), "export broken off", "list", l.name, "request_id", serve.RequestID(r.Context()), "error", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// fileName returns, for example, acme-seats-20260301T090000Z.csv.
func fileName(r *http.Request, list string, as format) string {
	name := list + "-" + time.Now().UTC().Format("20060102T150405Z")
	if tenant := mux.Vars(r)["tenant"]; tenant != "" {
		name = tenant + "-" + name
	}
	switch as {
	case formatCSV:
		return name + ".csv"
	case formatNDJSON:
		return name + ".ndjson"
	}
	return name + ".jsonl"
}

// file is an answer that is written as it is made. Until the first part of it is full nothing was sent, and an error has an
// answer of its own.
type file struct {
	*bufio.Writer
	to    http.ResponseWriter
	as    format
	name  string
	begun bool
}

func newFile(w http.ResponseWriter, as format) *file {
	f := &file{to: w, as: as}
	f.Writer = bufio.NewWriterSize(part{f}, 32<<10)
	return f
}

func (f *file) begin() {
	f.begun = true
	h := f.to.Header()
	h.Set("Content-Type", string(f.as)+"; charset=utf-8")
	if f.as == formatCSV {
		h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	}
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", f.name))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	f.to.WriteHeader(http.StatusOK)
}

// finish sends what is left; of an empty file the headers.
func (f *file) finish() error {
	err := f.Flush()
	if err == nil && !f.begun {
		f.begin()
	}
	return err
}

// part sends parts of a file: its reader has a time for each, and none for the whole.
type part struct{ of *file }

// Write implements io.Writer.
func (p part) Write(b []byte) (int, error) {
	if !p.of.begun {
		p.of.begin()
	}
	if err := http.NewResponseController(p.of.to).SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return p.of.to.Write(b)
}

// write writes rows to a file, to the end.
func (l list[T]) write(f *file, rows pgx.Rows, keys int) error {
	table := csv.NewWriter(f)
	table.UseCRLF = true // RFC 4180
	cells := make([]string, len(l.fields))
	if f.as == formatCSV {
		for i, field := range l.fields {
			cells[i] = field.name
		}
		if err := table.Write(cells); err != nil {
			return err
		}
	}
	ignored := pointers(make([]string, keys))
	for rows.Next() {
		item, err := l.scan(rows, ignored...)
		if err != nil {
			return err
		}
		if f.as == formatCSV {
			for i, field := range l.fields {
				cells[i] = cellOf(field.of(item))
			}
			err = table.Write(cells)
		} else if err = json.MarshalWrite(f, item); err == nil {
			err = f.WriteByte('\n')
		}
		if err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if table.Flush(); table.Error() != nil {
		return table.Error()
	}
	return f.finish()
}

// cellOf returns a value as a cell of a CSV. Text that a spreadsheet would run as a formula gets a ' in front.
// Source: https://owasp.org/www-community/attacks/CSV_Injection
func cellOf(value any) string {
	v := reflect.ValueOf(value)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	if at, ok := v.Interface().(time.Time); ok {
		return at.UTC().Format(time.RFC3339Nano)
	}
	if v.Kind() != reflect.String {
		return fmt.Sprint(v.Interface())
	}
	text := v.String()
	if first, _ := utf8.DecodeRuneInString(text); text != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) {
		return "'" + text
	}
	return text
}
