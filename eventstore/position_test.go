package eventstore_test

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/eventstore"
)

const tokenAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func anyPosition() *rapid.Generator[eventstore.Position] {
	return rapid.Custom(func(t *rapid.T) eventstore.Position {
		return eventstore.Position{Partition: eventstore.Partition(rapid.Uint16().Draw(t, "partition")), Seq: rapid.Uint64().Draw(t, "seq")}
	})
}

func TestTokensComeBackAsPositions(t *testing.T) {
	t.Parallel()
	tokens, sameSecret := eventstore.NewTokens([]byte("secret")), eventstore.NewTokens([]byte("secret"))
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(anyPosition(), 1, 5).Draw(t, "positions")
		token := tokens.Token(want...)
		if got, err := sameSecret.Parse(token); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s is %v, %v; want %v", token, got, err, want)
		}
		if len(token) != 23*len(want)-1 || strings.Trim(token, tokenAlphabet+".") != "" {
			t.Fatalf("token %q is not 22 characters for each position", token)
		}
	})
}

func TestTokensOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	tokens, others := eventstore.NewTokens([]byte("secret")), eventstore.NewTokens([]byte("another"))
	rapid.Check(t, func(t *rapid.T) {
		positions := rapid.SliceOfN(anyPosition(), 1, 3).Draw(t, "positions")
		if got, err := tokens.Parse(others.Token(positions...)); !errors.Is(err, eventstore.ErrBadToken) {
			t.Fatalf("token of another ledger is %v, %v", got, err)
		}
	})
}

func TestForgedTokensAreRefused(t *testing.T) {
	t.Parallel()
	tokens, random := eventstore.NewTokens([]byte("secret")), rand.New(rand.NewPCG(1, 2))
	var forged [16]byte
	for range 200_000 {
		binary.LittleEndian.PutUint64(forged[:8], random.Uint64())
		binary.LittleEndian.PutUint64(forged[8:], random.Uint64())
		text := base64.RawURLEncoding.EncodeToString(forged[:])
		if got, err := tokens.Parse(text); !errors.Is(err, eventstore.ErrBadToken) {
			t.Fatalf("forged token %s is %v, %v", text, got, err)
		}
	}
}

func TestMangledTokensAreRefused(t *testing.T) {
	t.Parallel()
	tokens := eventstore.NewTokens([]byte("secret"))
	rapid.Check(t, func(t *rapid.T) {
		token := []byte(tokens.Token(rapid.SliceOfN(anyPosition(), 1, 3).Draw(t, "positions")...))
		// The last character of each part says little; TestTokenHasOneText is about it.
		at := rapid.IntRange(0, len(token)-1).Filter(func(i int) bool { return i%23 < 21 }).Draw(t, "at")
		was := token[at]
		token[at] = rapid.SampledFrom([]byte(tokenAlphabet)).Filter(func(c byte) bool { return c != was }).Draw(t, "character")
		if got, err := tokens.Parse(string(token)); !errors.Is(err, eventstore.ErrBadToken) {
			t.Fatalf("mangled token %s is %v, %v", token, got, err)
		}
	})
	good := tokens.Token(eventstore.Position{Partition: 1, Seq: 7})
	for _, text := range []string{
		"", ".", good + ".", "." + good, good + ".." + good, good[:21], good + "A", good + "=", good + "==", " " + good,
		strings.Repeat("A", 22), "1", "1:7", "7", strings.Replace(good, good[:1], "+", 1), strings.Repeat("ü", 11),
	} {
		if got, err := tokens.Parse(text); !errors.Is(err, eventstore.ErrBadToken) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}

// One position has one token: a token that was changed in any way is not of this ledger.
func TestTokenHasOneText(t *testing.T) {
	t.Parallel()
	tokens := eventstore.NewTokens([]byte("secret"))
	good := tokens.Token(eventstore.Position{Partition: 1, Seq: 7})
	changed := []string{good + "\n", "\r\n" + good, good[:9] + "\n" + good[9:]}
	for _, last := range tokenAlphabet {
		if other := good[:21] + string(last); other != good {
			changed = append(changed, other)
		}
	}
	for _, text := range changed {
		if got, err := tokens.Parse(text); !errors.Is(err, eventstore.ErrBadToken) {
			t.Errorf("%q is %v, %v; its token is %q", text, got, err, good)
		}
	}
}

// A token tells nothing of the position: neighbors look like strangers.
func TestTokensShowNoOrder(t *testing.T) {
	t.Parallel()
	tokens := eventstore.NewTokens([]byte("secret"))
	const n, length = 2000, 22
	same, before := 0, 0
	for seq := range uint64(n) {
		a, b := tokens.Token(eventstore.Position{Seq: seq}), tokens.Token(eventstore.Position{Seq: seq + 1})
		alike := 0
		for i := range a {
			if a[i] == b[i] {
				alike++
			}
		}
		if alike > length/2 {
			t.Errorf("tokens of %d and %d are alike in %d of %d characters: %s %s", seq, seq+1, alike, length, a, b)
		}
		same += alike
		if a < b {
			before++
		}
	}
	// By chance 21/64 + 1/4 characters are alike, and every other token stands before the next.
	if mean := float64(same) / n; mean > 1 {
		t.Errorf("neighbors are alike in %.2f characters on average", mean)
	}
	if before < n*4/10 || before > n*6/10 {
		t.Errorf("%d of %d tokens stand before the next", before, n)
	}
}

func TestSignaturesAreForOnePurposeOfOneLedger(t *testing.T) {
	t.Parallel()
	tokens, same, others := eventstore.NewTokens([]byte("secret")), eventstore.NewTokens([]byte("secret")), eventstore.NewTokens([]byte("another"))
	if tokens.Sign("cursor", "a") != same.Sign("cursor", "a") {
		t.Error("two services of a ledger sign differently")
	}
	for what, other := range map[string][16]byte{
		"text": tokens.Sign("cursor", "b"), "purpose": tokens.Sign("link", "a"), "ledger": others.Sign("cursor", "a"), "end of the purpose": tokens.Sign("curso", "ra"),
	} {
		if tokens.Sign("cursor", "a") == other {
			t.Errorf("another %s has the same signature", what)
		}
	}
}
