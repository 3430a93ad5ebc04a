package queryapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// Options is what an API needs.
type Options struct {
	// DB has the schema that projections.Migrate makes, and the role projections.QueryRole.
	DB     *pgxpool.Pool
	Ledger eventstore.LedgerInfo
	// Journal is asked where partitions end: how old an answer is depends on it.
	Journal  func(eventstore.Partition) eventstore.Log
	Tokens   *eventstore.Tokens
	Operator identity.OperatorKey
	// Keys are those of tenants' people.
	Keys *identity.Keys
	// Seal shows the command side that what staff reads is told by a process of this ledger.
	Seal identity.Seal
	// NATS is where the projector publishes changes, and where the command side is told what staff reads.
	NATS *nats.Conn
	// Ping is the time between pings of a live stream, each of which also checks that the stream missed nothing.
	// 0 means 15 s.
	Ping time.Duration
	// Log; nil means slog.Default.
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// API answers the queries.
type API struct {
	db       *pgxpool.Pool
	ledger   eventstore.LedgerInfo
	tokens   *eventstore.Tokens
	operator identity.OperatorKey
	keys     *identity.Keys
	waiting  waiting // for the rows

	archiving waiting // for the archive
	heads     heads
	exports   exports
	progress  progress
	hub       *hub
	looks     looks
	ping      time.Duration
	stalled   time.Duration // writeTimeout, or more in tests
	log       *slog.Logger
	metrics   metrics
}

type metrics struct {
	behind    prometheus.Counter
	streams   prometheus.Gauge
	snapshots *prometheus.CounterVec
	resumed   *prometheus.CounterVec
}

const pingDefault = 15 * time.Second

// New returns the API of a ledger.
func New(o Options) *API {
	a := &API{
		db: o.DB, ledger: o.Ledger, tokens: o.Tokens, operator: o.Operator, keys: o.Keys, ping: o.Ping, stalled: writeTimeout, log: o.Log,
		hub: newHub(o.NATS, o.Tokens), looks: looks{nc: o.NATS, seal: o.Seal},
		metrics: metrics{
			behind: prometheus.NewCounter(prometheus.CounterOpts{
				Name: "ledger_queries_behind_total", Help: "Queries refused because the read models had not reached Ledger-Min-Position."}),
			streams: prometheus.NewGauge(prometheus.GaugeOpts{
				Name: "ledger_live_streams", Help: "Live streams that are open."}),
			snapshots: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "ledger_live_snapshots_total", Help: "Snapshots sent on live streams, by reason."}, []string{"reason"}),
			resumed: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "ledger_live_resumed_total", Help: "Live streams that clients came back to: they had missed nothing, some changes that were still there, or too much and got a snapshot."}, []string{"missed"}),
		},
	}
	a.waiting.look, a.archiving.look = a.stands, a.archiveEnds
	a.heads.journal = o.Journal
	if o.DB != nil {
		a.exports = make(exports, max(1, o.DB.Config().MaxConns/2))
	}
	if a.ping == 0 {
		a.ping = pingDefault
	}
	if a.log == nil {
		a.log = slog.Default()
	}
	o.Registerer.MustRegister(a.metrics.behind, a.metrics.streams, a.metrics.snapshots, a.metrics.resumed)
	return a
}

// Routes adds the calls to router.
func (a *API) Routes(router *mux.Router) {
	counted := func(b access.Budget) func(path string, p access.Permission, h serve.Handler) {
		return func(path string, p access.Permission, h serve.Handler) {
			router.Handle("/api/v1"+path, access.Guard(p, b, a.callerOf, a.noted(p, h))).Methods(http.MethodGet)
		}
	}
	route, costly := counted(access.Reads), counted(access.Exports)
	route("/tenants", access.TenantRead, a.listTenants)
	route("/tenants/{tenant}", access.TenantRead, a.getTenant)
	route("/tenants/{tenant}/licenses", access.LicenseRead, a.listLicenses)
	route("/tenants/{tenant}/licenses/{license}", access.LicenseRead, a.getLicense)
	route("/tenants/{tenant}/licenses/{license}/history", access.AuditRead, a.listLicenseHistory)
	route("/tenants/{tenant}/licenses/{license}/queue", access.LicenseRead, a.getQueue)
	route("/tenants/{tenant}/seats", access.SeatOwn, a.listSeats)
	route("/tenants/{tenant}/leases/{lease}", access.SeatRead, a.getLease)
	route("/tenants/{tenant}/denials", access.UsageRead, a.listDenials)
	route("/tenants/{tenant}/usage", access.UsageRead, a.listUsage)
	route("/tenants/{tenant}/usage/top", access.UsageRead, a.topUsage)
	costly("/tenants/{tenant}/usage/heatmap", access.UsageRead, a.usageHeatmap)
	costly("/tenants/{tenant}/usage/forecast", access.UsageRead, a.forecastUsage)
	costly("/tenants/{tenant}/state", access.StateRead, a.getState)
	costly("/tenants/{tenant}/diff", access.StateRead, a.getDiff)
	costly("/tenants/{tenant}/denials/{denial}/why", access.StateRead, a.explainDenial)
	route("/tenants/{tenant}/timeline", access.TimelineRead, a.listTimeline)
	route("/tenants/{tenant}/members", access.MemberRead, a.listMembers)
	route("/tenants/{tenant}/keys", access.KeyRead, a.listKeys)
	costly("/tenants/{tenant}/export", access.ExportRead, a.exportTenant)
	counted(access.Streams)("/tenants/{tenant}/live", access.TimelineRead, a.streamLive)
	route("/audit", access.AuditRead, a.listAudit)
	route("/ledger/partitions", access.LedgerRead, a.listPartitions)
	route("/ledger/projections", access.LedgerRead, a.listProjections)
}

// tenantOf returns the tenant of the path. Errors: 404 when no tenant can have this id.
func tenantOf(r *http.Request) (domain.TenantID, error) {
	id := mux.Vars(r)["tenant"]
	if !domain.ValidTenantID(id) {
		return "", noTenant(domain.TenantID(id))
	}
	return domain.TenantID(id), nil
}

func noTenant(id domain.TenantID) error {
	return serve.NewProblem(http.StatusNotFound, string(domain.TenantNotFound), "No such tenant", fmt.Sprintf("There is no tenant %q.", id))
}

func noLicense(tenant domain.TenantID, id string) error {
	return serve.NewProblem(http.StatusNotFound, string(domain.LicenseNotFound), "No such license",
		fmt.Sprintf("The tenant %q has no license %q.", tenant, id))
}
