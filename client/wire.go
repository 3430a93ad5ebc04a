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
}

type leaseRequest struct {
	Lease string `json:"lease"`
}

// leaseAnswer answers an acquire, and the heartbeat or release of one lease.
type leaseAnswer struct {
	Lease struct {
		ID         string    `json:"id"`
		Fence      int64     `json:"fence"`
		License    string    `json:"license"`
		State      string    `json:"state"`
		AcquiredAt time.Time `json:"acquired_at"`
		ExpiresAt  time.Time `json:"expires_at"`
	} `json:"lease"`
	HeartbeatSeconds int `json:"heartbeat_seconds"` // of an acquire; a heartbeat may change it
	LeaseSeconds     int `json:"lease_seconds"`     // not said by every server; a heartbeat may change it
}

// length returns how long the lease runs from each acquire and heartbeat; 0 when the answer does not tell. What it returns
// is never too long.
func (a *leaseAnswer) length(created bool) time.Duration {
	switch {
	case a.LeaseSeconds > 0:
		return time.Duration(a.LeaseSeconds) * time.Second
	case created:
		return a.Lease.ExpiresAt.Sub(a.Lease.AcquiredAt)
	case a.HeartbeatSeconds > 1:
		// Of an older lease the two instants say nothing, it was renewed since. But a heartbeat is a third of it, rounded down.
		return 3 * time.Duration(a.HeartbeatSeconds) * time.Second
	case a.HeartbeatSeconds == 1:
		return time.Second // and of less than a second there is none
	}
	return 0
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
	}
	if p.Seats != nil {
		e.Seats = *p.Seats
	}
	if p.InUse != nil {
		e.InUse = *p.InUse
	}
	return e
}
