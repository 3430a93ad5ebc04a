package queryapi

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coditect-ai/license-ledger/internal/serve"
)

// params reads the query parameters of a request, each by its name, and remembers the first that is wrong. One that nobody
// asked for is wrong as well: a filter with a typing error must not answer with everything.
type params struct {
	values url.Values
	known  []string
	err    error
}

func paramsOf(r *http.Request) *params {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return &params{err: serve.Invalid("", "The query parameters are not well-formed.")}
	}
	return &params{values: values}
}

func (p *params) invalid(name, detail string) {
	if p.err == nil {
		p.err = serve.Invalid(name, detail)
	}
}

// text returns a parameter as it is; empty when it is not there.
func (p *params) text(name string) string {
	p.known = append(p.known, name)
	all := p.values[name]
	if len(all) > 1 {
		p.invalid(name, fmt.Sprintf("%s is there %d times.", name, len(all)))
	}
	text := p.values.Get(name)
	if !storable(text) {
		p.invalid(name, fmt.Sprintf("%s is no valid text.", name))
	}
	return text
}

// oneOf returns one of some words; empty when it is not there.
func (p *params) oneOf(name string, words ...string) string {
	word := p.text(name)
	if word != "" && !slices.Contains(words, word) {
		last := len(words) - 1
		p.invalid(name, fmt.Sprintf("%s must be %s or %s.", name, strings.Join(words[:last], ", "), words[last]))
	}
	return word
}

// flag returns true or false; nil when it is not there.
func (p *params) flag(name string) *bool {
	if word := p.oneOf(name, "true", "false"); word != "" {
		return new(word == "true")
	}
	return nil
}

// instant returns a time; zero when it is not there.
func (p *params) instant(name string) time.Time {
	text := p.text(name)
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Year() < 1 || at.Year() > 9999 {
		p.invalid(name, fmt.Sprintf("%s must be a time such as 2026-03-01T09:00:00Z.", name))
	}
	return at.UTC()
}

// whole returns a whole number from low to high; otherwise when it is not there.
func (p *params) whole(name string, low, high, otherwise int) int {
	text := p.text(name)
	if !p.values.Has(name) {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		p.invalid(name, fmt.Sprintf("%s must be a whole number from %d to %d.", name, low, high))
	}
	return n
}

// done returns what was wrong first, after all parameters were read. Errors: 400 naming the parameter.
func (p *params) done() error {
	for name := range p.values {
		if !slices.Contains(p.known, name) {
			known := slices.Sorted(slices.Values(p.known))
			p.invalid(name, fmt.Sprintf("There is no parameter %q here; there are %s.", name, strings.Join(known, ", ")))
		}
	}
	return p.err
}

// storable reports whether Postgres can hold the text, and so whether there can be a row with it.
func storable(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }
