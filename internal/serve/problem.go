package serve

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Problem is an answer that refuses, as RFC 9457 problem details. It is an error, so that a handler can return it.
type Problem struct {
	Type              string `json:"type"`
	Title             string `json:"title"`
	Status            int    `json:"status"`
	Code              string `json:"code"` // stable; clients switch on it
	Detail            string `json:"detail,omitzero"`
	Field             string `json:"field,omitzero"` // the part of the request that is wrong
	RequestID         string `json:"request_id,omitzero"`
	Seats             *int   `json:"seats,omitzero"`
	InUse             *int   `json:"in_use,omitzero"`
	Waiting           *int   `json:"waiting,omitzero"`
	Position          int    `json:"position,omitzero"`
	EstimateSeconds   int    `json:"estimate_seconds,omitzero"`
	RetryAfterSeconds int    `json:"retry_after_seconds,omitzero"` // also sent as Retry-After
	LagEvents         uint64 `json:"lag_events,omitzero"`
}

// NewProblem returns a problem. The title is what the code says in words; detail is one sentence on this occurrence.
func NewProblem(status int, code, title, detail string) *Problem {
	return &Problem{Type: "/api/openapi.yaml#" + code, Title: title, Status: status, Code: code, Detail: detail}
}

// Error returns the code and the detail.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// Invalid returns a 400 that names the field of the request that is wrong.
func Invalid(field, detail string) *Problem {
	p := NewProblem(http.StatusBadRequest, "invalid_request", "The request is not valid", detail)
	p.Field = field
	return p
}

// Unauthorized returns a 401.
func Unauthorized(detail string) *Problem {
	return NewProblem(http.StatusUnauthorized, "unauthorized", "A valid key is required", detail)
}

// Bearer returns the bearer key of a request. Errors: *Problem 401.
func Bearer(r *http.Request) (string, error) {
	scheme, bearer, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || bearer == "" {
		return "", Unauthorized("Send the key as Authorization: Bearer <key>.")
	}
	return strings.TrimSpace(bearer), nil
}

// problemOf returns what the client reads of an error: itself when it is a problem, else no more than "internal".
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return NewProblem(http.StatusInternalServerError, "internal", "Something went wrong here",
		"The request failed on our side. Retry with the same Idempotency-Key; if it goes on, report the request_id.")
}

// hungUp reports whether err says that the client has gone: nobody reads an answer, and nothing is wrong here.
func hungUp(r *http.Request, err error) bool {
	return errors.Is(err, context.Canceled) && r.Context().Err() != nil
}

// writeProblem replies with the problem for err.
func writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	p := *problemOf(err)
	p.RequestID = RequestID(r.Context())
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if p.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfterSeconds))
	}
	// A detail may quote what the client sent, and that may be anything.
	body, err := json.Marshal(&p, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic(err) // strings and numbers can be encoded
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	w.Write(body)
}
