package projections

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/eventstore"
)

// metrics is what the Runner tells about itself. The lag is worked out when it is asked for, so that it grows while
// nothing moves.
type metrics struct {
	batchEvents  prometheus.Histogram
	applySeconds prometheus.Histogram
	commits      *prometheus.CounterVec
	halted       prometheus.Counter
	unpublished  prometheus.Counter

	parked *prometheus.GaugeVec

	lagCommits, lagSeconds *prometheus.Desc

	mu       sync.Mutex
	progress []progress // by partition
}

// progress is how far a partition is.
type progress struct {
	head   uint64            // the last commit of the journal that was heard of
	at     map[string]uint64 // the last commit in the rows, by projection
	oldest time.Time         // of the first commit that is being applied; zero when none is
}

func newMetrics(registerer prometheus.Registerer, projections []Projection, partitions int) *metrics {
	m := &metrics{
		batchEvents: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ledger_projection_batch_events", Help: "Events per transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 7),
		}),
		applySeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ledger_projection_apply_seconds", Help: "Time to apply a batch, from its last commit being there to the rows being visible.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ledger_projection_commits_total", Help: "Commits applied, by partition.",
		}, []string{"partition"}),
		halted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledger_projection_halted_total", Help: "Partitions stopped by a commit that can not be applied, or by a broken chain.",
		}),
		parked: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ledger_projection_parked", Help: "1 while the projection is parked: it stands still, its rows are old.",
		}, []string{"projection", "partition"}),
		unpublished: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ledger_projection_unpublished_total", Help: "Live changes that could not be published; readers find the gap and reload.",
		}),
		lagCommits: prometheus.NewDesc("ledger_projection_lag_commits",
			"Commits in the journal that are not in the rows yet.", []string{"projection", "partition"}, nil),
		lagSeconds: prometheus.NewDesc("ledger_projection_lag_seconds",
			"Age of the oldest commit that was received and is not in the rows yet; 0 when there is none.", []string{"partition"}, nil),
		progress: make([]progress, partitions),
	}
	for p := range m.progress {
		m.progress[p].at = make(map[string]uint64, len(projections))
		for _, projection := range projections {
			m.progress[p].at[projection.Name()] = 0
		}
	}
	if registerer != nil {
		registerer.MustRegister(m.batchEvents, m.applySeconds, m.commits, m.halted, m.parked, m.unpublished, m)
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.lagCommits
	ch <- m.lagSeconds
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, progress := range m.progress {
		label := strconv.Itoa(p)
		for name, at := range progress.at {
			lag := max(progress.head, at) - at
			ch <- prometheus.MustNewConstMetric(m.lagCommits, prometheus.GaugeValue, float64(lag), name, label)
		}
		var age float64
		if !progress.oldest.IsZero() {
			age = max(0, time.Since(progress.oldest).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(m.lagSeconds, prometheus.GaugeValue, age, label)
	}
}

// standing notes the checkpoints of a partition.
func (m *metrics) standing(p eventstore.Partition, at map[string]checkpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progress[p].oldest = time.Time{}
	for name, c := range at {
		m.progress[p].at[name] = c.Seq
	}
}

// reached returns the last commit that all projections of a partition have.
func (m *metrics) reached(p eventstore.Partition) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	least := uint64(forever)
	for _, at := range m.progress[p].at {
		least = min(least, at)
	}
	return least
}

// setParked notes which projections are parked.
func (m *metrics) setParked(p eventstore.Partition, at map[string]checkpoint) {
	for name, c := range at {
		parked := 0.0
		if c.parked {
			parked = 1
		}
		m.parked.WithLabelValues(name, strconv.Itoa(int(p))).Set(parked)
	}
}

// received notes that the journal has a commit.
func (m *metrics) received(p eventstore.Partition, seq uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progress[p].head = max(m.progress[p].head, seq)
}

// began notes the time of the first commit of a batch.
func (m *metrics) began(p eventstore.Partition, oldest time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progress[p].oldest = oldest
}

// applied notes a batch that is in the rows.
func (m *metrics) applied(p eventstore.Partition, g *group, b *Batch, took time.Duration) {
	events := 0
	for _, c := range b.Commits {
		events += c.events
	}
	m.batchEvents.Observe(float64(events))
	m.applySeconds.Observe(took.Seconds())
	m.commits.WithLabelValues(strconv.Itoa(int(p))).Add(float64(len(b.Commits)))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progress[p].oldest = time.Time{}
	for _, name := range g.names() {
		m.progress[p].at[name] = b.Last().At.Seq
	}
}
