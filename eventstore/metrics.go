package eventstore

import "github.com/prometheus/client_golang/prometheus"

// WriterMetrics are the metrics of all Writers of a process. docs/METRICS.md says what to look at.
type WriterMetrics struct {
	wait, events, bytes, append, seatWait               prometheus.Histogram
	overloaded, conflicts, unknown, takeOvers, replayed prometheus.Counter
	inFlight, seats, behind, waiting, erasures          *prometheus.GaugeVec
	ownerMetrics
}

// NewWriterMetrics registers the metrics.
func NewWriterMetrics(registry prometheus.Registerer) *WriterMetrics {
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"partition"})
	}
	seconds := prometheus.ExponentialBuckets(0.0001, 2, 16)
	m := &WriterMetrics{
		wait:   histogram("ledger_queue_wait_seconds", "Time that a command waits until its commit is begun.", seconds),
		events: histogram("ledger_commit_events", "Events per commit.", prometheus.ExponentialBuckets(1, 2, 12)),
		bytes:  histogram("ledger_commit_bytes", "Size of a commit's body.", prometheus.ExponentialBuckets(256, 2, 11)),
		append: histogram("ledger_append_seconds", "Time from sending a commit until it is stored.", seconds),
		seatWait: histogram("ledger_seat_wait_seconds", "Time that who got a seat from the queue of a license waited for it.",
			prometheus.ExponentialBuckets(0.25, 2, 16)),
		waiting:    gauge("ledger_waiting_requests", "Requests that wait for a seat."),
		overloaded: counter("ledger_overloaded_total", "Commands refused because too many were waiting."),
		conflicts:  counter("ledger_conflicts_total", "Commits refused because another writer appended first."),
		unknown:    counter("ledger_unknown_outcomes_total", "Appends whose outcome had to be found out."),
		takeOvers:  counter("ledger_take_overs_total", "Times a writer took a partition over."),
		replayed:   counter("ledger_replayed_events_total", "Events read from the journal into memory, at a start and while following."),
		inFlight:   gauge("ledger_commits_in_flight", "Commits sent and not yet stored."),
		seats:      gauge("ledger_seats_in_use", "Active leases."),
		erasures:   gauge("ledger_erasures_owed", "Forgotten people whose names are still on the disk, at the owner."),
		behind:     gauge("ledger_replay_behind_commits", "Commits that a start still has to read."),
	}
	m.ownerMetrics = newOwnerMetrics(registry)
	registry.MustRegister(m.wait, m.events, m.bytes, m.append, m.overloaded, m.conflicts, m.unknown, m.takeOvers, m.replayed, m.inFlight, m.seats, m.behind,
		m.waiting, m.seatWait, m.erasures)
	return m
}
