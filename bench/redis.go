package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/coditect-ai/license-ledger/api"
	"github.com/coditect-ai/license-ledger/domain"
	"github.com/coditect-ai/license-ledger/internal/access"
	"github.com/coditect-ai/license-ledger/internal/identity"
	"github.com/coditect-ai/license-ledger/internal/process"
	"github.com/coditect-ai/license-ledger/internal/serve"
)

// redisServer is a real Redis with its data in a folder.
type redisServer struct {
	socket, addr string
	cmd          *exec.Cmd
}

// errNoRedis: there is no redis-server on this machine.
var errNoRedis = errors.New("redis-server is not installed (Debian's package: redis-server)")

// startRedis starts a Redis that appends every write to a file, synced as appendfsync says: everysec or always.
func startRedis(ctx context.Context, dir, appendfsync string) (*redisServer, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoRedis
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	// A socket's path may have 107 bytes, so it is named from within its folder.
	r := &redisServer{socket: filepath.Join(dir, "redis.sock"), addr: addr.String()}
	r.cmd = exec.CommandContext(ctx, binary, "--bind", "127.0.0.1", "--port", strconv.Itoa(addr.Port), "--unixsocket", "redis.sock", "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", appendfsync, "--loglevel", "warning")
	r.cmd.Dir, r.cmd.Stderr = dir, os.Stderr
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(r.socket); err == nil {
			return r, nil
		}
		if time.Now().After(deadline) {
			r.stop()
			return nil, errors.New("redis-server did not start")
		}
	}
}

// freeAddr returns an address of this machine at which nobody listens.
func freeAddr() (*net.TCPAddr, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return listener.Addr().(*net.TCPAddr), listener.Close()
}

func (r *redisServer) stop() {
	r.cmd.Process.Signal(os.Interrupt)
	r.cmd.Wait()
}

// seatCounter is how seats are counted in Redis: per license a sorted set of leases by their end, who holds which, and a
// stream with an event for each change. Each call is one script, so it is atomic.
type seatCounter struct {
	do     redisClient
	keys   *identity.Keys
	stored map[domain.KeyID]domain.LicenseKey // in memory, as they would be cached
	seats  int
}

// The clients of Redis by which the peer is measured.
const (
	// clientUsual is what most services have: the most used client with its defaults, over TCP.
	clientUsual = "usual"
	// clientTuned is the fastest that takes no more than settings: a lean client with a connection for every request at once, over a
	// unix socket.
	clientTuned = "tuned"
	// clientPipelining sends what many callers want in one go.
	clientPipelining = "pipelining"
)

// redisClient runs a script and returns what it returns: int64, string, or a list of these.
type redisClient func(ctx context.Context, s script, keys, args []string) (any, error)

