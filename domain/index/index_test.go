package index_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/coditect-ai/license-ledger/domain/index"
)

// An index and a map are told the same, with so few different hashes that cells collide and move.
func TestIndexIsASet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var x index.Index
		hashes := rapid.IntRange(1, 40).Draw(t, "hashes")
		hash := func(entry uint32) uint32 { return entry % uint32(hashes) * 0x10001 }
		in := map[uint32]bool{}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			entry := rapid.Uint32Range(0, 60).Draw(t, "entry")
			if in[entry] {
				x.Remove(hash(entry), entry)
				delete(in, entry)
			} else {
				x.Add(hash(entry), entry)
				in[entry] = true
			}
			for e := range uint32(61) {
				found, ok := x.Find(hash(e), func(entry uint32) bool { return entry == e })
				if ok != in[e] || (ok && found != e) {
					t.Fatalf("entry %d: found %d %v, want %v", e, found, ok, in[e])
				}
			}
			if x.Len() != len(in) {
				t.Fatalf("%d entries, want %d", x.Len(), len(in))
			}
		}
	})
}

func TestFindAsksForEachOfTheHash(t *testing.T) {
	t.Parallel()
	var x index.Index
	x.Add(7, 1)
	x.Add(7, 2)
	x.Add(8, 3)
	asked := map[uint32]bool{}
	if _, ok := x.Find(7, func(entry uint32) bool { asked[entry] = true; return false }); ok || len(asked) != 2 || asked[3] {
		t.Fatalf("found %v, asked for %v", ok, asked)
	}
}

func TestHashTellsTextsApart(t *testing.T) {
	t.Parallel()
	seen := map[uint32]string{}
	for _, texts := range [][]string{{}, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"", "ab"}, {"ab", ""}, {"b", "a"}} {
		h := index.Hash(texts...)
		if other, ok := seen[h]; ok {
			t.Errorf("%q has the hash of %s", texts, other)
		}
		seen[h] = fmt.Sprintf("%q", texts)
	}
}

func BenchmarkFind(b *testing.B) {
	const n = 1 << 20
	var x index.Index
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("lse_%016d", i)
		x.Add(index.Hash(keys[i]), uint32(i))
	}
	for i := 0; b.Loop(); i++ {
		key := keys[i*7919%n]
		if _, ok := x.Find(index.Hash(key), func(entry uint32) bool { return keys[entry] == key }); !ok {
			b.Fatal("not found")
		}
	}
}
