package client

import (
	"encoding/json"
	"time"
)

// What is said on the wire. Answers may hold more than is listed here: what is not known is not read.

type acquireRequest struct {
	User    string `json:"user"`
	Machine string `json:"machine"`
	Process string `json:"process,omitempty"`
	// Features may be none.
	Features    []string  `json:"features,omitempty"`
	BorrowUntil time.Time `json:"borrow_until,omitzero"`
	WaitSeconds int       `json:"wait_seconds,omitzero"`
}

type leaseRequest struct {
	Lease string `json:"lease"`
}

// leaseAnswer answers an acquire, and the heartbeat or release of one lease.
type leaseAnswer struct {
	Lease struct {
		ID        string    `json:"id"`
		Fence     int64     `json:"fence"`
		License   string    `json:"license"`
		State     string    `json:"state"`
		ExpiresAt time.Time `json:"expires_at"` // by the ledger's clock: only for what is borrowed
	} `json:"lease"`
	HeartbeatSeconds int      `json:"heartbeat_seconds"`
	ExpiresInSeconds float64  `json:"expires_in_seconds"` // from the decision on
	Features         []string `json:"features"`           // of an acquire
}

// length returns how long the lease runs from the decision on; 0 when the answer does not say.
func (a *leaseAnswer) length() time.Duration {
	return time.Duration(a.ExpiresInSeconds * float64(time.Second)).Truncate(time.Millisecond)
}

// problem is an RFC 9457 answer.
type problem struct {
	Title             string `json:"title"`
	Code              string `json:"code"`
	Detail            string `json:"detail"`
	Field             string `json:"field"`
	RequestID         string `json:"request_id"`
	Seats             *int   `json:"seats"`
	InUse             *int   `json:"in_use"`
	Waiting           int    `json:"waiting"`
	Position          int    `json:"position"`
	EstimateSeconds   int    `json:"estimate_seconds"`
	RetryAfterSeconds int    `json:"retry_after_seconds"`
}

// refusal returns the error that a problem is; nil when the body is none of ours.
func refusal(status int, retryAfter time.Duration, body []byte) *Error {
	var p problem
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		return nil
	}
	e := &Error{
		Code: Code(p.Code), Status: status, Title: p.Title, Detail: p.Detail, Field: p.Field, RequestID: p.RequestID,
		RetryAfter: max(retryAfter, time.Duration(p.RetryAfterSeconds)*time.Second),
		Waiting:    p.Waiting, Position: p.Position, Estimate: time.Duration(p.EstimateSeconds) * time.Second,
	}
	if p.Seats != nil {
		e.Seats = *p.Seats
	}
	if p.InUse != nil {
		e.InUse = *p.InUse
	}
	return e
}