// connectRedis returns a client of that kind, and what closes it.
func connectRedis(kind, socket, addr string) (redisClient, func(), error) {
	if kind == clientUsual {
		client := goredis.NewClient(&goredis.Options{Addr: addr})
		return func(ctx context.Context, s script, keys, args []string) (any, error) {
			values := make([]any, len(args))
			for i, arg := range args {
				values[i] = arg
			}
			return s.goredis.Run(ctx, client, keys, values...).Result()
		}, func() { client.Close() }, nil
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{"redis"}, DisableCache: true, ForceSingleClient: true,
		// Without pipelining each call has a connection of a pool to itself.
		DisableAutoPipelining: kind != clientPipelining, BlockingPoolSize: 256,
		DialCtxFn: func(ctx context.Context, _ string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("connect to Redis: %w", err)
	}
	return func(ctx context.Context, s script, keys, args []string) (any, error) {
		return s.rueidis.Exec(ctx, client, keys, args).ToAny()
	}, client.Close, nil
}

// script is a Lua script as each client wants it.
type script struct {
	goredis *goredis.Script
	rueidis *rueidis.Lua
}

func newScript(text string) script {
	return script{goredis.NewScript(text), rueidis.NewLuaScript(text)}
}

// The scripts. KEYS: leases by end, lease by holder, holder by lease, events. The time comes with the call, in
// milliseconds.
var (
	acquireScript = newScript(`
		local now, ends = tonumber(ARGV[1]), tonumber(ARGV[2])
		for _, lease in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
			local holder = redis.call('HGET', KEYS[3], lease)
			redis.call('ZREM', KEYS[1], lease); redis.call('HDEL', KEYS[2], holder); redis.call('HDEL', KEYS[3], lease)
			redis.call('XADD', KEYS[4], '*', 'type', 'expired', 'lease', lease)
		end
		local held = redis.call('HGET', KEYS[2], ARGV[4])
		if held then return {held, redis.call('ZSCORE', KEYS[1], held), 0} end
		if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
			redis.call('XADD', KEYS[4], '*', 'type', 'denied', 'holder', ARGV[4])
			return {'', '0', 0}
		end
		redis.call('ZADD', KEYS[1], ends, ARGV[5])
		redis.call('HSET', KEYS[2], ARGV[4], ARGV[5]); redis.call('HSET', KEYS[3], ARGV[5], ARGV[4])
		redis.call('XADD', KEYS[4], '*', 'type', 'acquired', 'lease', ARGV[5], 'holder', ARGV[4], 'ends', ends)
		return {ARGV[5], ARGV[2], 1}`)
	heartbeatScript = newScript(`
		local ends = redis.call('ZSCORE', KEYS[1], ARGV[3])
		if not ends or tonumber(ends) <= tonumber(ARGV[1]) then return 0 end
		redis.call('ZADD', KEYS[1], 'XX', ARGV[2], ARGV[3])
		redis.call('XADD', KEYS[4], '*', 'type', 'heartbeat', 'lease', ARGV[3], 'ends', ARGV[2])
		return 1`)
	releaseScript = newScript(`
		local holder = redis.call('HGET', KEYS[3], ARGV[1])
		if not holder then return 0 end
		redis.call('ZREM', KEYS[1], ARGV[1]); redis.call('HDEL', KEYS[2], holder); redis.call('HDEL', KEYS[3], ARGV[1])
		redis.call('XADD', KEYS[4], '*', 'type', 'released', 'lease', ARGV[1])
		return 1`)
)

// serveRedis is the peer: router, middleware, authentication, strict decoding and answers are the ledger's, the seats are
// counted in Redis.
func serveRedis(ctx context.Context, dir string, fills serverConfig) error {
	frame := process.NewFrame(slog.LevelWarn, os.Stderr)
	secret, err := identity.LoadSecret(filepath.Join(dir, "ledger.secret"))
	if err != nil {
		return err
	}
	do, disconnect, err := connectRedis(fills.Client, fills.Redis, fills.RedisAddr)
	if err != nil {
		return err
	}
	defer disconnect()
	c := &seatCounter{do: do, keys: identity.NewLicenseKeys(secret), stored: map[domain.KeyID]domain.LicenseKey{}, seats: fills.Seats}
	for tenant := range fills.Tenants {
		for i := range fills.Licenses {
			id := domain.KeyID(keyID(tenant, i))
			c.stored[id] = c.keys.Stored(domain.TenantID(tenantID(tenant)), id)
		}
	}
	frame.Limit(noLimits, secret, identity.OperatorKey{})
	for path, h := range map[string]serve.Handler{acquirePath: c.acquire, heartbeatPath: c.heartbeat, releasePath: c.release} {
		frame.Router.Handle(path, access.Guarded{Permission: access.LicenseKey, Budget: access.Seats, Handler: h}).Methods(http.MethodPost)
	}
	listener, err := frame.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("%s\n0s\n", listener.Addr())
	return frame.Serve(ctx)
}

const leaseLength = time.Hour

// open checks the license key as the ledger does, and returns the license's keys in Redis and the body.
func (c *seatCounter) open(r *http.Request) (names []string, license string, body []byte, err error) {
	bearer, err := serve.Bearer(r)
	if err != nil {
		return nil, "", nil, err
	}
	key, err := c.keys.Parse(bearer)
	if err != nil || !key.Opens(c.stored[key.ID]) {
		return nil, "", nil, serve.Unauthorized("This license key is not known here.")
	}
	body, err = serve.ReadBody(r)
	license = string(key.Tenant) + ":" + string(key.ID)
	return []string{"leases:" + license, "held:" + license, "holders:" + license, "events:" + license}, license, body, err
}

func (c *seatCounter) acquire(w http.ResponseWriter, r *http.Request) error {
	names, license, body, err := c.open(r)
	if err != nil {
		return err
	}
	var req api.AcquireRequest
	if err := serve.Decode(body, &req, "user", "machine"); err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	ends := now.Add(leaseLength)
	lease := fmt.Sprintf("lse_%016x", rand.Uint64())
	answer, err := c.do(r.Context(), acquireScript, names, []string{
		strconv.FormatInt(now.UnixMilli(), 10), strconv.FormatInt(ends.UnixMilli(), 10), strconv.Itoa(c.seats), req.User + "@" + req.Machine, lease,
	})
	if err != nil {
		return err
	}
	values, _ := answer.([]any)
	if len(values) != 3 {
		return fmt.Errorf("the script answered %v", answer)
	}
	granted, _ := values[0].(string)
	if granted == "" {
		return serve.NewProblem(http.StatusConflict, "no_seat_available", "No seat is free", "All seats are in use.")
	}
	status := http.StatusOK
	if values[2] == int64(1) {
		status = http.StatusCreated
	}
	return serve.Reply(w, status, api.AcquireResponse{
		Lease:            api.Lease{Id: granted, License: license, User: req.User, Machine: req.Machine, State: api.LeaseStateActive, AcquiredAt: now, ExpiresAt: ends},
		HeartbeatSeconds: int(leaseLength.Seconds()) / 3,
	})
}

func (c *seatCounter) heartbeat(w http.ResponseWriter, r *http.Request) error {
	now := time.Now().UTC().Truncate(time.Millisecond)
	ends := now.Add(leaseLength)
	return c.lease(w, r, heartbeatScript, api.LeaseStateActive, ends, strconv.FormatInt(now.UnixMilli(), 10), strconv.FormatInt(ends.UnixMilli(), 10))
}

func (c *seatCounter) release(w http.ResponseWriter, r *http.Request) error {
	return c.lease(w, r, releaseScript, api.LeaseStateReleased, time.Now().UTC())
}

func (c *seatCounter) lease(w http.ResponseWriter, r *http.Request, script script, state api.LeaseState, ends time.Time, args ...string) error {
	names, license, body, err := c.open(r)
	if err != nil {
		return err
	}
	var req api.LeasesRequest
	if err := serve.Decode(body, &req); err != nil {
		return err
	}
	if req.Lease == nil || !strings.HasPrefix(*req.Lease, "lse_") {
		return serve.Invalid("lease", "The field is missing.")
	}
	done, err := c.do(r.Context(), script, names, append(args, *req.Lease))
	if err != nil {
		return err
	}
	if done == int64(0) {
		return serve.NewProblem(http.StatusGone, "lease_expired", "The lease is over", "Acquire a new seat.")
	}
	return serve.Reply(w, http.StatusOK, api.LeasesResponse{Lease: &api.Lease{
		Id: *req.Lease, License: license, State: state, AcquiredAt: ends, ExpiresAt: ends,
	}})
}
