package queryapi

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/coditect-ai/license-ledger/internal/serve"
)

// list is a list call: where its rows come from, in which orders they can be asked for, and how they are exported. serveList
// answers it. What filters is up to the call.
type list[T any] struct {
	name    string // of the exported file
	columns string // a select list for scan
	tables  string // what stands behind FROM
	scan    func(row pgx.CollectableRow, more ...any) (T, error)
	orders  []order
	sort    string // the order when none is asked for: a name, or -name for the reverse
	fields  []field[T]
}

// order is a way to sort a list. An index has its keys, behind the columns that all requests name: whichever page is asked
// for, it is read from the index, and no other is.
type order struct {
	name string // as in ?sort=
	keys []key  // together unique in the list, never null
}

// key is an expression of SQL and its type. As text and back it must stay the same.
type key struct{ sql, kind string }

// field is a column of a CSV.
type field[T any] struct {
	name string
	of   func(T) any // a string, a number, a bool or a time; of a nil pointer the cell is empty
}

// listing is one request of a list.
type listing[T any] struct {
	// read does the reading; it says whose rows.
	read  func(rows func(ctx context.Context, tx pgx.Tx) error) (reflects, error)
	where conditions
	// source returns what stands behind FROM, when that depends on the request: on the place that the page comes after, nil for
	// the first, and on how many rows are asked for, 0 for all. It runs in the same snapshot, after before. It may be nil.
	source func(ctx context.Context, tx pgx.Tx, where *conditions, s sorted, after []string, limit int) (string, error)
	// before runs before the rows are read, in the same snapshot, and may add conditions. It may be nil.
	before func(ctx context.Context, tx pgx.Tx, where *conditions) error
	// after reads what a page shows beside its items, in the same snapshot. It may be nil.
	after func(ctx context.Context, tx pgx.Tx, items []T) error
	// reply returns the answer of a page; nil answers with the page itself.
	reply func(page[T]) any

	place []string // that the page comes after; nil for the first
}

// page is a part of a list.
type page[T any] struct {
	Items    []T    `json:"items"`
	Next     string `json:"next"` // cursor of the next page; empty on the last
	reflects `json:",inline"`
}

const (
	limitDefault = 100
	limitMax     = 1000
)

// serveList answers a list: a page as JSON, or with Accept: text/csv, application/jsonl or application/x-ndjson all rows as
// a file. It reads the parameters cursor, limit and sort; p has read the others.
//
// Errors: 400 naming the parameter, 503 overloaded when too many exports run, those of q.
func serveList[T any](a *API, w http.ResponseWriter, r *http.Request, l list[T], p *params, q listing[T]) error {
	cursor, limit := p.text("cursor"), p.whole("limit", 1, limitMax, 0)
	sorted, err := l.sorted(p)
	if err == nil {
		err = p.done()
	}
	if err != nil {
		return err
	}
	bound := boundTo(r, p, sorted)
	if cursor != "" {
		after, err := a.openCursor(cursor, bound, len(sorted.keys))
		if err != nil {
			return err
		}
		q.place = after
		q.where.after(sorted, after)
	}
	w.Header().Add("Vary", "Accept")
	if format := formatOf(r.Header.Values("Accept")); format != formatPage {
		return exportList(a, w, r, l, q, sorted, limit, format)
	}
	if limit == 0 {
		limit = limitDefault
	}
	var found page[T]
	found.reflects, err = q.read(func(ctx context.Context, tx pgx.Tx) error {
		rows, err := l.query(ctx, tx, q, sorted, limit+1)
		if err != nil {
			return err
		}
		var places [][]string
		found.Items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (T, error) {
			place := make([]string, len(sorted.keys))
			places = append(places, place)
			return l.scan(row, pointers(place)...)
		})
		if err != nil {
			return err
		}
		if len(found.Items) > limit {
			found.Items, found.Next = found.Items[:limit], a.sealCursor(places[limit-1], bound)
		}
		if q.after != nil {
			return q.after(ctx, tx, found.Items)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if q.reply != nil {
		return serve.Reply(w, http.StatusOK, q.reply(found))
	}
	return serve.Reply(w, http.StatusOK, found)
}

// query asks for at most limit rows; 0 means all.
func (l list[T]) query(ctx context.Context, tx pgx.Tx, q listing[T], s sorted, limit int) (pgx.Rows, error) {
	if q.before != nil {
		if err := q.before(ctx, tx, &q.where); err != nil {
			return nil, err
		}
	}
	if q.source != nil {
		var err error
		if l.tables, err = q.source(ctx, tx, &q.where, s, q.place, limit); err != nil {
			return nil, err
		}
	}
	sql, args := l.sql(q.where, s, limit)
	return tx.Query(ctx, sql, args...)
}

// sorted is an order and its direction.
type sorted struct {
	order
	descending bool
}

func (s sorted) String() string {
	if s.descending {
		return "-" + s.name
	}
	return s.name
}

// sorted reads the parameter sort.
func (l list[T]) sorted(p *params) (sorted, error) {
	var words []string
	for _, o := range l.orders {
		words = append(words, o.name, "-"+o.name)
	}
	word := p.oneOf("sort", words...)
	if p.err != nil {
		return sorted{}, p.err
	}
	if word == "" {
		word = l.sort
	}
	name, descending := strings.CutPrefix(word, "-")
	for _, o := range l.orders {
		if o.name == name {
			return sorted{o, descending}, nil
		}
	}
	panic("no order " + word) // the default is one of the list's
}

// sql returns the statement of at most limit rows; 0 means all. What filters is part of the text only when it does: so each
// text has a plan, and an index, of its own. The keys of the order follow the columns, as text.
func (l list[T]) sql(where conditions, s sorted, limit int) (string, []any) {
	var sql strings.Builder
	sql.WriteString("SELECT " + l.columns)
	for _, k := range s.keys {
		sql.WriteString(", (" + k.sql + ")::text")
	}
	sql.WriteString(" FROM " + l.tables + where.text() + " ORDER BY ")
	for i, k := range s.keys {
		if i > 0 {
			sql.WriteString(", ")
		}
		sql.WriteString(k.sql)
		if s.descending {
			sql.WriteString(" DESC")
		}
	}
	args := where.args
	if limit > 0 {
		args = append(args[:len(args):len(args)], limit)
		sql.WriteString(" LIMIT $" + strconv.Itoa(len(args)))
	}
	return sql.String(), args
}

func pointers(texts []string) []any {
	all := make([]any, len(texts))
	for i := range texts {
		all[i] = &texts[i]
	}
	return all
}

// conditions collects what stands behind WHERE.
type conditions struct {
	parts []string
	args  []any
}

// and adds a condition; each ? in it is the place of the next argument.
func (c *conditions) and(sql string, args ...any) {
	for _, arg := range args {
		c.args = append(c.args, arg)
		sql = strings.Replace(sql, "?", "$"+strconv.Itoa(len(c.args)), 1)
	}
	c.parts = append(c.parts, sql)
}

// arg adds an argument and returns its place, such as $3.
func (c *conditions) arg(value any) string {
	c.args = append(c.args, value)
	return "$" + strconv.Itoa(len(c.args))
}

// after adds that rows come behind a place in an order.
func (c *conditions) after(s sorted, place []string) {
	var keys, places []string
	var args []any
	for i, k := range s.keys {
		keys, places = append(keys, k.sql), append(places, "?::text::"+k.kind)
		args = append(args, place[i])
	}
	comparison := ">"
	if s.descending {
		comparison = "<"
	}
	c.and(fmt.Sprintf("(%s) %s (%s)", strings.Join(keys, ", "), comparison, strings.Join(places, ", ")), args...)
}

func (c *conditions) text() string {
	if len(c.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.parts, " AND ")
}

// boundTo returns what a cursor is good for: the next page of the same list, with the same filters, in the same order.
func boundTo(r *http.Request, p *params, s sorted) string {
	text := []string{r.URL.Path, s.String()}
	for _, name := range p.known {
		switch name {
		case "cursor", "limit", "sort":
		default:
			text = append(text, name+"="+p.values.Get(name))
		}
	}
	return strings.Join(text, "\x00")
}

// sealCursor returns the cursor of what comes behind a place.
func (a *API) sealCursor(place []string, bound string) string {
	text, err := json.Marshal(place)
	if err != nil {
		panic(err) // strings can be encoded
	}
	signature := a.tokens.Sign("cursor", bound+"\x00"+string(text))
	return base64.RawURLEncoding.EncodeToString(append(signature[:], text...))
}

// openCursor is the reverse of sealCursor. Errors: 400 naming cursor.
func (a *API) openCursor(cursor, bound string, keys int) ([]string, error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	var place []string
	if err == nil && len(sealed) > 16 {
		signature := a.tokens.Sign("cursor", bound+"\x00"+string(sealed[16:]))
		if hmac.Equal(signature[:], sealed[:16]) && json.Unmarshal(sealed[16:], &place) == nil && len(place) == keys {
			return place, nil
		}
	}
	return nil, serve.Invalid("cursor", "cursor must be the value of next of the page before, with the same filters and the same sort.")
}
