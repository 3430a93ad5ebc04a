package eventstore_test

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/coditect-ai/license-ledger/eventstore"
	"github.com/coditect-ai/license-ledger/eventstore/eventstoretest"
)

func TestLogInMemory(t *testing.T) {
	t.Parallel()
	eventstoretest.Run(t, func(*testing.T) eventstore.Log { return eventstoretest.NewLog() })
	eventstoretest.RunErase(t, func(*testing.T) eventstore.Log { return eventstoretest.NewLog() })
}

func TestLogInJetStream(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 4, 16} {
		last := eventstore.Partition(partitions - 1)
		t.Run(fmt.Sprint("journal, partitions: ", partitions), func(t *testing.T) {
			t.Parallel()
			eventstoretest.Run(t, func(t *testing.T) eventstore.Log { return natsStore(t, partitions).Journal(last) })
		})
	}
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		eventstoretest.Run(t, func(t *testing.T) eventstore.Log { return natsStore(t, 1).Directory(0) })
		eventstoretest.RunErase(t, func(t *testing.T) eventstore.Log { return natsStore(t, 1).Directory(0) })
		eventstoretest.RunNoErase(t, func(t *testing.T) eventstore.Log { return natsStore(t, 1).Journal(0) })
	})
}

func TestRegisterInMemory(t *testing.T) {
	t.Parallel()
	eventstoretest.RunRegister(t, func(*testing.T) eventstore.Register { return &eventstoretest.Register{} })
}

func TestRegisterInJetStream(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 4, 16} {
		eventstoretest.RunRegister(t, func(t *testing.T) eventstore.Register {
			return natsStore(t, partitions).Owner(eventstore.Partition(partitions - 1))
		})
	}
}

// natsStore returns an empty ledger in a server of its own.
func natsStore(t *testing.T, partitions int) *eventstore.NATSStore {
	t.Helper()
	store, err := eventstore.CreateNATS(t.Context(), eventstore.Connect(t), partitions, 1)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// In a cluster the same promises hold, for one append at a time.
func TestLogInACluster(t *testing.T) {
	t.Parallel()
	nc := cluster(t)
	var streams atomic.Int32 // tests ask for logs at once
	eventstoretest.Run(t, func(t *testing.T) eventstore.Log {
		return eventstore.NewReplicatedLog(t, nc, int(streams.Add(1)))
	})
}

// cluster returns a connection to three servers on the loopback interface.
func cluster(t *testing.T) *nats.Conn {
	t.Helper()
	// JetStream wants to know all routes at its start, so the ports are chosen before, and may be taken by then.
	for range 5 {
		if servers := startCluster(t); servers != nil {
			nc, err := nats.Connect(servers[0].ClientURL(), eventstore.NATSOptions("test")...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)
			return nc
		}
	}
	t.Fatal("no cluster in five attempts")
	return nil
}

// startCluster returns three servers that found each other, or nil.
func startCluster(t *testing.T) []*server.Server {
	t.Helper()
	var ports []int
	var routes []*url.URL
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		l.Close()
	}
	var servers []*server.Server
	for i, port := range ports {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true,
			Cluster: server.ClusterOpts{Name: "ledger", Host: "127.0.0.1", Port: port}, Routes: routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers = append(servers, s)
	}
	led := func() bool {
		return slices.ContainsFunc(servers, func(s *server.Server) bool { return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 })
	}
	for deadline := time.Now().Add(20 * time.Second); !led(); {
		if time.Now().After(deadline) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return servers
}
