package eventstore

import (
	"context"
	"errors"
	"testing"
)

// cell is a Register with one value.
type cell struct {
	value    []byte
	revision uint64
}

func (c *cell) Read(context.Context) ([]byte, uint64, error) { return c.value, c.revision, nil }

func (c *cell) Write(_ context.Context, value []byte, revision uint64) (uint64, error) {
	if revision != c.revision {
		return 0, ErrConflict
	}
	c.value, c.revision = value, revision+1
	return c.revision, nil
}

// Who took a partition by force did not wait until the trust of the owner before had run out.
func TestAnOwnerThatFindsAnotherTrustsItsRenewalNoMore(t *testing.T) {
	t.Parallel()
	register := &cell{}
	first, err := claim(t.Context(), register, "first", OwnerRecord{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !first.trusted() {
		t.Error("a claim is not trusted")
	}
	if _, err := claim(t.Context(), register, "second", OwnerRecord{}, register.revision); err != nil {
		t.Fatal(err)
	}
	if err := first.renew(t.Context(), Checkpoint{}); !errors.Is(err, errLost) {
		t.Errorf("renewed: %v", err)
	}
	if first.trusted() {
		t.Error("it still trusts that it is the owner")
	}
}
