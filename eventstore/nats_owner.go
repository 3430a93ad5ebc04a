package eventstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// ownerBucket holds the records of who owns which partition, a key each: hints and witnesses, no truth.
const ownerBucket = "LEDGER_OWNERS"

func ownerKey(p Partition) string { return fmt.Sprintf("%02d", p) }

// openOwners opens the owners' bucket, and creates it for a ledger that has none yet.
func (s *NATSStore) openOwners(ctx context.Context) error {
	js := s.journals[0].js
	bucket, err := js.KeyValue(ctx, ownerBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		bucket, err = createBucket(ctx, js, jetstream.KeyValueConfig{
			Bucket: ownerBucket, Description: "Who owns which partition.", Replicas: s.journals[0].stream.CachedInfo().Config.Replicas,
		})
	}
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", ownerBucket, err)
	}
	s.owners = bucket
	return nil
}

// Owner implements Store, for a store that CreateNATS returned.
func (s *NATSStore) Owner(p Partition) Register { return natsRegister{s.owners, ownerKey(p)} }

// natsRegister is one key of a bucket.
type natsRegister struct {
	bucket jetstream.KeyValue
	key    string
}

// Read implements Register.
func (r natsRegister) Read(ctx context.Context) ([]byte, uint64, error) {
	entry, err := r.bucket.Get(ctx, r.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s of %s: %w", r.key, ownerBucket, err)
	}
	return entry.Value(), entry.Revision(), nil
}

// Write implements Register.
func (r natsRegister) Write(ctx context.Context, value []byte, revision uint64) (uint64, error) {
	next, err := r.bucket.Update(ctx, r.key, value, revision)
	if err != nil {
		return 0, appendError(ownerBucket+"/"+r.key, err)
	}
	return next, nil
}
