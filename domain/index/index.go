// Package index finds the entries of a table by hash. The keys stay in the table: an entry costs 8 bytes here, about 14 with
// the free cells, and no pointer, where a Go map holds every key a second time.
package index

// Index is a set of entry numbers, each filed under the hash of the entry's key. The zero value is empty. It is not safe
// for concurrent use.
type Index struct {
	cells []cell // linear probing; the length is a power of two
	count int
}

// cell is an entry and its hash, so that neither growing nor removing has to ask the table for keys.
type cell struct {
	hash  uint32
	entry uint32 // plus 1; 0 is a free cell
}

const cellsMin = 8

// Find returns the entry filed under hash that is says is the one; false when there is none. It is called for each entry
// with this hash until it says so.
func (x *Index) Find(hash uint32, is func(entry uint32) bool) (uint32, bool) {
	if x.count == 0 {
		return 0, false
	}
	for i := x.home(hash); x.cells[i].entry != 0; i = x.next(i) {
		if c := x.cells[i]; c.hash == hash && is(c.entry-1) {
			return c.entry - 1, true
		}
	}
	return 0, false
}

// Add files an entry, which must not be filed already.
func (x *Index) Add(hash uint32, entry uint32) {
	if 4*(x.count+1) > 3*len(x.cells) {
		x.grow()
	}
	x.put(cell{hash, entry + 1})
	x.count++
}

// Remove takes an entry out; it must be filed under this hash.
func (x *Index) Remove(hash uint32, entry uint32) {
	free := x.home(hash)
	for x.cells[free].entry != entry+1 {
		free = x.next(free)
	}
	x.count--
	// What follows without a gap may stand here only because its own place was taken: such a cell moves up.
	for i := x.next(free); x.cells[i].entry != 0; i = x.next(i) {
		if x.distance(i, x.home(x.cells[i].hash)) >= x.distance(i, free) {
			x.cells[free], free = x.cells[i], i
		}
	}
	x.cells[free] = cell{}
}

// Len returns the number of entries.
func (x *Index) Len() int { return x.count }

func (x *Index) grow() {
	old := x.cells
	x.cells = make([]cell, max(cellsMin, 2*len(old)))
	for _, c := range old {
		if c.entry != 0 {
			x.put(c)
		}
	}
}

func (x *Index) put(c cell) {
	i := x.home(c.hash)
	for x.cells[i].entry != 0 {
		i = x.next(i)
	}
	x.cells[i] = c
}

func (x *Index) home(hash uint32) int { return int(hash) & (len(x.cells) - 1) }
func (x *Index) next(i int) int       { return (i + 1) & (len(x.cells) - 1) }

// distance is how far i is behind from, going round.
func (x *Index) distance(i, from int) int { return (i - from) & (len(x.cells) - 1) }

// Hash returns the hash of texts, each told from the next. It is the same everywhere; do not use it for texts that somebody
// may choose in order to make them collide.
//
// Source: FNV-1a, with the finalizer of MurmurHash3, because linear probing needs good low bits.
func Hash(texts ...string) uint32 {
	h := uint64(14695981039346656037)
	for _, text := range texts {
		for i := range len(text) {
			h = (h ^ uint64(text[i])) * 1099511628211
		}
		h = (h ^ 0x1ff) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	return uint32(h ^ h>>33)
}
