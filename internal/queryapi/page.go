package queryapi

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/coditect-ai/license-ledger/internal/serve"
)

const (
	limitDefault = 100
	limitMax     = 1000
)

// place is the last item of a page: where the next one begins. Only the field of the list in question is set.
type place struct {
	Tenant  string `json:"tenant,omitzero"`
	License string `json:"license,omitzero"`
	Fence   int64  `json:"fence,omitzero"`
	Version int64  `json:"version,omitzero"`
}

// page is the part of a list that was asked for.
type page struct {
	after place // zero for the first page
	limit int
}

// pageOf reads cursor and limit. ofList says whether a place is one of this list. Errors: 400 naming the parameter.
func pageOf(r *http.Request, ofList func(place) bool) (page, error) {
	query, err := queryOf(r)
	if err != nil {
		return page{}, err
	}
	p := page{limit: limitDefault}
	if query.Has("limit") {
		n, err := strconv.Atoi(query.Get("limit"))
		if err != nil || n < 1 || n > limitMax {
			return page{}, serve.Invalid("limit", "limit must be a whole number from 1 to 1000.")
		}
		p.limit = n
	}
	if cursor := query.Get("cursor"); cursor != "" {
		text, err := base64.RawURLEncoding.DecodeString(cursor)
		if err == nil {
			err = json.Unmarshal(text, &p.after, json.RejectUnknownMembers(true))
		}
		if err != nil || !ofList(p.after) || !storable(p.after.Tenant+p.after.License) {
			return page{}, serve.Invalid("cursor", "cursor must be the value of next of the page before.")
		}
	}
	return p, nil
}

// queryOf returns the query parameters. Errors: 400 when they are not well-formed.
func queryOf(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, serve.Invalid("", "The query parameters are not well-formed.")
	}
	return query, nil
}

// cut returns the items of the page and the cursor of the next one, empty on the last. Items are one more than the limit
// when there is a next page.
func cut[T any](p page, items []T, placeOf func(T) place) ([]T, string) {
	if len(items) <= p.limit {
		return items, ""
	}
	items = items[:p.limit]
	text, err := json.Marshal(placeOf(items[p.limit-1]))
	if err != nil {
		panic(err) // only numbers and ids, which are valid UTF-8
	}
	return items, base64.RawURLEncoding.EncodeToString(text)
}
