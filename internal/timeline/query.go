package timeline

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coditect-ai/license-ledger/domain"
)

// Key is what a term is about.
type Key string

// The keys.
const (
	Type    Key = "type"
	Actor   Key = "actor"
	License Key = "license"
	Lease   Key = "lease"
	User    Key = "user"
	Machine Key = "machine"
	Feature Key = "feature"
	Before  Key = "before"
	After   Key = "after"
	Tenant  Key = "tenant" // of the audit only
)

// Keys are the keys of a tenant's timeline; AuditKeys those of the audit of all tenants.
var (
	Keys      = []Key{Type, Actor, License, Lease, User, Machine, Feature, Before, After}
	AuditKeys = append(slices.Clone(Keys), Tenant)
)

// Term is one condition: key:value, or -key:value.
type Term struct {
	Not bool
	Key Key
	// Value of a type is a whole type (ai.coditect.seat.denied.v1), or with Family the begin of one (ai.coditect.seat.);
	// of an actor, with Family, the begin of one.
	Value  string
	Family bool
	Time   time.Time // of before and after; UTC
	At     int       // where it stands: the number of its first character, from 1
}

// Error says what is wrong with a query, and where.
type Error struct {
	At     int // the number of a character, from 1
	Detail string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("at character %d: %s", e.At, e.Detail) }

// The largest query.
const (
	TextMax  = 1000 // in characters
	TermsMax = 20
)

// Parse reads a query with some keys; empty has no terms. Errors: *Error.
func Parse(text string, keys []Key) ([]Term, error) {
	if utf8.RuneCountInString(text) > TextMax {
		return nil, &Error{TextMax + 1, fmt.Sprintf("a query has at most %d characters.", TextMax)}
	}
	s := scanner{text: []rune(text)}
	var terms []Term
	for s.skipSpace(); !s.end(); s.skipSpace() {
		t, err := s.term(keys)
		if err != nil {
			return nil, err
		}
		if t.Key == Before || t.Key == After {
			if slices.ContainsFunc(terms, func(other Term) bool { return other.Key == t.Key }) {
				return nil, &Error{t.At, fmt.Sprintf("%s: is there twice.", t.Key)}
			}
		}
		if terms = append(terms, t); len(terms) > TermsMax {
			return nil, &Error{t.At, fmt.Sprintf("a query has at most %d terms.", TermsMax)}
		}
	}
	return terms, nil
}

type scanner struct {
	text []rune
	at   int
}

func (s *scanner) end() bool { return s.at == len(s.text) }

func (s *scanner) skipSpace() {
	for !s.end() && isSpace(s.text[s.at]) {
		s.at++
	}
}

func isSpace(r rune) bool { return r == ' ' || r == '\t' || r == '\n' || r == '\r' }

// until returns the text up to the first character that stop says yes to, or up to the end.
func (s *scanner) until(stop func(rune) bool) string {
	from := s.at
	for !s.end() && !stop(s.text[s.at]) {
		s.at++
	}
	return string(s.text[from:s.at])
}

func (s *scanner) term(keys []Key) (Term, error) {
	t := Term{At: s.at + 1}
	if s.text[s.at] == '-' {
		t.Not = true
		s.at++
	}
	key := s.until(func(r rune) bool { return r == ':' || isSpace(r) || r == '"' })
	if s.end() || s.text[s.at] != ':' {
		return t, &Error{t.At, fmt.Sprintf("a word alone has no meaning here; write what it is, as in user:ada. There are %s.", names(keys))}
	}
	t.Key = Key(key)
	if !slices.Contains(keys, t.Key) {
		return t, &Error{t.At, fmt.Sprintf("there is no %q; there are %s.", key+":", names(keys))}
	}
	s.at++
	value, err := s.value()
	if err != nil {
		return t, err
	}
	return t, t.set(value)
}

func names(keys []Key) string {
	all := make([]string, len(keys))
	for i, k := range keys {
		all[i] = string(k) + ":"
	}
	return strings.Join(all, ", ")
}

// value returns what stands behind the colon: a word, or "text in quotes" in which \ takes the next character as it is.
func (s *scanner) value() (string, error) {
	from := s.at
	if s.end() || isSpace(s.text[s.at]) {
		return "", &Error{from + 1, "a value is missing behind the colon, without a space."}
	}
	if s.text[s.at] != '"' {
		return s.until(isSpace), nil
	}
	var value strings.Builder
	for s.at++; !s.end(); s.at++ {
		switch r := s.text[s.at]; {
		case r == '"':
			if s.at++; !s.end() && !isSpace(s.text[s.at]) {
				return "", &Error{s.at + 1, "a space is missing behind the quote."}
			}
			if value.Len() == 0 {
				return "", &Error{from + 1, "there is nothing between the quotes."}
			}
			return value.String(), nil
		case r == '\\' && s.at+1 < len(s.text):
			s.at++
			value.WriteRune(s.text[s.at])
		default:
			value.WriteRune(r)
		}
	}
	return "", &Error{from + 1, "the quote is not closed."}
}

var typeForm = regexp.MustCompile(`^([a-z]+)\.(\*|[a-z_]+)$`)

// typePrefix and typeVersion stand around the short name of an event's type.
const (
	typePrefix  = "ai.coditect."
	typeVersion = ".v1"
)

func (t *Term) set(value string) error {
	t.Value = value
	switch t.Key {
	case Type:
		short := strings.TrimSuffix(strings.TrimPrefix(value, typePrefix), typeVersion)
		parts := typeForm.FindStringSubmatch(short)
		if parts == nil {
			return &Error{t.At, fmt.Sprintf("%q is no type; write for example type:seat.denied, or type:seat.* for all about seats.", value)}
		}
		if t.Family = parts[2] == "*"; t.Family {
			t.Value = typePrefix + parts[1] + "."
		} else if t.Value = typePrefix + short + typeVersion; domain.NewEvent(t.Value) == nil {
			return &Error{t.At, fmt.Sprintf("there is no type %q; type:%s.* finds all about it.", value, parts[1])}
		}
	case Actor:
		t.Value, t.Family = strings.CutSuffix(value, "*")
	case Before, After:
		if t.Not {
			return &Error{t.At, fmt.Sprintf("%s: has no minus; before: and after: are each other's opposite.", t.Key)}
		}
		at, err := time.Parse(time.RFC3339, value)
		if err != nil {
			at, err = time.Parse(time.DateOnly, value)
		}
		if err != nil || at.Year() < 1 || at.Year() > 9999 {
			return &Error{t.At, fmt.Sprintf("%q is no time; write 2026-03-01 or 2026-03-01T09:00:00Z.", value)}
		}
		t.Time = at.UTC()
	}
	return nil
}

// Link returns the path of a tenant's timeline with the events that terms find. Terms are pairs of key and value; one whose
// value is empty is left out.
func Link(tenant domain.TenantID, terms ...string) string {
	var q []string
	for i := 0; i+1 < len(terms); i += 2 {
		if terms[i+1] != "" {
			q = append(q, terms[i]+":"+quote(terms[i+1]))
		}
	}
	link := "/api/v1/tenants/" + string(tenant) + "/timeline"
	if len(q) > 0 {
		link += "?q=" + url.QueryEscape(strings.Join(q, " "))
	}
	return link
}

// quote returns a value as it stands in a query.
func quote(value string) string {
	if value != "" && !strings.ContainsFunc(value, isSpace) && value[0] != '"' {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}
